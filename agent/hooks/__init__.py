# SPDX-License-Identifier: Apache-2.0
"""Where programs belong, how they get there and how they go; only what is ours is touched."""
