# SPDX-License-Identifier: Apache-2.0
"""How others ask a running agent: the record socket and the watch socket."""
