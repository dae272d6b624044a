# SPDX-License-Identifier: Apache-2.0
"""One module a command: its options, and the function that does it."""
