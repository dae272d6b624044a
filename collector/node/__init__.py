# SPDX-License-Identifier: Apache-2.0
"""What one node knows of itself: kernel abilities, interfaces."""
