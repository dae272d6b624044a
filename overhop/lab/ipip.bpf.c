/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * IPIP (RFC 2003) for kernels without it, as the lab needs it: a veth called tunl0 and these two programs.
 *
 * lab_encap, egress of tunl0: puts an outer IPv4 header before the packet and sends it through the NIC. The
 * nodes' addresses are in the Ethernet header, which tunl0 does not need otherwise: each MAC address on it is
 * 02:00 and the four bytes of a node's address (overhop/lab/ipip.py).
 * lab_decap, ingress of the NIC: takes the outer header off. Anything else passes untouched.
 *
 * A super-packet stays one: its segments' size is kept (pods' MTU leaves room for the outer header), and the
 * flag for the outer header lets the kernel segment it where a device cannot.
 */
#include <uapi/linux/bpf.h>
#include <linux/types.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>

#ifndef NIC_IFINDEX
#error "NIC_IFINDEX: interface index of the NIC"
#endif

#define PASS (-1)	/* TC_ACT_UNSPEC */
#define DROP 2		/* TC_ACT_SHOT */
#define MAC_PREFIX 2	/* bytes before the node's address in a MAC address */
#define TTL 64
#define DONT_FRAGMENT 0x4000

/* BCC 0.26 declares it without plen. */
static long (*redirect_neigh)(__u32 ifindex, void *params, int plen, __u64 flags) = (void *)BPF_FUNC_redirect_neigh;

static __always_inline __u16 checksum(const struct iphdr *header)
{
	const __u16 *words = (const __u16 *)header;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < (int)(sizeof(*header) / sizeof(*words)); i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

int lab_encap(struct __sk_buff *skb)
{
	struct ethhdr link;
	struct iphdr outer = {
		.version = 4,
		.ihl = sizeof(outer) / 4,
		.frag_off = __builtin_bswap16(DONT_FRAGMENT),
		.ttl = TTL,
		.protocol = IPPROTO_IPIP,
	};

	if (skb->protocol != __builtin_bswap16(ETH_P_IP) || bpf_skb_load_bytes(skb, 0, &link, sizeof(link)))
		return DROP;
	if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4))
		return DROP;
	__builtin_memcpy(&outer.saddr, link.h_source + MAC_PREFIX, sizeof(outer.saddr));
	__builtin_memcpy(&outer.daddr, link.h_dest + MAC_PREFIX, sizeof(outer.daddr));
	outer.tot_len = __builtin_bswap16(skb->len - ETH_HLEN);
	outer.check = checksum(&outer);
	if (bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0))
		return DROP;
	return redirect_neigh(NIC_IFINDEX, 0, 0, 0);
}

int lab_decap(struct __sk_buff *skb)
{
	struct iphdr outer;

	if (skb->protocol != __builtin_bswap16(ETH_P_IP))
		return PASS;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &outer, sizeof(outer)))
		return PASS;
	if (outer.protocol != IPPROTO_IPIP || outer.ihl != sizeof(outer) / 4)
		return PASS;
	if (bpf_skb_adjust_room(skb, -(int)sizeof(outer), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return DROP;
	return PASS;
}
