# SPDX-License-Identifier: Apache-2.0
"""Rows on their way into the store, the writer beside it, and what happened to this node (docs/store.md)."""
