/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/* BCC includes this first and refuses to compile without it. */
#define CONFIG_BPF_SYSCALL 1
