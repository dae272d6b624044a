# SPDX-License-Identifier: Apache-2.0
"""What Prometheus gets to see (docs/metrics.md)."""
