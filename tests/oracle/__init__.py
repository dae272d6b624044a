# SPDX-License-Identifier: Apache-2.0
"""Second implementation of docs/datapath.md, written from that page, the RFCs and the W3C and B3 texts.

It is never written from bpf/hop.bpf.c: the fuzz (tests/kernel/test_fuzz.py) compares the two.
"""
