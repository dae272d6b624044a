// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Stamps HTTP request starts at a node's tracing points and pairs the stamps into hops.
 *
 * docs/datapath.md says what it does, to the bit; bpf/record.py and bpf/counters.py are the Python
 * side of its layouts. It never writes to a packet and returns TC_ACT_UNSPEC on every path.
 *
 * Numbers are u64 wherever the verifier follows them: BCC 0.26 compiles for BPF v1, where u32
 * arithmetic inserts shifts behind a bounds check and the bound is lost.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

/* ---- constants ---------------------------------------------------------------------------- */

#ifndef WINDOW
#define WINDOW 4096 /* bytes of payload that are searched, 64 to 8192 */
#endif
#ifndef SETS
#define SETS 4096 /* slot sets of two ways; a power of two */
#endif
#ifndef RING_PAGES
#define RING_PAGES 512 /* 2 MiB: 15,420 records, 150 ms of 100 k hops/s; full: counter ring_full */
#endif
#ifndef VXLAN_PORT_A
#define VXLAN_PORT_A 4789
#endif
#ifndef VXLAN_PORT_B
#define VXLAN_PORT_B 8472
#endif
#ifndef GENEVE_PORT
#define GENEVE_PORT 6081
#endif
#ifndef ENCAPS
#define ENCAPS 15
#endif
#ifndef CONTEXTS
#define CONTEXTS 7
#endif
#ifndef FILTER
#define FILTER 0
#endif

#define ENCAPS_VXLAN 1
#define ENCAPS_IPIP 2
#define ENCAPS_GENEVE 4
#define ENCAPS_GRE 8
#define CONTEXTS_W3C 1
#define CONTEXTS_B3 2
#define CONTEXTS_MULTI 4

enum point { NIC_IN, VPORT_IN, NIC_OUT, VPORT_OUT };
enum kind { KIND_RX = 1, KIND_TX, KIND_LOCAL, KIND_FORWARD };
enum encap { ENCAP_NONE, ENCAP_VXLAN, ENCAP_IPIP, ENCAP_GENEVE, ENCAP_GRE };
enum context_kind { CONTEXT_NONE, CONTEXT_W3C, CONTEXT_B3, CONTEXT_MULTI };

#define QUALITY_RETRANSMIT 1
#define QUALITY_WINDOW_EXCEEDED 2
#define QUALITY_BAD_CONTEXT 4
#define QUALITY_DNAT 8
#define QUALITY_SNAT 16

#define WAY_EMPTY 0ULL
#define WAY_LOCKED 1ULL
#define WAY_TAKEN (1ULL << 63)
#define EXPIRY_NS 2000000000ULL

#define META_RETRANSMIT 1
#define META_SKIP 2
#define META_REQUIRE_SAMPLED 4
#define META_IPV6 8
#define META_WAIT 16
#define META_POINT_SHIFT 5
#define META_ENCAP_SHIFT 8
#define META_SAMPLE_SHIFT 12

#define DIRECTION_IN 1
#define DIRECTION_OUT 2

#define GOLDEN64 0x9E3779B97F4A7C15ULL
#define GOLDEN32 0x9E3779B1ULL
#define MIX64 0xC2B2AE3D27D4EB4FULL

#define REPEAT(byte) (0x0101010101010101ULL * (byte))
#define HIGH_BITS REPEAT(0x80)

/* Keeps clang from knowing where a value came from. */
#define OPAQUE(variable) asm volatile("" : "+r"(variable))
/* What is read from memory behind this is unknown, to clang and to the verifier. */
#define FORGET_MEMORY() asm volatile("" ::: "memory")

static long (*load_bytes)(void *skb, __u64 offset, void *to, __u64 bytes) =
	(void *)BPF_FUNC_skb_load_bytes;

/* ---- maps --------------------------------------------------------------------------------- */

struct way {
	__u64 key; /* WAY_EMPTY, WAY_LOCKED, word, word | WAY_TAKEN */
	__u64 time_vni; /* ns << 24 | vni */
	__u32 dst; /* IPv4, network order */
	__u32 ifindex;
	__u16 sport;
	__u16 dport;
	__u16 src_hash;
	__u16 meta;
};

struct slot_set {
	struct way way[2]; /* one cache line */
};

struct cold_way {
	__u32 dst[4];
	__u32 first_wait_ns;
	__u32 pad;
};

struct cold_set {
	struct cold_way way[2];
};

struct counters {
	__u64 first;
	__u64 taken;
	__u64 refreshed;
	__u64 slot_busy;
	__u64 overwritten;
	__u64 expired;
	__u64 second;
	__u64 not_for_this_vport;
	__u64 unmatched_local;
	__u64 unmatched_taken;
	__u64 unmatched;
	__u64 slot_busy_second;
	__u64 records;
	__u64 ring_full;
	__u64 sampled_out;
	__u64 filtered;
	__u64 fragment;
	__u64 ext_headers;
	__u64 malformed;
	__u64 looks_tls;
	__u64 looks_h2;
	__u64 scratch_busy;
};

struct record {
	__u64 second_ns;
	__u64 trace_id[2];
	__u64 span_id;
	__u32 src[4];
	__u32 dst[4];
	__u32 dst_before_nat[4];
	__u32 latency_ns;
	__u32 seq;
	__u32 ack;
	__u32 vni;
	__u32 first_ifindex;
	__u32 second_ifindex;
	__u32 payload_len;
	__u32 first_wait_ns;
	__u16 sport;
	__u16 dport;
	__u16 sport_before_nat;
	__u16 dport_before_nat;
	__u16 context_offset;
	__u16 segments;
	__u8 kind_message;
	__u8 encap_context;
	__u8 trace_flags;
	__u8 quality;
};

/* The names that are looked for; the order of scratch.at and scratch.end. */
enum field { FIELD_NONE, FIELD_W3C, FIELD_B3, FIELD_TRACEID, FIELD_SPANID, FIELD_SAMPLED, FIELD_FLAGS, FIELDS = 8 };

/* What the search found; ids are valid if `kind` is not CONTEXT_NONE. */
struct context {
	__u64 trace_id[2]; /* bytes in the order of the text */
	__u64 span_id;
	__u64 kind;
	__u64 offset;
	__u64 flags;
	__u64 quality;
};

/* The least of the form 2^n - 1 that is not below WINDOW - 1. */
enum {
	MASK_2 = (WINDOW - 1) | (WINDOW - 1) >> 1,
	MASK_4 = MASK_2 | MASK_2 >> 2,
	MASK_8 = MASK_4 | MASK_4 >> 4,
	OFFSET_MASK = MASK_8 | MASK_8 >> 8,
};

#define BLOCK 64 /* bytes that are trimmed in one step: a bit each */

struct scratch {
	__u64 busy; /* PREEMPT_RT: another task's search on this CPU */
	__u64 payload; /* offset and bytes of what is searched: through memory, so that */
	__u64 n; /* the paths of the parser do not multiply in the verifier */
	__u64 open; /* the field whose line is being read */
	__u64 empty_line; /* its CR */
	__u64 tried; /* the traceparent that was looked at during the walk */
	__u64 is_found; /* the walk ended at a valid traceparent */
	__u64 blanks; /* 1: a value has blanks other than one in front */
	__u64 trim; /* the field whose value is being trimmed, the highest first; 0: done */
	__u64 at[FIELDS]; /* first byte of the field's name, 0: absent */
	__u64 from[FIELDS]; /* first byte of its value */
	__u64 end[FIELDS]; /* the byte behind its value, 0: its CR is not inside */
	struct context found;
	struct record record; /* the hop but for its context, so that little else lives during the search */
	__u64 bits; /* the filter's, of this hop */
	__u8 before[BLOCK]; /* never blank */
	__u8 buf[OFFSET_MASK + 1 + 192]; /* behind n: LF CR LF CR LF, then bytes of earlier packets */
};

struct owner {
	__u32 ifindex;
	__u32 address[4];
};

struct vport_filter {
	__u8 directions;
	__u8 sample_shift;
	__u8 require_sampled;
	__u8 pad;
};

struct vport_seen {
	__u64 tls;
	__u64 h2;
};

struct params {
	__u64 tai_offset_ns;
};

/* A stamp waits some 30 us for its pair: 8,192 ways hold 250 M requests/s. Full: the oldest goes, counter overwritten. */
BPF_F_TABLE("array", __u32, struct slot_set, oh_slots, SETS, BPF_F_MMAPABLE);
/* Touched for IPv6 and for packets with a receive stamp only. */
BPF_TABLE("array", __u32, struct cold_set, oh_cold, SETS);
BPF_TABLE("percpu_array", __u32, struct scratch, oh_scratch, 1);
BPF_TABLE("percpu_array", __u32, struct counters, oh_counters, 1);
BPF_RINGBUF_OUTPUT(oh_ring, RING_PAGES);
/* 8,192 addresses of vports; full: user space says so, that vport has no owner check. */
BPF_F_TABLE("hash", struct owner, __u32, oh_owners, 8192, BPF_F_NO_PREALLOC);
/* 4,096 vports; full: user space says so. */
BPF_F_TABLE("hash", __u32, struct vport_filter, oh_filter, 4096, BPF_F_NO_PREALLOC);
BPF_F_TABLE("percpu_hash", __u32, struct vport_seen, oh_seen, 4096, BPF_F_NO_PREALLOC);
BPF_TABLE("array", __u32, struct params, oh_params, 1);

