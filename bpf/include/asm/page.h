/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/* Unit of BPF_RINGBUF_OUTPUT's size. */
#define PAGE_SIZE 4096
