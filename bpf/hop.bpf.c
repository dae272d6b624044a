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

struct scratch {
	__u64 busy; /* PREEMPT_RT: another task's search on this CPU */
	__u64 payload; /* offset and bytes of what is searched: through memory, so that */
	__u64 n; /* the paths of the parser do not multiply in the verifier */
	__u64 open; /* the field whose line is being read */
	__u64 empty_line; /* 1: seen */
	__u64 blanks; /* 1: a value has blanks other than one in front */
	__u64 start; /* of a walk over the lines */
	__u64 at[FIELDS]; /* first byte of the field's name, 0: absent */
	__u64 from[FIELDS]; /* first byte of its value */
	__u64 end[FIELDS]; /* the byte behind its value, 0: its CR is not inside */
	struct context found;
	__u8 buf[WINDOW + 128]; /* behind n: one line feed, then bytes of earlier packets */
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
	/* valid behind addresses() */
	__u32 src[4];
	__u32 dst[4];
	__u16 src_hash;
	/* the header that is being read, where it is not linear */
	__u64 copy[5];
};

/*
 * The number itself, but to the verifier anything from 0 to `mask` (all ones, at most 20 bits):
 * constants that differ by path (offsets, kinds) would make it walk the rest of the program once for
 * each of them. No packet has a megabyte, so that what is added is zero.
 */
static __always_inline __u64 forget(struct __sk_buff *skb, __u64 number, __u64 mask)
{
	__u64 zero = skb->len >> 20;

	zero |= zero << 8;
	OPAQUE(zero);
	number += zero;
	OPAQUE(number);
	number &= mask;
	OPAQUE(number);
	return number;
}

/* No header begins behind this: two IP headers with four extension headers each, and a tunnel. */
#define OFFSETS 0x7fff

/*
 * `bytes` bytes of header at `offset`, which the caller knows to lie inside the packet: in the
 * packet itself, or copied to `p->copy` where the header is not linear; valid until the next call.
 */