static __always_inline struct counters *counters(void)
{
	__u32 zero = 0;

	return oh_counters.lookup(&zero);
}

/* ---- packet ------------------------------------------------------------------------------- */

enum parse_result { PARSED, LEAVE, MALFORMED, FRAGMENT, EXT_HEADERS, NOT_LINEAR };

struct packet {
	__u64 zero; /* which the verifier does not know */
	/* valid once ip() returned PARSED */
	__u64 ip; /* offset of the IP header */
	__u64 l4; /* offset behind the IP header */
	__u64 end; /* offset behind the IP packet */
	__u64 protocol;
	__u64 is_ipv6;
	__u32 src4; /* network order */
	__u32 dst4;
	/* valid once parse() returned PARSED */
	__u64 encap;
	__u64 vni;
	__u64 payload; /* offset */
	__u64 payload_len;
	__u64 key; /* seq << 32 | ack */
	__u16 sport;
	__u16 dport;
	/* valid behind addresses(), IPv4 if it was to map them */
	__u32 src[4];
	__u32 dst[4];
	__u16 src_hash;
	/* the header that is being read, where it is not linear */
	__u64 copy[5];
};

/*
 * The number itself, but to the verifier anything from 0 to `mask` (all ones, at most 20 bits):
 * constants that differ by path (offsets, kinds) would make it walk the rest of the program once for
 * each of them. What is added is zero, see parse_by().
 */
static __always_inline __u64 forget(const struct packet *p, __u64 number, __u64 mask)
{
	number += p->zero;
	OPAQUE(number);
	number &= mask;
	OPAQUE(number);
	return number;
}

/* No header begins behind this: two IP headers with four extension headers each, and a tunnel. */
#define OFFSETS 0x7fff

/* OPAQUE, or clang may compute the field's address for two loads: "dereference of modified ctx ptr" (6.18). */
static __always_inline const __u8 *data_of(struct __sk_buff *skb)
{
	OPAQUE(skb);
	return (const __u8 *)(long)skb->data;
}

static __always_inline const __u8 *data_end_of(struct __sk_buff *skb)
{
	OPAQUE(skb);
	return (const __u8 *)(long)skb->data_end;
}

/*
 * `bytes` bytes of header at `offset`, which the caller knows to lie inside the packet: in the
 * packet itself, or copied to `p->copy` where the header is not linear; valid until the next call.
 */
static __always_inline const void *header(struct __sk_buff *skb, struct packet *p, __u64 offset,
					  __u64 bytes, int direct)
{
	if (direct) {
		const __u8 *data = data_of(skb);

		if (data + offset + bytes > data_end_of(skb))
			return 0;
		return data + offset;
	}
	void *copy = p->copy;

	if (load_bytes(skb, offset, copy, bytes))
		copy = 0;
	/* Or clang tests the result of the load once more instead; 6.1 does not remember it: "invalid mem access 'scalar'". */
	OPAQUE(copy);
	return copy;
}

struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

static __always_inline int ethernet(struct __sk_buff *skb, struct packet *p, __u64 limit,
				    __u64 *ethertype, int direct)
{
	const struct ethhdr *eth;
	const struct vlan_tag *tag;
	int tags;

	if (p->ip + sizeof(*eth) > limit)
		return LEAVE;
	eth = header(skb, p, p->ip, sizeof(*eth), direct);
	if (!eth)
		return NOT_LINEAR;
	*ethertype = eth->h_proto;
	p->ip += sizeof(*eth);
#pragma unroll
	for (tags = 0; tags < 2; tags++) {
		if (*ethertype != bpf_htons(ETH_P_8021Q) && *ethertype != bpf_htons(ETH_P_8021AD))
			break;
		if (p->ip + sizeof(*tag) > limit)
			return LEAVE;
		tag = header(skb, p, p->ip, sizeof(*tag), direct);
		if (!tag)
			return NOT_LINEAR;
		*ethertype = tag->ethertype;
		p->ip += sizeof(*tag);
	}
	p->ip = forget(p, p->ip, OFFSETS);
	return PARSED;
}

static __always_inline int ipv4(struct __sk_buff *skb, struct packet *p, __u64 limit, int direct)
{
	const struct iphdr *ip;
	__u64 total, header_bytes;

	if (p->ip + sizeof(*ip) > limit)
		return MALFORMED;
	ip = header(skb, p, p->ip, sizeof(*ip), direct);
	if (!ip)
		return NOT_LINEAR;
	header_bytes = (*(const __u8 *)ip & 15) * 4;
	if ((*(const __u8 *)ip >> 4) != 4 || header_bytes < sizeof(*ip) || p->ip + header_bytes > limit)
		return MALFORMED;
	total = bpf_ntohs(ip->tot_len);
	if (!total && skb->gso_size)
		total = limit - p->ip;
	if (total < header_bytes)
		return MALFORMED;
	p->end = p->ip + total;
	if (p->end > limit)
		p->end = limit;
	if (ip->frag_off & bpf_htons(0x3fff))
		return FRAGMENT;
	p->l4 = p->ip + header_bytes;
	p->protocol = ip->protocol;
	p->src4 = ip->saddr;
	p->dst4 = ip->daddr;
	p->is_ipv6 = 0;
	return PARSED;
}

static __always_inline int ipv6(struct __sk_buff *skb, struct packet *p, __u64 limit, int direct)
{
	const struct ipv6hdr *ip;
	__u64 payload_len, next, offset;
	const __u8 *option;
	int i;

	if (p->ip + sizeof(*ip) > limit)
		return MALFORMED;
	ip = header(skb, p, p->ip, sizeof(*ip), direct);
	if (!ip)
		return NOT_LINEAR;
	if ((*(const __u8 *)ip >> 4) != 6)
		return MALFORMED;
	payload_len = bpf_ntohs(ip->payload_len);
	next = ip->nexthdr;
	offset = p->ip + sizeof(*ip);
	if (!payload_len && skb->gso_size)
		payload_len = limit - offset;
	p->end = offset + payload_len;
	if (p->end > limit)
		p->end = limit;
#pragma unroll
	for (i = 0; i < 5; i++) {
		if (next == IPPROTO_FRAGMENT)
			return FRAGMENT;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_AH)
			break;
		if (i == 4)
			return EXT_HEADERS;
		if (offset + 8 > p->end)
			return MALFORMED;
		option = header(skb, p, offset, 8, direct);
		if (!option)
			return NOT_LINEAR;
		offset += next == IPPROTO_AH ? (option[1] + 2) * 4 : (option[1] + 1) * 8;
		offset = forget(p, offset, OFFSETS);
		next = option[0];
	}
	p->l4 = offset;
	p->protocol = next;
	p->is_ipv6 = 1;
	return PARSED;
}

static __always_inline int ip(struct __sk_buff *skb, struct packet *p, __u64 ethertype, __u64 limit,
			      int direct)
{
	int result = LEAVE;

	if (ethertype == bpf_htons(ETH_P_IP))
		result = ipv4(skb, p, limit, direct);
	else if (ethertype == bpf_htons(ETH_P_IPV6))
		result = ipv6(skb, p, limit, direct);
	if (result != PARSED)
		return result;
	p->l4 = forget(p, p->l4, OFFSETS);
	p->is_ipv6 = forget(p, p->is_ipv6, 1);
	return PARSED;
}

struct tunnel_header {
	__u8 flags;
	__u8 reserved;
	__be16 protocol; /* Geneve; unused in VXLAN */
	__be32 vni_reserved;
};

/* What is inside a tunnel: an Ethernet frame (TEB) or an IP packet. */
#define ETHERTYPE_TEB bpf_htons(0x6558)

static __always_inline int udp_tunnel(struct __sk_buff *skb, struct packet *p, __u64 *ethertype,
				      int direct)
{
	const struct udphdr *udp;
	const struct tunnel_header *tunnel;
	__u64 port, is_vxlan, is_geneve;

	if (p->l4 + sizeof(*udp) > p->end)
		return MALFORMED;
	udp = header(skb, p, p->l4, sizeof(*udp), direct);
	if (!udp)
		return NOT_LINEAR;
	port = udp->dest;
	is_vxlan = (ENCAPS & ENCAPS_VXLAN) &&
		   (port == bpf_htons(VXLAN_PORT_A) || port == bpf_htons(VXLAN_PORT_B));
	is_geneve = (ENCAPS & ENCAPS_GENEVE) && !is_vxlan && port == bpf_htons(GENEVE_PORT);
	if (!is_vxlan && !is_geneve)
		return LEAVE;
	p->l4 += sizeof(*udp);
	if (p->l4 + sizeof(*tunnel) > p->end)
		return MALFORMED;
	tunnel = header(skb, p, p->l4, sizeof(*tunnel), direct);
	if (!tunnel)
		return NOT_LINEAR;
	p->vni = bpf_ntohl(tunnel->vni_reserved) >> 8;
	p->l4 += sizeof(*tunnel);
	if (is_vxlan) {
		p->encap = ENCAP_VXLAN;
		*ethertype = ETHERTYPE_TEB;
		return tunnel->flags & 8 ? PARSED : LEAVE;
	}
	p->encap = ENCAP_GENEVE;
	*ethertype = tunnel->protocol;
	p->l4 += (tunnel->flags & 63) * 4;
	return tunnel->flags >> 6 ? LEAVE : PARSED;
}

