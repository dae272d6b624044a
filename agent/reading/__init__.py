# SPDX-License-Identifier: Apache-2.0
"""What the kernel hands over: ring, counters, waiting slots."""
