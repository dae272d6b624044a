# SPDX-License-Identifier: Apache-2.0
"""What is made of records: series summed up, samples, totals. Numpy only, no Python per record."""
