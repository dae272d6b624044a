# SPDX-License-Identifier: Apache-2.0
"""What runs on every node: it loads, attaches and reads the kernel programs and keeps their numbers."""
