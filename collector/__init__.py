# SPDX-License-Identifier: Apache-2.0
"""What nodes and clusters say of themselves. Imports nothing of ours."""
