// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Smallest classifier with the names of the real one: each program counts packets and lets them pass.
#include <linux/pkt_cls.h>

#ifndef VERDICT
#define VERDICT TC_ACT_UNSPEC
#endif

BPF_TABLE("array", u32, u64, oh_counters, 4);
BPF_F_TABLE("hash", u32, u32, oh_owners, 64, BPF_F_NO_PREALLOC);
BPF_RINGBUF_OUTPUT(oh_ring, 1);

static inline int count(u32 point)
{
	u64 *counter = oh_counters.lookup(&point);

	if (counter)
		__sync_fetch_and_add(counter, 1);
	return VERDICT;
}

int oh_nic_in(struct __sk_buff *skb)
{
	return count(0);
}

int oh_vport_in(struct __sk_buff *skb)
{
	return count(1);
}

int oh_nic_out(struct __sk_buff *skb)
{
	return count(2);
}

int oh_vport_out(struct __sk_buff *skb)
{
	return count(3);
}
