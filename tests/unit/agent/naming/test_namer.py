# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.naming import flows as name_flows
from agent.naming import namer as naming
from agent.naming.flows import flow_keys, flow_of
from agent.naming.namer import Namer
from agent.naming.tables import NameTables
from agent.network.links import Link
from agent.plan.model import Plan, VportPlan, parse_plan
from agent.plan.names import NamesPlan, PodName
from bpf.record import ContextKind, Encap, Kind, Quality
from tests.unit.agent.made_records import SECOND_NS, made

PLAN = parse_plan("""\
nic: eth0
vports:
  - {match: veth-web, namespace: shop, pod: web-1, workload: web, addresses: [10.1.0.1, "fd00:1::1"]}
  - {match: veth-db, namespace: shop, workload: db, addresses: [10.1.0.2]}
  - {match: "veth*"}
names:
  pods:
    - {namespace: shop, pod: far-0, workload: far, addresses: [10.2.0.1, "fd00:2::1"]}
  nodes: [{name: n2, addresses: [172.18.0.12]}]
  services:
    - {namespace: shop, name: far, addresses: [10.96.0.10], port: 80, node_port: 30080}
    - {name: bare, addresses: [10.96.0.11], port: 80}
  pod_networks: [10.0.0.0/8, "fd00::/16"]
""")
NIC, WEB, DB, PLAIN = 2, 11, 12, 13
LINKS = [Link(NIC, "eth0"), Link(WEB, "veth-web"), Link(DB, "veth-db"), Link(PLAIN, "veth9")]
OWN = (ip_address("172.18.0.11"), ip_address("10.1.0.254"))
WEB_END, DB_END, FAR_END = ("shop", "web-1", "web"), ("shop", "db", "db"), ("shop", "far-0", "far")
Ends = tuple[tuple[str, ...], tuple[str, ...], str]


def namer(plan: Plan = PLAN, links: list[Link] = LINKS) -> Namer:
    found = Namer()
    found.update(plan, links, 0, OWN)
    return found


def ends(one: Namer, records: np.ndarray) -> list[Ends]:
    rows = [one.names.rows[code] for code in one.codes(records)]
    return [(row[2:5], row[5:8], row[8]) for row in rows]


def bucket(name: str) -> tuple[str, str, str]:
    return ("", "", name)


def test_codes_of_no_records_are_none() -> None:
    assert len(namer().codes(made()[:0])) == 0


def test_codes_name_every_column() -> None:
    one = namer()
    record = made(
        Kind.TX, "10.1.0.1", "10.2.0.1", first_ifindex=WEB, encap=Encap.IPIP, context=ContextKind.B3_MULTI
    )
    assert [one.names.rows[code] for code in one.codes(record)] == [
        ("tx", "request", "shop", "web-1", "web", "shop", "far-0", "far", "", "ipip", "b3-multi")
    ]


def test_source_of_tx_and_local_is_the_first_vport_whatever_its_address() -> None:
    tx = made(Kind.TX, "10.9.9.9", "10.2.0.1", first_ifindex=WEB)
    local = made(Kind.LOCAL, "10.9.9.9", "10.9.9.8", first_ifindex=WEB, second_ifindex=DB)
    assert ends(namer(), np.concatenate([tx, local])) == [
        (WEB_END, FAR_END, ""),
        (WEB_END, DB_END, ""),
    ]


def test_destination_of_rx_is_the_second_vport_and_its_source_is_by_address() -> None:
    assert ends(namer(), made(Kind.RX, "10.2.0.1", "10.9.9.9", second_ifindex=DB)) == [(FAR_END, DB_END, "")]


def test_ends_by_ipv6_address_are_pods_too() -> None:
    record = made(Kind.FORWARD, "fd00:2::1", "fd00:1::1")
    assert ends(namer(), record) == [(FAR_END, WEB_END, "")]


def test_ends_of_an_unknown_vport_are_by_address() -> None:
    record = made(Kind.LOCAL, "10.1.0.1", "10.1.0.2", first_ifindex=77, second_ifindex=78)
    assert ends(namer(), record) == [(WEB_END, DB_END, "")]


