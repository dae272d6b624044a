# SPDX-License-Identifier: Apache-2.0
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from overhop.lab.nat import ServiceRules, calico, flannel, render

CLUSTER = IPv4Network("10.244.0.0/16")
OWN = IPv4Network("10.244.1.0/24")
VIP = IPv4Address("10.96.0.10")
FLANNEL = flannel(CLUSTER, OWN)


def rules_of(text: str, word: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("-A") and word in line]


def test_render_without_services_masquerades_like_flannel() -> None:
    text = render(CLUSTER, FLANNEL, [])
    assert text.startswith("*nat\n")
    assert text.endswith("COMMIT\n")
    assert rules_of(text, "FLANNEL-POSTRTG")[-2:] == [
        "-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
        "-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 -j MASQUERADE --random-fully",
    ]


def test_render_with_calico_masquerades_only_what_leaves_the_pool() -> None:
    text = render(CLUSTER, calico(CLUSTER, "tunl0"), [])
    assert rules_of(text, "-A cali-nat-outgoing") == [
        "-A cali-nat-outgoing -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE --random-fully"
    ]
    assert "-A POSTROUTING -j cali-POSTROUTING" in text
    assert "FLANNEL" not in text


def test_render_three_backends_gives_each_an_equal_share() -> None:
    backends = tuple((IPv4Address(f"10.244.1.{number}"), 8080) for number in (2, 3, 4))
    text = render(CLUSTER, FLANNEL, [ServiceRules("web", VIP, 80, None, backends)])
    shares = [line.split("--probability ")[1].split()[0] for line in rules_of(text, "--mode random")]
    assert shares == ["0.33333333", "0.50000000"]
    assert [line.split()[-1] for line in rules_of(text, "DNAT")] == [
        "10.244.1.2:8080",
        "10.244.1.3:8080",
        "10.244.1.4:8080",
    ]


def test_render_backend_calling_itself_is_marked_for_masquerade() -> None:
    text = render(CLUSTER, FLANNEL, [ServiceRules("web", VIP, 80, None, ((IPv4Address("10.244.1.2"), 80),))])
    (hairpin,) = rules_of(text, "-s 10.244.1.2 ")
    assert hairpin.endswith("-j KUBE-MARK-MASQ")


def test_render_node_port_is_marked_for_masquerade_before_the_service_chain() -> None:
    text = render(CLUSTER, FLANNEL, [ServiceRules("web", VIP, 80, 30080, ((IPv4Address("10.244.1.2"), 80),))])
    (node_port,) = rules_of(text, "--dport 30080")
    chain = node_port.split()[-1]
    first, second = [line for line in rules_of(text, chain) if line.startswith(f"-A {chain} ")]
    assert first == f"-A {chain} -j KUBE-MARK-MASQ"
    assert second.split()[-1].startswith("KUBE-SVC-")


def test_render_ipv6_writes_brackets_and_its_own_multicast() -> None:
    text = render(
        IPv6Network("fd00:10:244::/48"),
        flannel(IPv6Network("fd00:10:244::/48"), IPv6Network("fd00:10:244:1::/64")),
        [
            ServiceRules(
                "web", IPv6Address("fd00:10:96::a"), 80, None, ((IPv6Address("fd00:10:244:1::2"), 80),)
            )
        ],
    )
    assert rules_of(text, "DNAT")[0].endswith("--to-destination [fd00:10:244:1::2]:80")
    assert "! -d ff00::/8" in text
