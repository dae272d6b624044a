# SPDX-License-Identifier: Apache-2.0
"""Rows on their way to a server: segments of the embedded store's format, sent in order (docs/spool.md)."""
