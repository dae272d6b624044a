# SPDX-License-Identifier: Apache-2.0
"""Hops at rest: schema, histogram, embedded store. Imports nothing of ours (ARCHITECTURE.md)."""
