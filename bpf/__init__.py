# SPDX-License-Identifier: Apache-2.0
"""The kernel program, its parameters and the layout of what it writes (docs/datapath.md)."""
