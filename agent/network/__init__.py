# SPDX-License-Identifier: Apache-2.0
"""The interfaces and addresses of this network namespace, and what they say of NIC and vports."""