static __always_inline int gre(struct __sk_buff *skb, struct packet *p, __u64 *ethertype, int direct)
{
	const struct vlan_tag *base; /* the same shape: 16 bits of flags, then the EtherType */
	__u64 flags;

	if (p->l4 + sizeof(*base) > p->end)
		return MALFORMED;
	base = header(skb, p, p->l4, sizeof(*base), direct);
	if (!base)
		return NOT_LINEAR;
	flags = bpf_ntohs(base->tci);
	if (flags & 0x4007) /* routing, or a version other than 0 */
		return LEAVE;
	p->encap = ENCAP_GRE;
	*ethertype = base->ethertype;
	p->l4 += 4 + ((flags >> 15) & 1) * 4 + ((flags >> 13) & 1) * 4 + ((flags >> 12) & 1) * 4;
	return PARSED;
}

/* Leaves p->ip at the inner IP header and `ethertype` saying which IP it is. */
static __always_inline int decapsulate(struct __sk_buff *skb, struct packet *p, __u64 *ethertype,
				       int direct)
{
	int result = LEAVE;

	if ((ENCAPS & ENCAPS_IPIP) && (p->protocol == IPPROTO_IPIP || p->protocol == IPPROTO_IPV6)) {
		*ethertype = p->protocol == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
		p->encap = ENCAP_IPIP;
		p->ip = p->l4;
		return PARSED;
	}
	if ((ENCAPS & (ENCAPS_VXLAN | ENCAPS_GENEVE)) && p->protocol == IPPROTO_UDP)
		result = udp_tunnel(skb, p, ethertype, direct);
	else if ((ENCAPS & ENCAPS_GRE) && p->protocol == IPPROTO_GRE)
		result = gre(skb, p, ethertype, direct);
	if (result != PARSED)
		return result;
	p->ip = p->l4;
	if (*ethertype != ETHERTYPE_TEB)
		return PARSED;
	return ethernet(skb, p, p->end, ethertype, direct);
}

static __always_inline int tcp(struct __sk_buff *skb, struct packet *p, int direct)
{
	const struct tcphdr *tcp;
	__u64 header_bytes;

	if (p->l4 + sizeof(*tcp) > p->end)
		return MALFORMED;
	tcp = header(skb, p, p->l4, sizeof(*tcp), direct);
	if (!tcp)
		return NOT_LINEAR;
	header_bytes = (((const __u8 *)tcp)[12] >> 4) * 4;
	if (header_bytes < sizeof(*tcp) || p->l4 + header_bytes > p->end)
		return MALFORMED;
	p->payload = p->l4 + header_bytes;
	p->payload_len = p->end - p->payload;
	p->sport = bpf_ntohs(tcp->source);
	p->dport = bpf_ntohs(tcp->dest);
	p->key = (__u64)bpf_ntohl(tcp->seq) << 32 | bpf_ntohl(tcp->ack_seq);
	return PARSED;
}

static __always_inline int parse_by(struct __sk_buff *skb, struct packet *p, int nic, int direct)
{
	__u64 ethertype, limit = skb->len;
	int result;

	p->zero = limit >> 20; /* no packet has a megabyte */
	p->zero |= p->zero << 8;
	OPAQUE(p->zero);
	p->ip = 0;
	p->encap = ENCAP_NONE;
	p->vni = 0;
	result = ethernet(skb, p, limit, &ethertype, direct);
	if (result != PARSED)
		return result;
	result = ip(skb, p, ethertype, limit, direct);
	if (result != PARSED)
		return result;
	if (nic && p->protocol != IPPROTO_TCP) {
		result = decapsulate(skb, p, &ethertype, direct);
		if (result != PARSED)
			return result;
		p->ip = forget(p, p->ip, OFFSETS);
		p->encap = forget(p, p->encap, 7);
		ethertype = forget(p, ethertype, 0xffff);
		result = ip(skb, p, ethertype, p->end, direct);
		if (result != PARSED)
			return result;
	}
	if (p->protocol != IPPROTO_TCP)
		return LEAVE;
	return tcp(skb, p, direct);
}

/* Direct packet access, and once more by copies where a header is not linear. */
static __always_inline int parse(struct __sk_buff *skb, struct packet *p, int nic)
{
	int result = NOT_LINEAR;

#ifndef FORCE_LOAD_BYTES
	result = parse_by(skb, p, nic, 1);
#endif
	if (result == NOT_LINEAR)
		result = parse_by(skb, p, nic, 0);
	if (result <= LEAVE)
		return result;

	struct counters *c = counters();
	if (!c)
		return LEAVE;
	if (result == FRAGMENT)
		c->fragment++;
	else if (result == EXT_HEADERS)
		c->ext_headers++;
	else
		c->malformed++;
	return LEAVE;
}

/* The first bytes of the payload as a little-endian number, at most 8, the rest zero. */
static __always_inline __u64 payload_start(struct __sk_buff *skb, const struct packet *p)
{
	__u64 word = 0, bytes = p->payload_len;

	if (bytes > 8)
		bytes = 8;
	OPAQUE(bytes);
	/* 6.1: "invalid zero-sized read": it does not learn a lower bound from a comparison. */
	bytes = ((bytes - 1) & 7) + 1;
	OPAQUE(bytes);
	return load_bytes(skb, p->payload, &word, bytes) ? 0 : word;
}

#define FIRST(word, bytes) ((word) & ((1ULL << ((bytes) * 8)) - 1))

static __always_inline int is_request(__u64 word)
{
	return FIRST(word, 4) == 0x20544547 /* "GET " */ ||
	       FIRST(word, 5) == 0x2054534f50 /* "POST " */ ||
	       FIRST(word, 4) == 0x20545550 /* "PUT " */ ||
	       FIRST(word, 5) == 0x2044414548 /* "HEAD " */ ||
	       FIRST(word, 7) == 0x204554454c4544 /* "DELETE " */ ||
	       FIRST(word, 6) == 0x204843544150 /* "PATCH " */ ||
	       FIRST(word, 6) == 0x204543415254 /* "TRACE " */ ||
	       word == 0x20534e4f4954504f /* "OPTIONS " */ ||
	       word == 0x205443454e4e4f43 /* "CONNECT " */;
}

/* What overhop cannot see, counted for doctor: in all, and per vport that user space entered. */
static __always_inline void note_unreadable(struct __sk_buff *skb, __u64 word)
{
	__u32 ifindex = skb->ifindex;
	__u64 type = word & 0xff;
	int is_tls = type >= 0x14 && type <= 0x17 && (word >> 8 & 0xff) == 3 && (word >> 16 & 0xff) <= 4;
	int is_h2 = word == 0x5448202a20495250; /* "PRI * HT" */
	struct vport_seen *seen;
	struct counters *c;

	if (!is_tls && !is_h2)
		return;
	c = counters();
	if (!c)
		return;
	seen = oh_seen.lookup(&ifindex);
	if (is_tls) {
		c->looks_tls++;
		if (seen)
			seen->tls++;
		return;
	}
	c->looks_h2++;
	if (seen)
		seen->h2++;
}

#ifndef FORCE_LOAD_BYTES
/*
 * Is this beyond doubt TCP without a payload that could matter, in plain IPv4? The commonest packet of
 * all: parse() would find the same after 8 ns instead of 3.
 */
static __always_inline int is_bare_ack(struct __sk_buff *skb)
{
	const __u8 *data = data_of(skb), *data_end = data_end_of(skb);
	const struct iphdr *ip = (void *)(data + ETH_HLEN);
	const struct tcphdr *tcp = (void *)(ip + 1);
	__u64 total, header_bytes;

	if ((const __u8 *)(tcp + 1) > data_end)
		return 0;
	if (*(const __u16 *)(data + 12) != bpf_htons(ETH_P_IP) || *(const __u8 *)ip != 0x45 ||
	    ip->protocol != IPPROTO_TCP || (ip->frag_off & bpf_htons(0x3fff)))
		return 0;
	total = bpf_ntohs(ip->tot_len);
	header_bytes = (((const __u8 *)tcp)[12] >> 4) * 4;
	return header_bytes >= sizeof(*tcp) && total - sizeof(*ip) - header_bytes < 3 && ETH_HLEN + total <= skb->len;
}
#endif

