# SPDX-License-Identifier: Apache-2.0
"""InfluxDB 2 and 1, and what speaks their line protocol: the one place that imports influxdb_client."""
