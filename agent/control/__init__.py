# SPDX-License-Identifier: Apache-2.0
"""An agent of a cluster: plan from a controller, its own pods from the node, names of others by asking."""
