/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where BCC looks for the system's header. */
#include_next <linux/if_packet.h>
