# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with a store. Imports nothing: the command line knows it before anything is read."""


class StoreError(Exception):
    """A store cannot be used; the message says which, why and what to do."""