def test_vport_without_names_is_named_after_its_interface() -> None:
    record = made(Kind.TX, "10.1.0.9", "10.2.0.1", first_ifindex=PLAIN)
    assert ends(namer(), record) == [(("", "veth9", "veth9"), FAR_END, "")]


def test_vport_called_like_a_bucket_is_no_bucket() -> None:
    one = namer(Plan.model_validate({"nic": ["eth0"], "vports": [{"match": "*"}]}), [Link(5, "external")])
    assert ends(one, made(Kind.TX, first_ifindex=5))[0][0] == ("", "external", "vport external")


def test_nic_that_a_pattern_fits_is_no_vport() -> None:
    plan = parse_plan("nic: veth-nic\nvports: [{match: 'veth*', namespace: shop, pod: web}]")
    record = made(Kind.TX, first_ifindex=5)
    assert ends(namer(plan, [Link(5, "veth-nic")]), record)[0][0] == bucket("unknown")


@pytest.mark.parametrize(
    ("address", "name"),
    [("172.18.0.11", "host"), ("172.18.0.12", "host"), ("10.1.0.254", "host"), ("10.7.7.7", "unknown"),
     ("fd00:9::1", "unknown"), ("192.0.2.1", "external"), ("2001:db8::1", "external")],
)  # fmt: skip
def test_address_without_a_pod_is_a_bucket(address: str, name: str) -> None:
    other = "10.2.0.1" if "." in address else "fd00:2::1"
    assert ends(namer(), made(Kind.FORWARD, address, other)) == [(bucket(name), FAR_END, "")]
    assert ends(namer(), made(Kind.FORWARD, other, address)) == [(FAR_END, bucket(name), "")]


def test_address_without_known_pod_networks_is_unknown() -> None:
    assert ends(namer(parse_plan("nic: eth0")), made(Kind.FORWARD, "192.0.2.1", "10.2.0.1")) == [
        (bucket("unknown"), bucket("unknown"), "")
    ]


def test_translated_source_is_masqueraded_unless_a_vport_says_who() -> None:
    forward = made(Kind.FORWARD, "172.18.0.11", "10.2.0.1", quality=Quality.SNAT)
    rx = made(Kind.RX, "10.1.0.254", "10.1.0.1", second_ifindex=WEB, quality=Quality.SNAT)
    tx = made(Kind.TX, "172.18.0.11", "10.2.0.1", first_ifindex=WEB, quality=Quality.SNAT)
    found = ends(namer(), np.concatenate([forward, rx, tx]))
    assert [source for source, _, _ in found] == [bucket("masqueraded"), bucket("masqueraded"), WEB_END]


@pytest.mark.parametrize(
    ("address", "port", "service"),
    [("10.96.0.10", 80, "shop/far"), ("10.96.0.11", 80, "bare"), ("10.96.0.10", 81, "unknown"),
     ("10.96.0.99", 80, "unknown"), ("172.18.0.12", 30080, "shop/far"), ("172.18.0.11", 30080, "shop/far"),
     ("172.18.0.12", 30081, "unknown"), ("192.0.2.1", 30080, "unknown")],
)  # fmt: skip
def test_service_is_what_was_called_before_nat(address: str, port: int, service: str) -> None:
    record = made(
        Kind.TX,
        "10.1.0.1",
        "10.2.0.1",
        first_ifindex=WEB,
        dst_before=address,
        dport_before=port,
        quality=Quality.DNAT,
    )
    assert ends(namer(), record) == [(WEB_END, FAR_END, service)]


def test_service_without_nat_is_empty_even_at_a_services_address() -> None:
    record = made(Kind.TX, "10.1.0.1", "10.96.0.10", first_ifindex=WEB, dport=80)
    assert ends(namer(), record)[0][2] == ""


def test_address_that_two_pods_claim_is_ambiguous() -> None:
    plan = parse_plan(
        "names: {pods: [{pod: a, addresses: 10.2.0.1}, {pod: b, addresses: 10.2.0.1}],"
        " services: [{name: s, addresses: 10.9.0.1, port: 80}, {name: t, addresses: 10.9.0.1, port: 80}]}"
    )
    one = namer(plan)
    record = made(
        Kind.FORWARD, "10.2.0.1", "10.2.0.1", dst_before="10.9.0.1", dport_before=80, quality=Quality.DNAT
    )
    assert ends(one, record) == [(bucket("ambiguous"), bucket("ambiguous"), "ambiguous")]
    assert one.counters()["ambiguous"] == 1