/* Is this packet the start of a request? Nearly every packet leaves here. */
static __always_inline int request_start(struct __sk_buff *skb, struct packet *p, int nic)
{
	__u64 word;

#ifndef FORCE_LOAD_BYTES
	if (is_bare_ack(skb))
		return 0;
#endif
	if (parse(skb, p, nic) != PARSED || p->payload_len < 3)
		return 0;
	word = payload_start(skb, p);
	if (is_request(word))
		return 1;
	if (!nic)
		note_unreadable(skb, word);
	return 0;
}

/* The source's hash and the addresses in IPv6 form; those of IPv4 only if they are to be mapped. */
static __always_inline void addresses(struct __sk_buff *skb, struct packet *p, int mapped)
{
	__u64 folded;

	if (p->is_ipv6) {
		__u32 both[8];

		if (load_bytes(skb, p->ip + 8, both, sizeof(both)))
			return;
#pragma unroll
		for (int i = 0; i < 4; i++) {
			p->src[i] = both[i];
			p->dst[i] = both[4 + i];
		}
		folded = bpf_ntohl(both[0] ^ both[1] ^ both[2] ^ both[3]);
	} else {
		if (mapped) {
			p->src[0] = p->src[1] = p->dst[0] = p->dst[1] = 0;
			p->src[2] = p->dst[2] = bpf_htonl(0xffff);
			p->src[3] = p->src4;
			p->dst[3] = p->dst4;
		}
		folded = bpf_ntohl(p->src4);
	}
	p->src_hash = (folded * GOLDEN32 & 0xffffffff) >> 16;
}

/* ---- context ------------------------------------------------------------------------------ */

/* By pointer: clang would read the aligned array itself byte by byte. */
static __always_inline __u64 load8(const void *at)
{
	return *(const __u64 *)at;
}

/* A high bit exactly where a byte is zero. */
static __always_inline __u64 zero_bytes_exact(__u64 word)
{
	return ~(((word & REPEAT(0x7f)) + REPEAT(0x7f)) | word) & HIGH_BITS;
}

/* Index of the first byte whose high bit is set in `marks` (not 0). */
static __always_inline __u64 first_mark(__u64 marks)
{
	return ((marks & -marks) >> 7) * 0x0001020304050607ULL >> 56;
}

/* Index of the last byte whose high bit is set in `marks` (not 0). */
static __always_inline __u64 last_mark(__u64 marks)
{
	marks |= marks >> 8;
	marks |= marks >> 16;
	marks |= marks >> 32;
	return ((marks >> 7) * REPEAT(1) >> 56) - 1;
}

/* 1 if the number is 0, without a branch: clang would make one of what it sees through. */
static __always_inline __u64 is_zero(__u64 number)
{
	__u64 sign = number | -number;

	OPAQUE(sign);
	sign >>= 63;
	OPAQUE(sign);
	return sign ^ 1;
}

/*
 * An offset read from memory, made known to the verifier, where one below WINDOW is itself. By a mask, not a
 * comparison: clang merges comparisons into one on a difference (6.18: "unbounded memory access"), or compares
 * a copy of what it has spilled (6.1: "math between map_value pointer and register with unbounded min value"),
 * and each would be one more way for the verifier to follow.
 */
static __always_inline __u64 bounded(__u64 offset)
{
	return offset & OFFSET_MASK;
}

/* Letters compare without case (bit 0x20), everything else exactly. */
#define TRACEPAR 0x7261706563617274ULL
#define ENT_COLON 0x3a746e65ULL
#define X_B3_DASH 0x2d33622d78ULL
#define B3_COLON 0x3a3362ULL
#define TRACEID_COLON 0x3a64696563617274ULL
#define SAMPLED_COLON 0x3a64656c706d6173ULL
#define SPANID_COLON 0x3a64696e617073ULL
#define FLAGS_COLON 0x3a7367616c66ULL

/*
 * HIGH_BITS if all eight bytes are hex digits, lower case or (fold) either; of ASCII only (the caller
 * looks at the high bits of all its words at once). A sum has its high bit set from '0', ':', 'a', 'g'
 * on, so that an odd number of them means '0' to '9' or 'a' to 'f'.
 */
static __always_inline __u64 hex_marks(__u64 word, int fold)
{
	__u64 letter = fold ? word | REPEAT(0x20) : word;

	return (word + REPEAT(0x80 - '0')) ^ (word + REPEAT(0x80 - ':')) ^ (letter + REPEAT(0x80 - 'a')) ^
	       (letter + REPEAT(0x80 - 'g'));
}

/* Four bytes, in the order of the text, from eight hex digits. */
static __always_inline __u64 unhex(__u64 word)
{
	word = (word & REPEAT(0x0f)) + (word >> 6 & REPEAT(1)) * 9;
	word = (word << 4 | word >> 8) & 0x00ff00ff00ff00ffULL;
	word = (word | word >> 8) & 0x0000ffff0000ffffULL;
	return (word | word >> 16) & 0xffffffff;
}

/* Eight bytes from sixteen hex digits. */
static __always_inline __u64 unhex16(const __u8 *digits)
{
	return unhex(load8(digits)) | unhex(load8(digits + 8)) << 32;
}

/* Are these sixteen hex digits of either case? */
static __always_inline int is_hex16(const __u8 *digits)
{
	__u64 one = load8(digits), two = load8(digits + 8);

	return ((hex_marks(one, 1) & hex_marks(two, 1) & ~(one | two)) & HIGH_BITS) == HIGH_BITS;
}

/* Version and flags of a traceparent's first 55 bytes, and zeros, as eight hex digits. */
static __always_inline __u64 w3c_ends(const __u8 *v)
{
	return (__u64)v[0] | (__u64)v[1] << 8 | (__u64)v[53] << 16 | (__u64)v[54] << 24 | 0x3030303000000000ULL;
}

/* Are 55 bytes a traceparent? W3C Trace Context, section 3.2.2. In one number, for one branch. */
static __always_inline int is_w3c(const __u8 *v)
{
	__u64 ends = w3c_ends(v), trace0 = load8(v + 3), trace1 = load8(v + 11), trace2 = load8(v + 19),
	      trace3 = load8(v + 27), span0 = load8(v + 36), span1 = load8(v + 44), zeros = REPEAT('0'), wrong;

	wrong = ~(hex_marks(ends, 0) & hex_marks(trace0, 0) & hex_marks(trace1, 0) & hex_marks(trace2, 0) &
		  hex_marks(trace3, 0) & hex_marks(span0, 0) & hex_marks(span1, 0));
	wrong |= ends | trace0 | trace1 | trace2 | trace3 | span0 | span1;
	wrong &= HIGH_BITS;
	wrong |= (v[2] ^ '-') | (v[35] ^ '-') | (v[52] ^ '-');
	wrong |= is_zero((trace0 ^ zeros) | (trace1 ^ zeros) | (trace2 ^ zeros) | (trace3 ^ zeros));
	wrong |= is_zero((span0 ^ zeros) | (span1 ^ zeros));
	wrong |= is_zero((ends & 0xffff) ^ 0x6666); /* version ff */
	OPAQUE(wrong);
	return !wrong;
}

/* The context in a valid traceparent. */
static __always_inline void take_w3c(struct context *x, const __u8 *v, __u64 at)
{
	x->trace_id[0] = unhex16(v + 3);
	x->trace_id[1] = unhex16(v + 19);
	x->span_id = unhex16(v + 36);
	x->flags = unhex(w3c_ends(v)) >> 8 & 0xff;
	x->offset = at;
	x->kind = CONTEXT_W3C;
}

/*
 * 0 for "tra", "x-b" and "b3:": one number, for one branch. The product of three 24-bit numbers can also
 * overflow to 0, which costs a closer look.
 */
static __always_inline __u64 is_no_context(__u64 head)
{
	__u64 three = FIRST(head, 3), product;

	product = ((three | 0x202020) ^ FIRST(TRACEPAR, 3)) * ((three | 0x200020) ^ FIRST(X_B3_DASH, 3)) *
		  ((three | 0x20) ^ B3_COLON);
	OPAQUE(product);
	return product;
}

/*
 * A bit for each field of the enabled context kinds. A number behind OPAQUE, so that the program has one
 * shape: left out by the compiler, a kind could cost the verifier more than a million instructions.
 */
#define ENABLED_FIELDS                                               \
	((CONTEXTS & CONTEXTS_W3C ? 1ULL << FIELD_W3C : 0) |         \
	 (CONTEXTS & CONTEXTS_B3 ? 1ULL << FIELD_B3 : 0) |           \
	 (CONTEXTS & CONTEXTS_MULTI ? 1ULL << FIELD_TRACEID | 1ULL << FIELD_SPANID | \
					      1ULL << FIELD_SAMPLED | 1ULL << FIELD_FLAGS : 0))

