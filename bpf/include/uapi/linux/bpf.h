/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* BCC has included its own copy already; the system's, if anything asks for it, would define all of it again. */
#define __LINUX_BPF_H__