def test_codes_of_the_same_flow_are_the_same_over_ports_and_batches() -> None:
    one = namer()
    batches = [made(sport=port, dport=port + 1, trace=port) for port in range(1000, 1100)]
    codes = {int(code) for batch in batches for code in one.codes(batch)}
    codes |= set(one.codes(np.concatenate(batches)).tolist())
    assert codes == {0}
    assert len(one.names) == 1


def test_update_renames_flows_that_were_named_before() -> None:
    one = namer()
    record = made(Kind.TX, "10.1.0.1", "10.2.0.2", first_ifindex=WEB, at_ns=SECOND_NS)
    assert ends(one, record) == [(WEB_END, bucket("unknown"), "")]
    text = "nic: eth0\nvports: [{match: veth-web, namespace: shop, pod: web-1, workload: web}]\n"
    more = parse_plan(text + "names: {pods: [{namespace: shop, pod: new-0, addresses: 10.2.0.2}]}")
    one.update(more, LINKS, 2 * SECOND_NS, OWN)
    record["second_ns"] = 2 * SECOND_NS
    assert ends(one, record) == [(WEB_END, ("shop", "new-0", "new-0"), "")]


def test_update_of_vports_keeps_and_update_of_names_changes_what_is_known_of_other_nodes() -> None:
    one = namer()
    far = made(Kind.FORWARD, "10.2.0.1", "172.18.0.11")
    for plan in (PLAN, PLAN.model_copy(update={"vports": ()})):
        one.update(plan, LINKS[:1], 0, OWN)
        assert ends(one, far) == [(FAR_END, bucket("host"), "")]
    one.update(Plan(), LINKS[:1], 0, OWN[1:])
    far["second_ns"] = 601 * SECOND_NS
    assert ends(one, far) == [(bucket("unknown"), bucket("unknown"), "")]
    one.update(PLAN, LINKS, 700 * SECOND_NS, OWN)
    far["second_ns"] = 701 * SECOND_NS
    assert ends(one, far) == [(FAR_END, bucket("host"), "")]


def test_address_of_a_vport_goes_before_what_the_plan_says_of_other_nodes() -> None:
    here = "vports: [{match: veth-web, namespace: shop, pod: web-1, workload: web, addresses: 10.2.0.1}]\n"
    pods, nodes = "[{pod: old-0, addresses: [10.2.0.1, 172.18.0.11]}]", "[{name: n2, addresses: 10.2.0.1}]"
    names = f"names: {{pods: {pods}, nodes: {nodes}}}"
    one = namer(parse_plan(here + names))
    assert ends(one, made(Kind.FORWARD, "10.2.0.1", "172.18.0.11")) == [(WEB_END, ("", "old-0", "old-0"), "")]
    one.update(parse_plan(names), [], 100 * SECOND_NS)
    late = made(Kind.FORWARD, "10.2.0.1", "10.2.0.1", at_ns=106 * SECOND_NS)
    assert ends(one, late)[0][0] == ("", "old-0", "old-0")


def test_update_that_names_a_vport_better_is_no_second_owner() -> None:
    one = namer(parse_plan("nic: eth0\nvports: [{match: 'veth*', addresses: 10.1.0.1}]"), LINKS[:2])
    record = made(Kind.TX, "10.1.0.1", "10.2.0.1", first_ifindex=WEB, at_ns=SECOND_NS)
    assert ends(one, record)[0][0] == ("", "veth-web", "veth-web")
    one.update(PLAN, LINKS, SECOND_NS)
    assert ends(one, record)[0][0] == WEB_END
    assert one.counters()["ambiguous"] == 0


def test_vport_that_is_gone_keeps_its_name_for_ten_minutes() -> None:
    one = namer()
    one.update(PLAN, [LINKS[0]], 100 * SECOND_NS, OWN)
    record = made(Kind.TX, "10.9.9.9", "10.2.0.1", first_ifindex=WEB)
    found = []
    for second in (99, 104, 699, 700):
        record["second_ns"] = second * SECOND_NS
        found += [source for source, _, _ in ends(one, record)]
    assert found == [WEB_END, WEB_END, WEB_END, bucket("unknown")]


