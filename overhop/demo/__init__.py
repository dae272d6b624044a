# SPDX-License-Identifier: Apache-2.0
"""The demo: real requests over a lab of two nodes, traced by two real agents, every hop accounted for.

`run` does it: a `scene` (`bookinfo`, `overlay`) is built, `agents` trace it into a store, `stored` reads that
back, `serving` keeps it up. Pure: `found` says which requests have all their hops, `sights` where their
context was, `outcome` is what is known at the end, `report` judges it and makes JSON, `accounting` and `view`
show it.
"""
