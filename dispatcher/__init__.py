# SPDX-License-Identifier: Apache-2.0
"""From what a cluster is and what people want traced to one plan per node."""
