# SPDX-License-Identifier: Apache-2.0
"""The demo: real requests over a lab of two nodes, traced by two real agents, every hop accounted for.

`run` does it, `agents` are the processes on the nodes. Pure: `found` says which requests have all their
hops, `outcome` is what is known at the end, `report` judges it and makes JSON, `view` shows it to people.
"""