/* Opens the field that the line begins with, if it is the first of its name. Without a branch: see walk_lines(). */
static __always_inline void open_field(struct scratch *s, const __u8 *line, __u64 head, __u64 at)
{
	__u64 rest = load8(line + 5), enabled = ENABLED_FIELDS, field, seen, prefix, fresh;
	__u64 seven = rest | 0x0020202020202020ULL; /* seven letters, then ':' */

	OPAQUE(enabled);
	field = is_zero(((head | REPEAT(0x20)) ^ TRACEPAR) | ((FIRST(load8(line + 8), 4) | 0x202020) ^ ENT_COLON)) *
		FIELD_W3C;
	field += is_zero((FIRST(head, 3) | 0x20) ^ B3_COLON) * FIELD_B3;
	prefix = (FIRST(head, 5) | 0x200020) ^ X_B3_DASH;
	field += is_zero(prefix | (seven ^ TRACEID_COLON)) * FIELD_TRACEID;
	field += is_zero(prefix | (seven ^ SAMPLED_COLON)) * FIELD_SAMPLED;
	field += is_zero(prefix | ((FIRST(rest, 7) | 0x202020202020ULL) ^ SPANID_COLON)) * FIELD_SPANID;
	field += is_zero(prefix | ((FIRST(rest, 6) | 0x2020202020ULL) ^ FLAGS_COLON)) * FIELD_FLAGS;
	field &= -(enabled >> field & 1);
	OPAQUE(field);
	field &= FIELDS - 1;
	OPAQUE(field);
	seen = s->at[field];
	fresh = -is_zero(seen);
	s->at[field] = seen | (at & fresh);
	s->open = field & fresh;
}

/*
 * A word with several line ends: lines of at most four bytes between them. Such a line can be a b3
 * without ids, or the empty line; the latter ends the search.
 */
static __always_inline int short_lines(struct scratch *s, __u64 at, __u64 marks, __u64 first)
{
	__u64 line = at + first + 2, empty = marks & marks >> 16, b3_colon = CONTEXTS & CONTEXTS_B3 ? B3_COLON : 0;

	OPAQUE(b3_colon);
	if ((FIRST(load8(s->buf + line), 3) | 0x20) == b3_colon && !s->at[FIELD_B3] &&
	    !(empty >> (first * 8) & 0x80)) {
		s->at[FIELD_B3] = line;
		s->end[FIELD_B3] = at + first_mark(marks & (marks - 1));
	}
	if (!empty)
		return 0;
	s->empty_line = at + first_mark(empty) + 2;
	return 1;
}

/*
 * The line ends in the word at `at`, and the line that begins behind the last of them. True at the end of
 * the header. Nearly all words leave at the first test: no byte is below 0x20 (nor from 0x80 to 0x9f).
 */
static __always_inline int walk_word(struct scratch *s, const __u8 *word, __u64 at)
{
	__u64 plain = load8(word), marks, several, first, last, head;
	const __u8 *line;

	plain = (plain | plain << 1) & REPEAT(0x40);
	asm volatile goto("if %[plain] != %[all] goto %l[found]"
			  :
			  : [plain] "r"(plain), [all] "r"(REPEAT(0x40))
			  :
			  : found);
	return 0;
found:
	marks = zero_bytes_exact((load8(word) ^ REPEAT('\r')) | (load8(word + 1) ^ REPEAT('\n')));
	if (!marks)
		return 0;
	first = first_mark(marks) & 7;
	OPAQUE(first);
	s->end[s->open & (FIELDS - 1)] = at + first;
	s->open = FIELD_NONE;
	last = first;
	several = marks & (marks - 1);
	asm volatile goto("if %[several] != 0 goto %l[more]" : : [several] "r"(several) : : more);
	goto one;
more:
	if (short_lines(s, at, marks, first))
		return 1;
	last = last_mark(marks) & 7;
	OPAQUE(last); /* clang would fold the mask into a negative offset: 6.18: "unbounded memory access" */
one:
	line = word + last + 2;
	head = load8(line);
	if (FIRST(head, 2) == 0x0a0d) {
		s->empty_line = at + last + 2;
		return 1;
	}
	if (is_no_context(head))
		return 0;
	open_field(s, line, head, at + last + 2);
	return 0;
}

/*
 * Is the first traceparent one as everybody writes it (at most one space, 55 bytes, CR), and valid?
 * Then the search is over. Anything else is looked at when the header was walked through.
 */
static __always_inline int is_plain_w3c(struct scratch *s)
{
	__u64 from = s->at[FIELD_W3C];
	const __u8 *v;

	asm volatile goto("if %[from] != %[tried] goto %l[untried]" : : [from] "r"(from), [tried] "r"(s->tried) : : untried);
	return 0;
untried:
	s->tried = from;
	from = bounded(from) + sizeof("traceparent");
	from += is_zero(s->buf[from] ^ ' ');
	v = s->buf + from;
	if (v[55] != '\r' || v[56] != '\n' || !is_w3c(v))
		return 0;
	s->is_found = 1;
	s->from[FIELD_W3C] = from;
	s->end[FIELD_W3C] = from + 55;
	return 1;
}

/*
 * Walks the lines, noting where the first field of each name begins and ends, up to the empty line
 * (behind what was loaded there is one) or to a valid traceparent.
 *
 * The shape is for the verifier. What falls through first it follows to the end before it looks at
 * anything else, and of the states that this leaves for pruning only the latest few of a loop are kept
 * (is_state_visited(): 100 instructions or 20 jumps between two of them, gone after four misses), so
 * that each step is explored about twice. Hence: the way that falls through is the shortest (a word
 * without a CR, by `asm goto`, because clang would order the blocks otherwise); what is long and can
 * wait (is_plain_w3c) is done once in eight words; and what differs between two ways is a number, not
 * a branch. At window 8192 this made 571 k instructions of more than a million.
 */
static __always_inline void walk_lines(struct scratch *s)
{
#pragma clang loop unroll(disable)
	for (__u64 at = 0; at < WINDOW + 8; at += 64) {
		OPAQUE(at); /* or clang counts from -64: 6.18: "unbounded memory access" */
		OPAQUE(s); /* addresses in it stay sums of it and a constant, not one register each */
		const __u8 *block = s->buf + at;

		OPAQUE(block); /* one pointer and eight constant offsets */
		if (walk_word(s, block, at) || walk_word(s, block + 8, at + 8) || walk_word(s, block + 16, at + 16) ||
		    walk_word(s, block + 24, at + 24) || walk_word(s, block + 32, at + 32) ||
		    walk_word(s, block + 40, at + 40) || walk_word(s, block + 48, at + 48) ||
		    walk_word(s, block + 56, at + 56))
			return;
		if (is_plain_w3c(s))
			return;
	}
}

static __always_inline int is_blank(__u8 byte)
{
	return byte == ' ' || byte == '\t';
}

/* High bits exactly where a byte is neither SP nor HTAB. */
static __always_inline __u64 not_blank(__u64 word)
{
	return ~(zero_bytes_exact(word ^ REPEAT(' ')) | zero_bytes_exact(word ^ REPEAT('\t'))) & HIGH_BITS;
}

/* A bit for each byte of a block, set where it is neither SP nor HTAB. */
static __always_inline __u64 not_blank_bits(const __u8 *block)
{
	__u64 bits = 0;

#pragma unroll
	for (int i = BLOCK / 8 - 1; i >= 0; i--) {
		FORGET_MEMORY(); /* one word after the other, or clang has them all on its stack at once */
		bits = bits << 8 | (not_blank(load8(block + i * 8)) >> 7) * 0x0102040810204080ULL >> 56;
	}
	return bits;
}

static __always_inline __u64 count_bits(__u64 bits)
{
	bits -= bits >> 1 & REPEAT(0x55);
	bits = (bits & REPEAT(0x33)) + (bits >> 2 & REPEAT(0x33));
	return ((bits + (bits >> 4)) & REPEAT(0x0f)) * REPEAT(1) >> 56;
}

/* Blanks at the beginning of a block, 64 if it has nothing else. */
static __always_inline __u64 leading_blanks(const __u8 *block)
{
	__u64 bits = not_blank_bits(block);

	return count_bits((bits & -bits) - 1);
}

/* Blanks at the end of a block, 64 if it has nothing else. */
static __always_inline __u64 trailing_blanks(const __u8 *block)
{
	__u64 bits = not_blank_bits(block);

#pragma unroll
	for (int shift = 1; shift < BLOCK; shift *= 2)
		bits |= bits >> shift;
	return BLOCK - count_bits(bits);
}

/*
 * Trims blanks at both ends of all values, a block of a field a step. The fields do not overlap, so
 * that the window bounds the number of steps. Without a branch within a step: by 32 bytes and branches
 * it was a third of what the verifier of 6.1 processed (260 k instructions at window 8192).
 */
