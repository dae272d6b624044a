# SPDX-License-Identifier: Apache-2.0
"""Composition root of overhop: command line, configuration, logging, lab and doctor."""

__version__ = "0.1.0"
