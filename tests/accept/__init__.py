# SPDX-License-Identifier: Apache-2.0
"""What the issues ask to be shown, as code that measures it; short forms run as tests."""