static __always_inline void trim_values(struct scratch *s)
{
	__u64 field, from, end, leading, trailing;

#pragma clang loop unroll(disable)
	for (int i = 0; i < WINDOW / BLOCK + 2 * FIELDS; i++) {
		FORGET_MEMORY();
		field = s->trim & (FIELDS - 1);
		if (!field)
			return;
		from = bounded(s->from[field]);
		end = bounded(s->end[field]);
		leading = leading_blanks(s->buf + from);
		trailing = trailing_blanks(s->buf + end - BLOCK);
		if (from >= end) {
			s->trim = field - 1;
			continue;
		}
		s->from[field] = from + leading;
		s->end[field] = end - trailing;
		s->trim = field - 1 + ((leading | trailing) / BLOCK);
	}
}

/* A field whose line end lies behind what was loaded is not there. */
static __always_inline void drop_incomplete(struct scratch *s, __u64 n)
{
#pragma unroll
	for (int i = 1; i < FIELDS; i++)
		s->end[i] = s->end[i] < n ? s->end[i] : 0;
}

/* Sets where the value of a complete field begins, and notes blanks other than one in front. */
static __always_inline void begin_value(struct scratch *s, __u32 field, __u64 name_bytes)
{
	__u64 from = bounded(s->at[field]), end = bounded(s->end[field]);

	if (!end)
		return;
	from += name_bytes;
	if (s->buf[from] == ' ')
		from++;
	s->from[field] = from;
	if (is_blank(s->buf[from]) || is_blank(s->buf[end - 1]))
		s->blanks = 1;
}

static __always_inline void begin_values(struct scratch *s)
{
	s->blanks = 0;
	begin_value(s, FIELD_W3C, sizeof("traceparent"));
	begin_value(s, FIELD_B3, sizeof("b3"));
	begin_value(s, FIELD_TRACEID, sizeof("x-b3-traceid"));
	begin_value(s, FIELD_SPANID, sizeof("x-b3-spanid"));
	begin_value(s, FIELD_SAMPLED, sizeof("x-b3-sampled"));
	begin_value(s, FIELD_FLAGS, sizeof("x-b3-flags"));
	FORGET_MEMORY();
	s->trim = FIELDS - 1;
	if (s->blanks)
		trim_values(s);
	FORGET_MEMORY();
}

/* The value's first byte, and its length in `bytes` (0 if the field is not complete). */
static __always_inline const __u8 *value(struct scratch *s, __u32 field, __u64 *bytes)
{
	__u64 from = bounded(s->from[field]), end = s->end[field];

	*bytes = 0;
	if (!end || from > end)
		return s->buf;
	*bytes = end - from;
	return s->buf + from;
}

/* Version 00 has 55 bytes; a later one may go on behind a dash. */
static __always_inline int find_w3c(struct scratch *s, struct context *x)
{
	__u64 bytes;
	const __u8 *v = value(s, FIELD_W3C, &bytes);

	if (bytes < 55 || !is_w3c(v))
		return 0;
	if (bytes > 55 && ((v[0] == '0' && v[1] == '0') || v[55] != '-'))
		return 0;
	take_w3c(x, v, s->at[FIELD_W3C]);
	return 1;
}

/* Trace id of 16 or 32 digits and span id, of either case. */
static __always_inline int read_b3_ids(struct context *x, const __u8 *trace, __u64 digits, const __u8 *span)
{
	x->trace_id[0] = 0;
	if (digits == 32) {
		if (!is_hex16(trace))
			return 0;
		x->trace_id[0] = unhex16(trace);
		trace += 16;
	}
	if (!is_hex16(trace) || !is_hex16(span))
		return 0;
	x->trace_id[1] = unhex16(trace);
	x->span_id = unhex16(span);
	return (x->trace_id[0] | x->trace_id[1]) && x->span_id;
}

/* B3 single: trace-span[-state[-parent]]. */
static __always_inline int find_b3(struct scratch *s, struct context *x)
{
	__u64 bytes, digits, state = 0;
	const __u8 *v = value(s, FIELD_B3, &bytes), *tail;

	if (bytes < 33)
		return 0;
	digits = v[16] == '-' ? 16 : 32;
	if (v[digits] != '-' || bytes < digits + 17)
		return 0;
	if (!read_b3_ids(x, v, digits, v + digits + 1))
		return 0;
	tail = v + digits + 17;
	bytes -= digits + 17;
	if (bytes != 0 && bytes != 2 && bytes != 19)
		return 0;
	if (bytes) {
		state = tail[1];
		if (tail[0] != '-' || (state != '0' && state != '1' && state != 'd'))
			return 0;
	}
	if (bytes == 19 && (tail[2] != '-' || !is_hex16(tail + 3)))
		return 0;
	x->kind = CONTEXT_B3;
	x->offset = s->at[FIELD_B3];
	x->flags = state == '1' || state == 'd';
	return 1;
}

static __always_inline int is_one(struct scratch *s, __u32 field)
{
	__u64 bytes;
	const __u8 *v = value(s, field, &bytes);

	return bytes == 1 && v[0] == '1';
}

static __always_inline int find_multi(struct scratch *s, struct context *x)
{
	__u64 trace_bytes, span_bytes;
	const __u8 *trace = value(s, FIELD_TRACEID, &trace_bytes);
	const __u8 *span = value(s, FIELD_SPANID, &span_bytes);

	if ((trace_bytes != 16 && trace_bytes != 32) || span_bytes != 16)
		return 0;
	if (!read_b3_ids(x, trace, trace_bytes, span))
		return 0;
	x->kind = CONTEXT_MULTI;
	x->offset = s->at[FIELD_TRACEID];
	if (s->at[FIELD_SPANID] < x->offset)
		x->offset = s->at[FIELD_SPANID];
	x->flags = is_one(s, FIELD_SAMPLED) || is_one(s, FIELD_FLAGS);
	return 1;
}

/* A b3 of 0, 1 or d says whether to sample and has no ids: no context, but not a bad one. */
static __always_inline int is_bad_b3(struct scratch *s)
{
	__u64 bytes;
	const __u8 *v = value(s, FIELD_B3, &bytes);

	return s->end[FIELD_B3] && !(bytes == 1 && (v[0] == '0' || v[0] == '1' || v[0] == 'd'));
}

static __always_inline void find_context(struct scratch *s, __u64 n, struct context *x)
{
	walk_lines(s);
	FORGET_MEMORY();
	if (s->is_found && s->end[FIELD_W3C] < n) {
		take_w3c(x, s->buf + bounded(s->from[FIELD_W3C]), s->at[FIELD_W3C]);
		return;
	}
	drop_incomplete(s, n);
	begin_values(s);
	if (find_w3c(s, x) || find_b3(s, x) || find_multi(s, x))
		return;
	if (s->empty_line >= n)
		x->quality |= QUALITY_WINDOW_EXCEEDED;
	if (s->end[FIELD_W3C] || s->end[FIELD_TRACEID] || s->end[FIELD_SPANID] || is_bad_b3(s))
		x->quality |= QUALITY_BAD_CONTEXT;
}

/* One load of the window into this CPU's scratch, then the search. */
static __always_inline void search(struct __sk_buff *skb, struct scratch *s)
{
	struct context *x = &s->found;
	__u64 n = s->n, offset = s->payload;

#pragma unroll
	for (int i = FIELD_W3C; i <= FIELD_FLAGS; i++) {
		s->at[i] = 0;
		s->end[i] = 0;
	}
	s->open = FIELD_NONE;
	s->empty_line = WINDOW;
	s->is_found = 0;
	s->tried = 0;
	x->kind = CONTEXT_NONE;
	x->quality = 0;
	/* Never: a request start has 4 bytes. Two comparisons, or clang makes one of a difference (6.1: "R4 min value is negative"). */
	if (n < 4)
		return;
	OPAQUE(n);
	if (n > WINDOW)
		return;
	OPAQUE(n);
	if (load_bytes(skb, offset, s->buf, n))
		return;
	/* Ends a line whose CR is the last byte loaded, and then the search. */
	s->buf[n] = '\n';
	s->buf[n + 1] = '\r';
	s->buf[n + 2] = '\n';
	s->buf[n + 3] = '\r';
	s->buf[n + 4] = '\n';
	find_context(s, n, x);
}

/* ---- slots -------------------------------------------------------------------------------- */

struct slot {
	__u32 set; /* index */
	__u64 word;
};

static __always_inline struct slot slot_of(__u64 key)
{
	__u64 hash = key * GOLDEN64;
	struct slot slot = {
		.set = hash >> (64 - __builtin_ctzll(SETS)),
		.word = hash & ~WAY_TAKEN,
	};

	if (slot.word <= WAY_LOCKED)
		slot.word += 2;
	return slot;
}

static __always_inline __u64 age_ns(__u64 now, __u64 time_vni)
{
	return ((now << 24) - (time_vni & ~0xffffffULL)) >> 24;
}

static __always_inline int lock_way(struct way *way, __u64 seen)
{
	return __sync_val_compare_and_swap(&way->key, seen, WAY_LOCKED) == seen;
}

