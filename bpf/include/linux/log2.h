/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Asked for by BCC, nothing of it is used. */
