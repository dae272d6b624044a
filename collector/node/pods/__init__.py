# SPDX-License-Identifier: Apache-2.0
"""The pods of this node: who they are, and behind which interface."""
