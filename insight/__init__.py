# SPDX-License-Identifier: Apache-2.0
"""Questions asked of stored hops. Imports `store` and `bpf` only (ARCHITECTURE.md)."""