/* What was stored before is seen before the key: x86 keeps stores in order, an exchange would cost 6 ns more. */
static __always_inline void release_way(struct way *way, __u64 key)
{
#ifdef __x86_64__
	FORGET_MEMORY();
	*(volatile __u64 *)&way->key = key;
#else
	__sync_lock_test_and_set(&way->key, key);
#endif
}

static __always_inline __u64 read_key(const struct way *way)
{
	return *(volatile const __u64 *)&way->key;
}

/* Which way a new stamp takes: 0, 1, or 2 for none. Empty, taken, expired, oldest. */
static __always_inline int victim_way(struct slot_set *set, __u64 key0, __u64 key1, __u64 now)
{
	__u64 age0, age1;

	if (key0 == WAY_LOCKED || key1 == WAY_LOCKED)
		return key0 != WAY_LOCKED ? 0 : key1 != WAY_LOCKED ? 1 : 2;
	if (key0 == WAY_EMPTY)
		return 0;
	if (key1 == WAY_EMPTY)
		return 1;
	if (key0 & WAY_TAKEN)
		return 0;
	if (key1 & WAY_TAKEN)
		return 1;
	age0 = age_ns(now, set->way[0].time_vni);
	age1 = age_ns(now, set->way[1].time_vni);
	if (age0 > EXPIRY_NS)
		return 0;
	if (age1 > EXPIRY_NS)
		return 1;
	return age0 < age1;
}

/* First point: puts the stamp into a way. `meta` holds the filter's bits. */
static __always_inline void store(struct __sk_buff *skb, const struct packet *p, __u64 now, __u64 point,
				  __u64 meta, struct counters *c)
{
	struct slot slot = slot_of(p->key);
	struct slot_set *set = oh_slots.lookup(&slot.set);
	__u64 key0, key1, old, tstamp;
	struct cold_set *cold;
	struct way *way;
	int second, same;

	if (!set)
		return;
	key0 = read_key(&set->way[0]);
	key1 = read_key(&set->way[1]);
	same = 1;
	if ((key0 & ~WAY_TAKEN) == slot.word) {
		second = 0;
	} else if ((key1 & ~WAY_TAKEN) == slot.word) {
		second = 1;
	} else {
		same = 0;
		second = victim_way(set, key0, key1, now);
	}
	old = second ? key1 : key0;
	way = &set->way[second & 1];
	if (second == 2 || !lock_way(way, old)) {
		c->slot_busy++;
		return;
	}
	if (same && way->ifindex == skb->ifindex && (way->meta >> META_POINT_SHIFT & 1) == point) {
		meta |= META_RETRANSMIT;
		if (!(old & WAY_TAKEN))
			c->refreshed++;
	} else if (old != WAY_EMPTY && !(old & WAY_TAKEN)) {
		if (!same && age_ns(now, way->time_vni) > EXPIRY_NS)
			c->expired++;
		else
			c->overwritten++;
	}
	tstamp = point == NIC_IN && skb->tstamp_type == 0 ? skb->tstamp : 0;
	if (p->is_ipv6 || tstamp) {
		cold = oh_cold.lookup(&slot.set);
		if (cold) {
			struct cold_way *cold_way = &cold->way[second & 1];
			__u32 zero = 0;
			struct params *params = oh_params.lookup(&zero);
			__u64 wait = 0;

			if (p->is_ipv6) {
				meta |= META_IPV6;
#pragma unroll
				for (int i = 0; i < 4; i++)
					cold_way->dst[i] = p->dst[i];
			}
			if (tstamp && params)
				wait = bpf_ktime_get_tai_ns() - params->tai_offset_ns - tstamp;
			cold_way->first_wait_ns = 0;
			if (wait && wait < EXPIRY_NS) {
				meta |= META_WAIT;
				cold_way->first_wait_ns = wait;
			}
		}
	}
	way->time_vni = now << 24 | p->vni;
	way->dst = p->is_ipv6 ? 0 : p->dst4;
	way->ifindex = skb->ifindex;
	way->sport = p->sport;
	way->dport = p->dport;
	way->src_hash = p->src_hash;
	way->meta = meta | point << META_POINT_SHIFT | p->encap << META_ENCAP_SHIFT;
	release_way(way, slot.word);
}

/* A taken stamp, copied out of its way. */
struct stamp {
	__u64 latency_ns;
	__u64 vni;
	__u64 meta;
	__u32 dst[4];
	__u32 ifindex;
	__u32 first_wait_ns;
	__u16 sport;
	__u16 dport;
	__u16 src_hash;
};

enum take_result { TAKEN, BUSY, NONE, NONE_TAKEN };

static __always_inline int take(__u64 key, __u64 now, struct stamp *stamp, struct counters *c)
{
	struct slot slot = slot_of(key);
	struct slot_set *set = oh_slots.lookup(&slot.set);
	__u64 key0, key1, time_vni;
	struct cold_set *cold;
	struct way *way;
	int second;

	if (!set)
		return NONE;
	key0 = read_key(&set->way[0]);
	key1 = read_key(&set->way[1]);
	if (key0 == slot.word)
		second = 0;
	else if (key1 == slot.word)
		second = 1;
	else
		return (key0 ^ WAY_TAKEN) == slot.word || (key1 ^ WAY_TAKEN) == slot.word ? NONE_TAKEN : NONE;
	way = &set->way[second];
	if (!lock_way(way, slot.word))
		return BUSY;
	time_vni = way->time_vni;
	stamp->latency_ns = age_ns(now, time_vni);
	if (stamp->latency_ns > EXPIRY_NS) {
		release_way(way, slot.word | WAY_TAKEN);
		c->expired++;
		return NONE;
	}
	stamp->vni = time_vni & 0xffffff;
	stamp->meta = way->meta;
	stamp->ifindex = way->ifindex;
	stamp->sport = way->sport;
	stamp->dport = way->dport;
	stamp->src_hash = way->src_hash;
	stamp->first_wait_ns = 0;
	stamp->dst[0] = stamp->dst[1] = 0;
	stamp->dst[2] = bpf_htonl(0xffff);
	stamp->dst[3] = way->dst;
	if (stamp->meta & (META_IPV6 | META_WAIT)) {
		cold = oh_cold.lookup(&slot.set);
		if (cold) {
			struct cold_way *cold_way = &cold->way[second];

			if (stamp->meta & META_IPV6) {
#pragma unroll
				for (int i = 0; i < 4; i++)
					stamp->dst[i] = cold_way->dst[i];
			}
			if (stamp->meta & META_WAIT)
				stamp->first_wait_ns = cold_way->first_wait_ns;
		}
	}
	release_way(way, slot.word | WAY_TAKEN);
	return TAKEN;
}

/* ---- records ------------------------------------------------------------------------------ */

static __always_inline int belongs_to_other_vport(struct __sk_buff *skb, const struct packet *p)
{
	struct owner owner = {
		.ifindex = skb->ifindex,
		.address = { p->dst[0], p->dst[1], p->dst[2], p->dst[3] },
	};

	if (oh_owners.lookup(&owner))
		return 0;
	owner.address[0] = owner.address[1] = owner.address[2] = owner.address[3] = 0;
	return oh_owners.lookup(&owner) != 0;
}

/* The filter's bits of a vport in this direction, as meta bits. */
static __always_inline __u64 filter_bits(struct __sk_buff *skb, __u64 direction)
{
	__u32 ifindex = skb->ifindex;
	struct vport_filter *filter;

	if (!FILTER)
		return 0;
	filter = oh_filter.lookup(&ifindex);
	if (!filter || !(filter->directions & direction))
		return META_SKIP;
	return (filter->require_sampled ? META_REQUIRE_SAMPLED : 0) |
	       (__u64)(filter->sample_shift & 15) << META_SAMPLE_SHIFT;
}

/* Both vports' wishes: traced if both trace, the larger shift, sampled only if one says so. */
static __always_inline __u64 merge_bits(__u64 first, __u64 second)
{
	__u64 shift = first >> META_SAMPLE_SHIFT & 15, other = second >> META_SAMPLE_SHIFT & 15;

	if (other > shift)
		shift = other;
	return ((first | second) & (META_SKIP | META_REQUIRE_SAMPLED)) | shift << META_SAMPLE_SHIFT;
}

static __always_inline __u64 swap64(__u64 number)
{
	return __builtin_bswap64(number);
}

static __always_inline int is_sampled_out(const struct context *x, __u64 bits)
{
	__u64 shift = bits >> META_SAMPLE_SHIFT & 15, hash;

	if (x->kind == CONTEXT_NONE)
		return (bits & META_REQUIRE_SAMPLED) != 0;
	if ((bits & META_REQUIRE_SAMPLED) && !(x->flags & 1))
		return 1;
	if (!shift)
		return 0;
	hash = (swap64(x->trace_id[1]) ^ swap64(x->trace_id[0]) * GOLDEN64) * MIX64;
	return hash >> (64 - shift) != 0;
}

