# SPDX-License-Identifier: Apache-2.0
"""The plan of a node: the message, its YAML, how it is followed when it changes (docs/plan.md)."""
