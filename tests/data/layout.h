// SPDX-License-Identifier: Apache-2.0
/* What Python says of the layouts comes as -D options: AT_struct_field and BYTES_struct. */
#define AT(type, field) \
	_Static_assert(__builtin_offsetof(struct type, field) == AT_##type##_##field, #type "." #field)
#define BYTES(type) _Static_assert(sizeof(struct type) == BYTES_##type, "size of " #type)

BYTES(record);
AT(record, second_ns);
AT(record, trace_id);
AT(record, span_id);
AT(record, src);
AT(record, dst);
AT(record, dst_before_nat);
AT(record, latency_ns);
AT(record, seq);
AT(record, ack);
AT(record, vni);
AT(record, first_ifindex);
AT(record, second_ifindex);
AT(record, payload_len);
AT(record, first_wait_ns);
AT(record, sport);
AT(record, dport);
AT(record, sport_before_nat);
AT(record, dport_before_nat);
AT(record, context_offset);
AT(record, segments);
AT(record, kind_message);
AT(record, encap_context);
AT(record, trace_flags);
AT(record, quality);

BYTES(way);
AT(way, key);
AT(way, time_vni);
AT(way, dst);
AT(way, ifindex);
AT(way, sport);
AT(way, dport);
AT(way, src_hash);
AT(way, meta);

BYTES(counters);
AT(counters, first);
AT(counters, taken);
AT(counters, refreshed);
AT(counters, slot_busy);
AT(counters, overwritten);
AT(counters, expired);
AT(counters, second);
AT(counters, not_for_this_vport);
AT(counters, unmatched_local);
AT(counters, unmatched_taken);
AT(counters, unmatched);
AT(counters, slot_busy_second);
AT(counters, records);
AT(counters, ring_full);
AT(counters, sampled_out);
AT(counters, filtered);
AT(counters, fragment);
AT(counters, ext_headers);
AT(counters, malformed);
AT(counters, looks_tls);
AT(counters, looks_h2);
AT(counters, scratch_busy);

_Static_assert(NIC_IN == POINT_NIC_IN && VPORT_IN == POINT_VPORT_IN && NIC_OUT == POINT_NIC_OUT &&
		       VPORT_OUT == POINT_VPORT_OUT, "points");