def reused_address() -> Namer:
    """10.2.0.1 was far-0's until 100 s, and is new-0's from 102 s on."""
    one = namer(parse_plan("names: {pods: [{namespace: shop, pod: far-0, addresses: 10.2.0.1}]}"))
    one.update(Plan(), [], 100 * SECOND_NS)
    new = "names: {pods: [{namespace: shop, pod: new-0, addresses: 10.2.0.1}]}"
    one.update(parse_plan(new), [], 102 * SECOND_NS)
    return one


def test_reused_address_is_its_owners_at_the_hops_time_and_ambiguous_in_between() -> None:
    seconds = [90, 96, 97, 100, 104, 105, 106]
    records = np.concatenate([made(Kind.FORWARD, "10.2.0.1", at_ns=at * SECOND_NS) for at in seconds])
    want = ["far-0", "far-0", "ambiguous", "ambiguous", "ambiguous", "new-0", "new-0"]
    one = reused_address()
    assert [source[2] for source, _, _ in ends(one, records)] == want
    assert one.counters()["ambiguous"] == 3
    for at, name in zip(seconds, want, strict=True):  # each alone, after flows are known
        record = made(Kind.FORWARD, "10.2.0.1", at_ns=at * SECOND_NS)
        assert ends(one, record)[0][0][2] == name


def test_reused_address_out_of_order_is_still_its_owners_at_the_hops_time() -> None:
    one = reused_address()
    for at, name in ((106, "new-0"), (90, "far-0"), (106, "new-0"), (101, "ambiguous"), (90, "far-0")):
        assert ends(one, made(Kind.FORWARD, "10.2.0.1", at_ns=at * SECOND_NS))[0][0][2] == name


def test_counters_count_hops_by_what_is_not_known() -> None:
    one = namer()
    unknown_source = made(Kind.RX, "10.7.7.7", "10.1.0.1", second_ifindex=WEB, latencies_ns=(1, 2, 3))
    unknown_destination = made(Kind.TX, "10.1.0.1", "10.7.7.7", first_ifindex=WEB)
    service = made(Kind.TX, "10.1.0.1", "10.2.0.1", first_ifindex=WEB, dst_before="10.9.9.9",
                   dport_before=1, quality=Quality.DNAT)  # fmt: skip
    for batch in (unknown_source, unknown_destination, service, unknown_source):
        one.codes(batch)
    assert one.counters() == {
        "unknown_source": 6,
        "unknown_destination": 1,
        "unknown_service": 1,
        "ambiguous": 0,
        "flows_rebuilt": 0,
        "names_renumbered": 0,
    }


def test_pod_called_unknown_in_a_namespace_is_not_counted_as_unknown() -> None:
    one = namer(parse_plan("names: {pods: [{namespace: x, pod: unknown, addresses: 10.2.0.1}]}"))
    one.codes(made(Kind.FORWARD, "10.2.0.1", "10.2.0.1"))
    assert one.counters()["unknown_source"] == 0


def many_sources(count: int) -> np.ndarray:
    records = np.repeat(made(Kind.FORWARD, "192.0.2.1", "10.2.0.1"), count)
    addresses = np.zeros((count, 16), np.uint8)
    addresses[:, 10:12] = 0xFF
    addresses[:, 12:] = (np.arange(count) + 0xC0000000).astype(">u4").view(np.uint8).reshape(count, 4)
    records["src"] = addresses.view("V16").reshape(-1)
    return records


def test_more_flows_than_are_remembered_are_all_named() -> None:
    one = namer()
    records = many_sources(45_000)
    records["src"][::9] = made(src="10.2.0.1")["src"]
    for _ in range(2):
        codes = one.codes(records)
        assert [one.names.rows[code][4] for code in codes[:9]] == ["far"] + ["external"] * 8
        assert np.array_equal(codes == codes[0], np.arange(45_000) % 9 == 0)
    assert one.counters()["flows_rebuilt"] >= 2


