# SPDX-License-Identifier: Apache-2.0
"""What the Kubernetes API says of the cluster, listed once and watched from then on."""
