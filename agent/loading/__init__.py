# SPDX-License-Identifier: Apache-2.0
"""From the C file to programs in the kernel: compiled in a child, or out of the cache (docs/loading.md)."""
