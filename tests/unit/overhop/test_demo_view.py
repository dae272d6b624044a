# SPDX-License-Identifier: Apache-2.0
import io
from dataclasses import replace

import pytest
from rich.console import Console

from overhop.demo.found import Found, Took
from overhop.demo.outcome import Outcome
from overhop.demo.serving import Invitation
from overhop.demo.view import invitation_lines, render, took_lines
from overhop.trace import Wire
from tests.unit.demo_records import TRACE, account, outcome, sight, trace_hop


def text_of(shown: Outcome, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(render(shown, width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def part(lines: list[str], title: str) -> list[str]:
    """Lines below the title, down to the next empty one."""
    rest = lines[next(at for at, line in enumerate(lines) if line.startswith(title)) + 1 :]
    return rest[: rest.index("")] if "" in rest else rest


def test_render_100_columns_has_picture_tables_and_trace() -> None:
    lines = text_of(outcome(), 100)
    assert part(lines, "the lab") == [
        "  node n1  172.18.0.11                 node n2  172.18.0.12",
        "  ├─ pod client  10.244.1.2            └─ pod web  10.244.2.2",
        "  └─ pod cache   10.244.1.3",
        "  eth0 ═══════════════ VXLAN ════════════════ eth0",
        "  service web 10.96.0.10:80, node port 30080 → web:8080",
        "  external 172.18.0.250, outside the cluster",
    ]
    assert part(lines, "requests: 30 of 30 found with every hop") == [
        "  route      from → to             hops          requests  found",
        "  service    client → service web  n1 tx, n2 rx        20     20",
        "  same node  client → cache        n1 local            10     10",
        "  contexts: w3c 20 of 20, none 10 of 10",
    ]
    assert part(lines, "hops of both nodes") == [
        "  kind   way        count  p50 µs  p99 µs  max µs  quality",
        "  rx     NIC → pod     20    2.40    6.46    35.4  all plain",
        "  tx     pod → NIC     20    3.26    8.66   1,234  dnat 20",
        "  local  pod → pod     10    1.80    2.87    3.54  no_context 10",
    ]
    assert part(lines, "hops by workload") == [
        "kind node from        to       service  hops p50 µs p99 µs max µs",
        "tx   n1   shop/client shop/web shop/web   20   2.40   6.46   35.4",
        "rx   n2   shop/client shop/web            20   2.40   6.46   35.4",
    ]
    assert part(lines, "accounting")[:8] == [
        "  node  counters                         verdict",
        "  n1    first 32 = taken 30 + expired 2  adds up",
        "        second 30 = taken 30             adds up",
        "        taken 30 = records 30            adds up",
        "        records 30 = hops 30             adds up",
        "        records 30 = samples 30          adds up",
        "        read back: 30 hops, 30 samples   all of them",
        "  n2    first 20 = taken 20              adds up",
    ]
    trace = part(lines, "one trace")
    assert trace[0] == f"  trace id {TRACE}, context w3c at byte 62 of 134"
    assert [line.split()[:5] for line in trace if "→" in line and "·" not in line and "NIC" not in line][
        1:
    ] == [
        ["0.0", "n1", "tx", "client:40000", "→"],
        ["4.5", "n2", "rx", "client:40000", "→"],
    ]
    assert lines[0] == "the lab, in network namespaces (gone again)"
    assert part(lines, "time of each step") == ["  build the lab 0.6 s · send the requests 1.2 s"]


def test_render_60_columns_puts_nodes_below_each_other_and_leaves_addresses_out() -> None:
    lines = text_of(outcome(), 60)
    assert part(lines, "the lab")[:6] == [
        "  node n1  172.18.0.11",
        "  ├─ pod client  10.244.1.2",
        "  └─ pod cache   10.244.1.3",
        "  node n2  172.18.0.12",
        "  └─ pod web  10.244.2.2",
        "  the nodes' eth0 are joined by VXLAN",
    ]
    assert part(lines, "requests")[:2] == [
        "  from → to             hops          requests  found",
        "  client → service web  n1 tx, n2 rx        20     20",
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_render_any_width_no_line_is_wider(width: int) -> None:
    assert max(len(line) for line in text_of(outcome(), width)) <= width


def test_render_without_a_trace_says_why() -> None:
    lines = text_of(replace(outcome(), trace_id="", trace=()), 80)
    assert "no trace: no request with a context has every hop" in lines


def test_render_clocks_that_differ_make_no_promise_of_exact_wire_time() -> None:
    far = replace(outcome(), trace=(trace_hop("n2", "rx", 0, 5, Wire(90, error_ns=1200, sure=False)),))
    text = "\n".join(text_of(far, 100))
    assert "clocks unsure" in text
    assert "one clock" not in text


def mesh(missed: int, window: int) -> Outcome:
    """An outcome with sidecars that write the context at byte 329; `missed` hops of n2 lack it."""
    seen = (sight("n1", "rx", 20), sight("n2", "rx", 20, missed))
    return replace(outcome(), sidecar_offset_bytes=329, window=window, sights=seen)


def test_render_with_sidecars_shows_where_the_context_was_at_each_stop() -> None:
    lines = text_of(mesh(missed=0, window=4096), 100)
    assert part(lines, "where the context was found") == [
        "  node  hop  hops  with context  at byte  encapsulated",
        "  n1    rx     20            20       62  vxlan 20",
        "  n2    rx     20            20       62  vxlan 20",
        "  The client writes it near the beginning, sidecars behind all other headers: on the wire between",
        "  two sidecars it begins at byte 329. Searched: 4,096 bytes.",
    ]


def test_render_window_that_ends_before_the_sidecars_context_says_so_in_words() -> None:
    lines = text_of(mesh(missed=20, window=200), 120)
    shown = part(lines, "where the context was found")
    assert shown[2] == "  n2    rx     20             0           vxlan 20"
    assert " ".join(line.strip() for line in shown[-2:]) == (
        "Not found: in 20 of 40 hops the 200 bytes searched (--window) hold no context: a sidecar writes it"
        " behind all other headers, here at byte 329."
    )


def test_took_lines_of_one_load_are_its_clients_times() -> None:
    (sent,) = (replace(load.sent, took=Took(3149.2, 5982, 7685, 4.02)) for load in outcome().found[:1])
    assert took_lines([Found(sent, 20)]) == [
        "20 answered in 4.0 s; for the client a request took p50 3,149, p99 5,982, max 7,685 µs"
    ]
    assert took_lines(outcome().found) == []


def test_render_of_a_lab_that_stays_says_so() -> None:
    out = io.StringIO()
    Console(file=out, width=60).print(render(outcome(), 60, is_up=True))
    assert out.getvalue().splitlines()[0] == "the lab, in network namespaces (up)"


def test_invitation_lines_have_each_command_on_one_line() -> None:
    invited = Invitation(
        "/tmp/a store", "", "", "ab", "nsenter --net=/run/a curl", "nsenter --net=/run/b curl"
    )
    assert invitation_lines(invited, outcome()) == [
        "",
        "the lab stays up until Ctrl-C, under a low load, traced and stored; as root, in another terminal",
        "  every hop of the last minute:",
        "    overhop hops --store '/tmp/a store' --since 1m",
        "  the trace above:",
        f"    overhop trace {TRACE} --store '/tmp/a store'",
        "  a request by hand, from outside:",
        "    nsenter --net=/run/a curl",
        "  or from a pod:",
        "    nsenter --net=/run/b curl",
        "  where its time went:",
        "    overhop trace ab --store '/tmp/a store' --wait 5",
        "  (in a checkout `overhop` is `./dev run`)",
    ]


def test_invitation_lines_of_a_server_enter_its_namespace_and_name_the_token() -> None:
    invited = Invitation(
        "influxdb2://h:8086/overhop", "nsenter --net=/run/e ", "--store-token-file /d/token", "ab", "x", "y"
    )
    store = "--store influxdb2://h:8086/overhop --store-token-file /d/token"
    assert [line.strip() for line in invitation_lines(invited, outcome()) if "overhop " in line] == [
        f"nsenter --net=/run/e overhop hops {store} --since 1m",
        f"nsenter --net=/run/e overhop trace {TRACE} {store}",
        f"nsenter --net=/run/e overhop trace ab {store} --wait 5",
    ]


def test_render_of_a_server_names_it_and_says_whose_the_other_requests_are() -> None:
    good = outcome()
    n1 = account(30, first=30, taken=30, second=32, unmatched_local=2)
    shown = replace(good, store="influxdb2://172.18.0.250:8086/overhop", accounts={**good.accounts, "n1": n1})
    lines = text_of(shown, 120)
    assert "hops by workload, as stored in influxdb2://172.18.0.250:8086/overhop" in lines
    accounting = part(lines, "accounting")
    assert "        second 32 = taken 30 + unmatched_local 2  adds up" in accounting
    assert "requests of a node's own processes" in " ".join(accounting)
    assert "unmatched_local" not in "\n".join(text_of(good, 120))