/* This CPU's scratch, or nothing (counted) while another task uses it. */
static __always_inline struct scratch *acquire_scratch(struct counters *c)
{
	__u32 zero = 0;
	struct scratch *s = oh_scratch.lookup(&zero);

	if (!s)
		return 0;
	if (__sync_lock_test_and_set(&s->busy, 1)) {
		c->scratch_busy++;
		return 0;
	}
	return s;
}

static __always_inline void release_scratch(struct scratch *s)
{
	*(volatile __u64 *)&s->busy = 0;
}

static __always_inline int differs(const __u32 *one, const __u32 *two)
{
	return ((one[0] ^ two[0]) | (one[1] ^ two[1]) | (one[2] ^ two[2]) | (one[3] ^ two[3])) != 0;
}

static __always_inline void copy_address(__u32 *to, const __u32 *from)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		to[i] = from[i];
}

static __always_inline __u64 kind_of(__u64 first_point, __u64 second_point)
{
	if (second_point == VPORT_OUT)
		return first_point == NIC_IN ? KIND_RX : KIND_LOCAL;
	return first_point == NIC_IN ? KIND_FORWARD : KIND_TX;
}

/* The hop but for its context. */
static __always_inline void fill(struct record *r, struct __sk_buff *skb, const struct packet *p,
				 const struct stamp *stamp, __u64 now, __u64 point)
{
	__u64 quality = 0;

	if (stamp->meta & META_RETRANSMIT)
		quality |= QUALITY_RETRANSMIT;
	if (stamp->dport != p->dport || differs(stamp->dst, p->dst))
		quality |= QUALITY_DNAT;
	if (stamp->sport != p->sport || stamp->src_hash != p->src_hash)
		quality |= QUALITY_SNAT;
	r->second_ns = now;
	r->trace_id[0] = r->trace_id[1] = r->span_id = 0;
	copy_address(r->src, p->src);
	copy_address(r->dst, p->dst);
	copy_address(r->dst_before_nat, stamp->dst);
	r->latency_ns = stamp->latency_ns;
	r->seq = p->key >> 32;
	r->ack = p->key;
	r->vni = p->encap ? p->vni : stamp->vni;
	r->first_ifindex = stamp->ifindex;
	r->second_ifindex = skb->ifindex;
	r->payload_len = p->payload_len;
	r->first_wait_ns = stamp->first_wait_ns;
	r->sport = p->sport;
	r->dport = p->dport;
	r->sport_before_nat = stamp->sport;
	r->dport_before_nat = stamp->dport;
	r->context_offset = 0;
	r->segments = skb->gso_segs ? skb->gso_segs : 1;
	r->kind_message = kind_of(stamp->meta >> META_POINT_SHIFT & 1, point);
	r->encap_context = p->encap ? p->encap : stamp->meta >> META_ENCAP_SHIFT & 7;
	r->trace_flags = 0;
	r->quality = quality;
}

/* Where the search buffer is in use: the hop without its context. */
static __always_inline void emit_without_context(struct __sk_buff *skb, const struct packet *p,
						 const struct stamp *stamp, __u64 now, __u64 point, __u64 bits,
						 struct counters *c)
{
	struct record *r;

	if (bits & META_REQUIRE_SAMPLED) {
		c->sampled_out++;
		return;
	}
	r = oh_ring.ringbuf_reserve(sizeof(*r));
	if (!r) {
		c->ring_full++;
		return;
	}
	fill(r, skb, p, stamp, now, point);
	r->quality |= QUALITY_WINDOW_EXCEEDED;
	oh_ring.ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	c->records++;
}

/* The hop in scratch with its context: exactly one of sampled_out, ring_full and records. */
static __always_inline void emit(struct scratch *s, struct counters *c)
{
	struct record *r = &s->record;
	struct context *x = &s->found;

	if (FILTER && is_sampled_out(x, s->bits)) {
		c->sampled_out++;
		return;
	}
	r->quality |= x->quality;
	if (x->kind != CONTEXT_NONE) {
		r->trace_id[0] = x->trace_id[0];
		r->trace_id[1] = x->trace_id[1];
		r->span_id = x->span_id;
		r->context_offset = x->offset;
		r->encap_context |= x->kind << 4;
		r->trace_flags = x->flags;
	}
	if (oh_ring.ringbuf_output(r, sizeof(*r), BPF_RB_NO_WAKEUP))
		c->ring_full++;
	else
		c->records++;
}

/* What becomes of a taken stamp: filtered, or what emit() says. */
static __always_inline void report(struct __sk_buff *skb, const struct packet *p, const struct stamp *stamp,
				   __u64 now, __u64 point, struct counters *c)
{
	__u64 bits = stamp->meta;
	struct scratch *s;

	if (FILTER && point == VPORT_OUT)
		bits = merge_bits(bits, filter_bits(skb, DIRECTION_OUT));
	if (bits & META_SKIP) {
		c->filtered++;
		return;
	}
	s = acquire_scratch(c);
	if (!s) {
		emit_without_context(skb, p, stamp, now, point, bits, c);
		return;
	}
	fill(&s->record, skb, p, stamp, now, point);
	s->bits = bits;
	s->payload = p->payload;
	s->n = p->payload_len < WINDOW ? p->payload_len : WINDOW;
	FORGET_MEMORY();
	search(skb, s);
	emit(s, c);
	release_scratch(s);
}

/* ---- programs ----------------------------------------------------------------------------- */

static __always_inline void first_point(struct __sk_buff *skb, __u64 point, int nic, __u64 key_shift)
{
	__u64 now, meta = 0;
	struct counters *c;
	struct packet p;

	if (!request_start(skb, &p, nic))
		return;
	now = bpf_ktime_get_ns(); /* here: docs/decisions/0005-time.md */
	c = counters();
	if (!c)
		return;
	p.key += key_shift;
	addresses(skb, &p, 0);
	c->first++;
	if (point == VPORT_IN)
		meta = filter_bits(skb, DIRECTION_IN);
	store(skb, &p, now, point, meta, c);
}

static __always_inline void second_point(struct __sk_buff *skb, __u64 point, int nic, __u64 key_shift)
{
	struct stamp stamp = {};
	struct counters *c;
	struct packet p;
	int result;
	__u64 now;

	if (!request_start(skb, &p, nic))
		return;
	now = bpf_ktime_get_ns();
	c = counters();
	if (!c)
		return;
	p.key += key_shift;
	addresses(skb, &p, 1);
	c->second++;
	if (point == VPORT_OUT && belongs_to_other_vport(skb, &p)) {
		c->not_for_this_vport++;
		return;
	}
	result = take(p.key, now, &stamp, c);
	if (result == TAKEN) {
		c->taken++;
		report(skb, &p, &stamp, now, point, c);
	} else if (result == BUSY) {
		c->slot_busy_second++;
	} else if (skb->sk) {
		c->unmatched_local++;
	} else if (result == NONE_TAKEN) {
		c->unmatched_taken++;
	} else {
		c->unmatched++;
	}
}

int oh_nic_in(struct __sk_buff *skb)
{
	first_point(skb, NIC_IN, 1, 0);
	return TC_ACT_UNSPEC;
}

int oh_vport_in(struct __sk_buff *skb)
{
	first_point(skb, VPORT_IN, 0, 0);
	return TC_ACT_UNSPEC;
}

int oh_nic_out(struct __sk_buff *skb)
{
	second_point(skb, NIC_OUT, 1, 0);
	return TC_ACT_UNSPEC;
}

int oh_vport_out(struct __sk_buff *skb)
{
	second_point(skb, VPORT_OUT, 0, 0);
	return TC_ACT_UNSPEC;
}

#ifdef BENCH
/*
 * For `./dev bench datapath` only: BPF_PROG_TEST_RUN repeats one packet, so that the key moves on
 * with every run, or only the first pair would ever be taken.
 */
BPF_TABLE("percpu_array", __u32, __u64, oh_bench_runs, 1);

static __always_inline __u64 next_key(void)
{
	__u32 zero = 0;
	__u64 *runs = oh_bench_runs.lookup(&zero);

	return runs ? (*runs += 1400) << 32 : 0;
}

int oh_bench_empty(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

int oh_bench_first(struct __sk_buff *skb)
{
	first_point(skb, NIC_IN, 1, next_key());
	return TC_ACT_UNSPEC;
}

int oh_bench_pair(struct __sk_buff *skb)
{
	__u64 key = next_key();

	first_point(skb, NIC_IN, 1, key);
	second_point(skb, VPORT_OUT, 0, key);
	return TC_ACT_UNSPEC;
}

/* Both points at the NIC: the tunnel is parsed twice. */
int oh_bench_pair_nic(struct __sk_buff *skb)
{
	__u64 key = next_key();

	first_point(skb, NIC_IN, 1, key);
	second_point(skb, NIC_OUT, 1, key);
	return TC_ACT_UNSPEC;
}
#endif

#ifdef LAYOUT
#include LAYOUT /* assertions about the layouts above, for tests/kernel/test_layout.py */
#endif
