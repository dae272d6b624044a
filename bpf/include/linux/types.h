/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The kernel's short names on top of the system's <linux/types.h>. */
#include_next <linux/types.h>

#ifndef OVERHOP_LINUX_TYPES_H
#define OVERHOP_LINUX_TYPES_H

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef __SIZE_TYPE__ size_t;
typedef __UINTPTR_TYPE__ uintptr_t;

#ifndef bool
#define bool _Bool
#define true 1
#define false 0
#endif

#endif