static __always_inline const void *header(struct __sk_buff *skb, struct packet *p, __u64 offset,
					  __u64 bytes, int direct)
{
	if (direct) {
		void *data = (void *)(long)skb->data;
		void *data_end = (void *)(long)skb->data_end;

		if (data + offset + bytes > data_end)
			return 0;
		return data + offset;
	}
	return load_bytes(skb, offset, p->copy, bytes) ? 0 : p->copy;
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
	p->ip = forget(skb, p->ip, OFFSETS);
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
		offset = forget(skb, offset, OFFSETS);
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
	p->l4 = forget(skb, p->l4, OFFSETS);
	p->is_ipv6 = forget(skb, p->is_ipv6, 1);
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
		p->ip = forget(skb, p->ip, OFFSETS);
		p->encap = forget(skb, p->encap, 7);
		ethertype = forget(skb, ethertype, 0xffff);
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

/* Is this packet the start of a request? Nearly every packet leaves here. */
static __always_inline int request_start(struct __sk_buff *skb, struct packet *p, int nic)
{
	__u64 word;

	if (parse(skb, p, nic) != PARSED || p->payload_len < 3)
		return 0;
	word = payload_start(skb, p);
	if (is_request(word))
		return 1;
	if (!nic)
		note_unreadable(skb, word);
	return 0;
}

/* Addresses in IPv6 form (IPv4 mapped) and the source's hash. */
static __always_inline void addresses(struct __sk_buff *skb, struct packet *p)
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
		p->src[0] = p->src[1] = p->dst[0] = p->dst[1] = 0;
		p->src[2] = p->dst[2] = bpf_htonl(0xffff);
		p->src[3] = p->src4;
		p->dst[3] = p->dst4;
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

/* A high bit where a byte is zero; exact up to and including the first one. */
static __always_inline __u64 zero_bytes(__u64 word)
{
	return (word - REPEAT(1)) & ~word & HIGH_BITS;
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

static __always_inline void open_field(struct scratch *s, __u32 field, __u64 at)
{
	if (s->at[field])
		return;
	s->at[field] = at;
	s->open = field;
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

static __always_inline void open_named(struct scratch *s, const __u8 *line, __u64 at, int w3c)
{
	__u64 head = load8(line), rest;

	if (w3c && (head | REPEAT(0x20)) == TRACEPAR) {
		if ((FIRST(load8(line + 8), 4) | 0x202020) == ENT_COLON)
			open_field(s, FIELD_W3C, at);
		return;
	}
	if ((CONTEXTS & CONTEXTS_B3) && (FIRST(head, 3) | 0x20) == B3_COLON) {
		open_field(s, FIELD_B3, at);
		return;
	}
	if (!(CONTEXTS & CONTEXTS_MULTI) || (FIRST(head, 5) | 0x200020) != X_B3_DASH)
		return;
	rest = load8(line + 5);
	head = rest | 0x0020202020202020ULL; /* seven letters */
	if (head == TRACEID_COLON)
		open_field(s, FIELD_TRACEID, at);
	else if (head == SAMPLED_COLON)
		open_field(s, FIELD_SAMPLED, at);
	else if ((FIRST(rest, 7) | 0x202020202020ULL) == SPANID_COLON)
		open_field(s, FIELD_SPANID, at);
	else if ((FIRST(rest, 6) | 0x2020202020ULL) == FLAGS_COLON)
		open_field(s, FIELD_FLAGS, at);
}

/* Every step passes a word without a line end, or a line end and what makes it a line: 3 bytes. */
#define STEPS (WINDOW / 3 + 4)

/* All offsets in the buffer; more than WINDOW + 16. */
#define POSITIONS 0x3fff

/*
 * Walks the lines from `s->start`, noting where known fields begin and end, up to the empty line, the
 * end of what was loaded, or (w3c) the end of the traceparent, whose CR it returns; else 0.
 *
 * The mask makes the verifier forget the lower bound of `pos`, which would differ by path: it walks
 * each step once.
 */
static __always_inline __u64 walk_lines(struct scratch *s, __u64 n, int w3c)
{
	__u64 pos, carriage, pair;
	const __u8 *at;

	FORGET_MEMORY();
	pos = s->start;
#pragma clang loop unroll(disable)
	for (int i = 0; i < STEPS; i++) {
		OPAQUE(pos);
		pos &= POSITIONS;
		OPAQUE(pos);
		if (pos >= n)
			return 0;
		at = s->buf + pos;
		carriage = load8(at) ^ REPEAT('\r');
		if (!zero_bytes(carriage)) {
			pos += 8;
			continue;
		}
		pair = zero_bytes(carriage | (load8(at + 1) ^ REPEAT('\n')));
		if (!pair) {
			pos += 8;
			continue;
		}
		pos += first_mark(pair);
		OPAQUE(pos);
		if (pos >= n)
			return 0;
		s->end[s->open & (FIELDS - 1)] = pos;
		if (w3c && s->open == FIELD_W3C)
			return pos;
		s->open = FIELD_NONE;
		at = s->buf + pos + 2;
		if (FIRST(load8(at), 2) == 0x0a0d) {
			s->empty_line = pos + 2 < n;
			return 0;
		}
		open_named(s, at, pos + 2, w3c);
		pos += 3;
	}
	return 0;
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

/* Number of bytes behind the last mark, 8 without any. */
static __always_inline __u64 behind_last_mark(__u64 marks)
{
	marks |= marks >> 8;
	marks |= marks >> 16;
	marks |= marks >> 32;
	return ((~marks & HIGH_BITS) >> 7) * REPEAT(1) >> 56;
}

/*
 * An offset read from memory, made known to the verifier as at most WINDOW. The asm keeps clang from
 * merging two comparisons into one on a difference, of which the verifier learns nothing (6.18:
 * "unbounded memory access").
 */
static __always_inline __u64 bounded(__u64 offset)
{
	OPAQUE(offset);
	if (offset > WINDOW)
		offset = 0;
	OPAQUE(offset);
	return offset;
}

/*
 * Trims blanks at both ends of all values. One loop over all fields: they do not overlap, so that
 * the window bounds its length.
 */
static __always_inline void trim_values(struct scratch *s)
{
	__u64 field = 1, trailing = 0, from, end, skip;

#pragma clang loop unroll(disable)
	for (int i = 0; i < WINDOW / 8 + 3 * FIELDS; i++) {
		if (field >= FIELDS)
			return;
		from = bounded(s->from[field]);
		end = bounded(s->end[field]);
		if (from >= end || end < 8) {
			field++;
			trailing = 0;
			continue;
		}
		if (!trailing) {
			skip = not_blank(load8(s->buf + from));
			skip = skip ? first_mark(skip) : 8;
			s->from[field] = from + skip;
			trailing = skip < 8;
			continue;
		}
		skip = behind_last_mark(not_blank(load8(s->buf + end - 8)));
		s->end[field] = end - skip;
		if (skip < 8) {
			field++;
			trailing = 0;
		}
	}
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

static __always_inline void begin_values(struct scratch *s, int w3c)
{
	s->blanks = 0;
	if (w3c) {
		begin_value(s, FIELD_W3C, sizeof("traceparent"));
	} else {
		begin_value(s, FIELD_B3, sizeof("b3"));
		begin_value(s, FIELD_TRACEID, sizeof("x-b3-traceid"));
		begin_value(s, FIELD_SPANID, sizeof("x-b3-spanid"));
		begin_value(s, FIELD_SAMPLED, sizeof("x-b3-sampled"));
		begin_value(s, FIELD_FLAGS, sizeof("x-b3-flags"));
	}
	FORGET_MEMORY();
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

/* High bits where a byte is at least `least` (7 bits); the word's own high bits must be 0. */
static __always_inline __u64 at_least(__u64 word, __u64 least)
{
	return word + REPEAT(0x80 - least);
}

/* HIGH_BITS if all eight bytes are hex digits, lower case or (fold) either. */
static __always_inline __u64 hex_marks(__u64 word, int fold)
{
	__u64 low = word & REPEAT(0x7f);
	__u64 letter = fold ? low | REPEAT(0x20) : low;

	return ((at_least(low, '0') & ~at_least(low, ':')) |
		(at_least(letter, 'a') & ~at_least(letter, 'g'))) & ~word & HIGH_BITS;
}

/* Four bytes, in the order of the text, from eight hex digits. */
static __always_inline __u64 unhex(__u64 word)
{
	word = (word & REPEAT(0x0f)) + (word >> 6 & REPEAT(1)) * 9;
	word = (word << 4 | word >> 8) & 0x00ff00ff00ff00ffULL;
	word = (word | word >> 8) & 0x0000ffff0000ffffULL;
	return (word | word >> 16) & 0xffffffff;
}

/* Eight bytes from sixteen hex digits; clears `valid` bits where one is none. */
static __always_inline __u64 unhex16(const __u8 *digits, int fold, __u64 *valid)
{
	__u64 one = load8(digits), two = load8(digits + 8);

	*valid &= hex_marks(one, fold) & hex_marks(two, fold);
	return unhex(one) | unhex(two) << 32;
}

static __always_inline int has_ids(const struct context *x)
{
	return (x->trace_id[0] | x->trace_id[1]) && x->span_id;
}

/* W3C Trace Context, section 3.2.2: version 00, and how to read later ones. */
static __always_inline int find_w3c(struct scratch *s, struct context *x)
{
	__u64 bytes, valid = HIGH_BITS, rest;
	const __u8 *v = value(s, FIELD_W3C, &bytes);

	if (bytes < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-')
		return 0;
	rest = (__u64)v[0] | (__u64)v[1] << 8 | (__u64)v[53] << 16 | (__u64)v[54] << 24 | 0x3030303000000000ULL;
	valid &= hex_marks(rest, 0);
	x->trace_id[0] = unhex16(v + 3, 0, &valid);
	x->trace_id[1] = unhex16(v + 19, 0, &valid);
	x->span_id = unhex16(v + 36, 0, &valid);
	if (valid != HIGH_BITS || !has_ids(x))
		return 0;
	rest = unhex(rest);
	if ((rest & 0xff) == 0xff)
		return 0;
	if (bytes > 55 && (!(rest & 0xff) || v[55] != '-'))
		return 0;
	x->kind = CONTEXT_W3C;
	x->offset = s->at[FIELD_W3C];
	x->flags = rest >> 8 & 0xff;
	return 1;
}

/* Trace id of 16 or 32 digits and span id, of either case. */
static __always_inline int read_b3_ids(struct context *x, const __u8 *trace, __u64 digits, const __u8 *span)
{
	__u64 valid = HIGH_BITS;

	x->trace_id[0] = 0;
	if (digits == 32) {
		x->trace_id[0] = unhex16(trace, 1, &valid);
		trace += 16;
	}
	x->trace_id[1] = unhex16(trace, 1, &valid);
	x->span_id = unhex16(span, 1, &valid);
	return valid == HIGH_BITS && has_ids(x);
}

/* B3 single: trace-span[-state[-parent]]. */
static __always_inline int find_b3(struct scratch *s, struct context *x)
{
	__u64 bytes, digits, valid = HIGH_BITS, state = 0;
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
	if (bytes == 19) {
		unhex16(tail + 3, 1, &valid);
		if (tail[2] != '-' || valid != HIGH_BITS)
			return 0;
	}
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
	__u64 resume;

	s->start = 0;
	if (CONTEXTS & CONTEXTS_W3C) {
		resume = walk_lines(s, n, 1);
		if (resume) {
			begin_values(s, 1);
			if (find_w3c(s, x))
				return;
			s->open = FIELD_NONE;
			s->start = resume;
			if (CONTEXTS != CONTEXTS_W3C)
				walk_lines(s, n, 0);
		}
	} else {
		walk_lines(s, n, 0);
	}
	FORGET_MEMORY();
	if (CONTEXTS != CONTEXTS_W3C) {
		begin_values(s, 0);
		if (find_b3(s, x) || find_multi(s, x))
			return;
	}
	x->kind = CONTEXT_NONE;
	if (!s->empty_line)
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
	for (int i = 0; i < FIELDS; i++) {
		s->at[i] = 0;
		s->from[i] = 0;
		s->end[i] = 0;
	}
	s->open = FIELD_NONE;
	s->empty_line = 0;
	x->kind = CONTEXT_NONE;
	x->quality = 0;
	if (n < 4 || n > WINDOW) /* never: a request start has 4 bytes; 6.1 wants to see the bounds here */
		return;
	if (load_bytes(skb, offset, s->buf, n))
		return;
	s->buf[n] = '\n';
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

static __always_inline void release_way(struct way *way, __u64 key)
{
	__sync_lock_test_and_set(&way->key, key);
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

	if (!x || x->kind == CONTEXT_NONE)
		return (bits & META_REQUIRE_SAMPLED) != 0;
	if ((bits & META_REQUIRE_SAMPLED) && !(x->flags & 1))
		return 1;
	if (!shift)
		return 0;
	hash = (swap64(x->trace_id[1]) ^ swap64(x->trace_id[0]) * GOLDEN64) * MIX64;
	return hash >> (64 - shift) != 0;
}

/* This CPU's scratch with the context found, or nothing (counted) while another task uses it. */
static __always_inline struct scratch *context_of(struct __sk_buff *skb, const struct packet *p,
						  struct counters *c)
{
	__u32 zero = 0;
	struct scratch *s = oh_scratch.lookup(&zero);

	if (!s)
		return 0;
	if (__sync_lock_test_and_set(&s->busy, 1)) {
		c->scratch_busy++;
		return 0;
	}
	s->payload = p->payload;
	s->n = p->payload_len < WINDOW ? p->payload_len : WINDOW;
	FORGET_MEMORY();
	search(skb, s);
	return s;
}

static __always_inline void release_scratch(struct scratch *s)
{
	if (s)
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

static __always_inline void fill_context(struct record *r, const struct context *x)
{
	if (!x || x->kind == CONTEXT_NONE) {
		r->trace_id[0] = r->trace_id[1] = r->span_id = 0;
		r->context_offset = 0;
		r->trace_flags = 0;
		r->quality = x ? x->quality : QUALITY_WINDOW_EXCEEDED;
		return;
	}
	r->trace_id[0] = x->trace_id[0];
	r->trace_id[1] = x->trace_id[1];
	r->span_id = x->span_id;
	r->context_offset = x->offset;
	r->trace_flags = x->flags;
	r->encap_context = x->kind << 4;
	r->quality = x->quality;
}

static __always_inline void fill(struct record *r, struct __sk_buff *skb, const struct packet *p,
				 const struct stamp *stamp, const struct context *x, __u64 now, __u64 point)
{
	r->encap_context = 0;
	fill_context(r, x);
	if (stamp->meta & META_RETRANSMIT)
		r->quality |= QUALITY_RETRANSMIT;
	if (stamp->dport != p->dport || differs(stamp->dst, p->dst))
		r->quality |= QUALITY_DNAT;
	if (stamp->sport != p->sport || stamp->src_hash != p->src_hash)
		r->quality |= QUALITY_SNAT;
	r->second_ns = now;
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
	r->segments = skb->gso_segs ? skb->gso_segs : 1;
	r->kind_message = kind_of(stamp->meta >> META_POINT_SHIFT & 1, point);
	r->encap_context |= p->encap ? p->encap : stamp->meta >> META_ENCAP_SHIFT & 7;
}

/* Exactly one of sampled_out, ring_full and records. */
static __always_inline void emit(struct __sk_buff *skb, const struct packet *p, const struct stamp *stamp,
				 const struct context *x, __u64 bits, __u64 now, __u64 point, struct counters *c)
{
	struct record *r;

	if (FILTER && is_sampled_out(x, bits)) {
		c->sampled_out++;
		return;
	}
	r = oh_ring.ringbuf_reserve(sizeof(*r));
	if (!r) {
		c->ring_full++;
		return;
	}
	fill(r, skb, p, stamp, x, now, point);
	oh_ring.ringbuf_submit(r, BPF_RB_NO_WAKEUP);
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
	s = context_of(skb, p, c);
	emit(skb, p, stamp, s ? &s->found : 0, bits, now, point, c);
	release_scratch(s);
}

/* ---- programs ----------------------------------------------------------------------------- */

static __always_inline void first_point(struct __sk_buff *skb, __u64 point, int nic, __u64 key_shift)
{
	__u64 now = bpf_ktime_get_ns(), meta = 0;
	struct counters *c;
	struct packet p;

	if (!request_start(skb, &p, nic))
		return;
	c = counters();
	if (!c)
		return;
	p.key += key_shift;
	addresses(skb, &p);
	c->first++;
	if (point == VPORT_IN)
		meta = filter_bits(skb, DIRECTION_IN);
	store(skb, &p, now, point, meta, c);
}

static __always_inline void second_point(struct __sk_buff *skb, __u64 point, int nic, __u64 key_shift)
{
	__u64 now = bpf_ktime_get_ns();
	struct stamp stamp = {};
	struct counters *c;
	struct packet p;
	int result;

	if (!request_start(skb, &p, nic))
		return;
	c = counters();
	if (!c)
		return;
	p.key += key_shift;
	addresses(skb, &p);
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
