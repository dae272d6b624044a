# SPDX-License-Identifier: Apache-2.0
"""overhop in a Kubernetes cluster: what is installed there, how it is, how it goes."""
