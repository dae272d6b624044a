# SPDX-License-Identifier: Apache-2.0
"""Whose are the ends of a hop: by interface and address, now and ten minutes ago (docs/plan.md, "Names")."""
