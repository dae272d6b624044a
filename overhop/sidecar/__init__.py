# SPDX-License-Identifier: Apache-2.0
"""Trace context at the head of the header: what a proxy is told, and whether it does it (docs/sidecar.md)."""
