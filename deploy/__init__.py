# SPDX-License-Identifier: Apache-2.0
"""What is deployed: manifests, the image, rules for Prometheus."""
