# SPDX-License-Identifier: Apache-2.0
"""Contexts moved to the front of the header by the proxy, and whether they are there."""
