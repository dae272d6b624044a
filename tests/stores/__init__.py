# SPDX-License-Identifier: Apache-2.0
"""Tests against real servers of tests.servers; no root needed."""