def test_flows_with_colliding_hashes_get_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_flows, "_FACTORS", np.zeros(8, np.uint64))
    one = namer()
    records = np.concatenate(
        [made(Kind.RX, source, "10.1.0.1", second_ifindex=WEB) for source in
         ("10.2.0.1", "192.0.2.1", "172.18.0.11", "10.7.7.7")] * 3
    )  # fmt: skip
    want = ["far", "external", "host", "unknown"] * 3
    for _ in range(3):
        assert [source[2] for source, _, _ in ends(one, records)] == want


def test_more_colliding_flows_than_places_are_searched_are_still_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(name_flows, "_FACTORS", np.zeros(8, np.uint64))
    one = namer()
    records = many_sources(100)
    records["src"][50:] = made(src="10.2.0.1")["src"]
    records["first_ifindex"][50:] = np.arange(50)
    for _ in range(2):
        assert [source[2] for source, _, _ in ends(one, records)] == ["external"] * 50 + ["far"] * 50


def test_names_beyond_their_bound_are_numbered_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "MAX_NAMES", 3)
    one = namer()
    for kind in (Kind.RX, Kind.TX, Kind.LOCAL, Kind.FORWARD, Kind.RX):
        record = made(kind, "10.7.7.7", "10.2.0.1")
        codes = one.codes(record)
        assert one.names.rows[codes[0]][0] == kind.label
    assert len(one.names) == 2
    assert one.counters()["names_renumbered"] == 1
    assert one.counters()["unknown_source"] == 5


def test_codes_of_records_that_do_not_lie_side_by_side() -> None:
    records = np.concatenate([made(Kind.RX, second_ifindex=WEB), made(Kind.TX, first_ifindex=DB)] * 3)
    assert [destination for _, destination, _ in ends(namer(), records[::2])] == [WEB_END] * 3


STEPS = st.lists(
    st.tuples(
        st.integers(0, 400),  # seconds that pass
        st.tuples(*[st.sampled_from(["", "a", "b"])] * 3),  # whose addresses 1 to 3 are now
        st.tuples(*[st.sampled_from(["", "a", "b"])] * 2),  # whose interfaces 11 and 12 are now
        st.lists(  # hops: seconds ago, kind, source, destination, interface
            st.tuples(
                st.integers(0, 30),
                st.sampled_from(list(Kind)),
                st.integers(1, 3),
                st.integers(1, 3),
                st.integers(11, 12),
            ),
            max_size=8,
        ),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.booleans())
def test_codes_are_what_the_tables_say_of_each_record_alone(
    steps: list[tuple[int, tuple[str, ...], tuple[str, ...], list[tuple[int, Kind, int, int, int]]]],
    is_whole: bool,
) -> None:
    """What is remembered of flows never shows, however names change and whatever the order of hops."""
    one, tables, now_s = Namer(), NameTables(), 1000
    for pause_s, owners, vports, hops in steps:
        now_s += pause_s
        pods = tuple(
            PodName(pod=pod, addresses=(ip_address(f"10.2.0.{number}"),))
            for number, pod in enumerate(owners, start=1)
            if pod
        )
        named = tuple(VportPlan(match=f"v{pod}", pod=pod) for pod in "ab")
        plan = Plan(vports=named, names=NamesPlan(pods=pods))
        links = [Link(11 + number, f"v{pod}") for number, pod in enumerate(vports) if pod]
        one.update(plan, links, now_s * SECOND_NS)
        tables.update(plan, links, (), now_s * SECOND_NS)
        records = [
            made(kind, f"10.2.0.{src}", f"10.2.0.{dst}", first_ifindex=vport, second_ifindex=vport,
                 at_ns=(now_s - ago_s) * SECOND_NS)
            for ago_s, kind, src, dst, vport in hops
        ]  # fmt: skip
        batches = [np.concatenate(records)] if is_whole and records else records
        found = [row for batch in batches for row in ends(one, batch)]
        for record, (source, destination, _) in zip(records, found, strict=True):
            flow, _, _ = flow_of(flow_keys(record, np.zeros((1, 8), np.uint64))[0])
            want = tables.named(flow, int(record["second_ns"][0]))
            assert (source[2], destination[2]) == (want.source.workload, want.destination.workload)
