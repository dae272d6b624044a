# SPDX-License-Identifier: Apache-2.0
"""Seeded batches of steps: requests that pass two points, with NAT, repetition and damage between them."""

from collections.abc import Iterator
from functools import cache
from random import Random
from typing import NamedTuple

from bpf.record import Encap, Point
from bpf.spec import ProgramSpec
from tests.oracle.envelopes import Envelope, Flow, plain_envelopes, tunnel_envelopes
from tests.oracle.expect import KINDS, Step
from tests.oracle.mutate import mutate
from tests.oracle.packet import Request, Tunnels, parse
from tests.oracle.requests import Requests
from tests.oracle.slots import GOLDEN, place

IFINDEXES = (1, 101, 102)
ADDRESSES = tuple(bytes.fromhex(f"fd00{number:04x}00000000000000000a00000{number}") for number in range(1, 7))
"""Addresses of pods; as IPv4 10.0.0.1 to 10.0.0.6."""
PORTS = (80, 8080, 9080, 40000, 65535)
PROBE = b"GET / HTTP/1.1\r\n\r\n"
_INVERSE = pow(GOLDEN, -1, 1 << 64)
SPECIAL_KEYS = tuple(
    (word * _INVERSE) % (1 << 64) for word in (0, 1, 2, 3, 1 << 63, 1 << 63 | 1, 1 << 63 | 2, (1 << 64) - 1)
)
"""Keys whose hash is a word with a meaning of its own, or next to one."""
AGES_NS = (1_000_000, 10_000_000, 2_000_000_001, 3_000_000_000, 20_000_000_000)
STORIES = ("AB",) * 12 + ("AAB", "ABB", "A", "B", "ABAB", "AXB", "BAB", "AABB")
"""A: at the first point, B: at the second, X: at another first point."""


class Corpus(NamedTuple):
    """Envelopes: those that reach TCP in one piece, by family, and all."""

    plain_v4: tuple[Envelope, ...]
    plain_v6: tuple[Envelope, ...]
    tunnel_v4: tuple[tuple[Envelope, ...], ...]
    """By encapsulation."""
    tunnel_v6: tuple[tuple[Envelope, ...], ...]
    everything: tuple[Envelope, ...]
    """The plain ones first."""
    plain: int
    """How many they are."""


@cache
def corpus() -> Corpus:
    """Built by scapy once per process (a second)."""
    tunnels = Tunnels.of(ProgramSpec())
    plain, tunnel = tuple(plain_envelopes()), tuple(tunnel_envelopes())

    def reaching(envelopes: tuple[Envelope, ...], is_ipv6: bool, encap: Encap) -> tuple[Envelope, ...]:
        found = []
        for envelope in envelopes:
            outcome = parse(
                bytes(envelope.fill(Flow(bytes(16), bytes(16), 1, 2, 3, 4), PROBE)), True, tunnels
            )
            if isinstance(outcome, Request) and (outcome.is_ipv6, outcome.encap) == (is_ipv6, encap):
                found.append(envelope)
        return tuple(found)

    kinds = (Encap.VXLAN, Encap.IPIP, Encap.GENEVE, Encap.GRE)
    return Corpus(
        reaching(plain, False, Encap.NONE),
        reaching(plain, True, Encap.NONE),
        tuple(reaching(tunnel, False, kind) for kind in kinds),
        tuple(reaching(tunnel, True, kind) for kind in kinds),
        plain + tunnel,
        len(plain),
    )


class Generator:
    """Batches by number: the same (seed, spec, number) gives the same steps in any process."""

    def __init__(self, seed: int, spec: ProgramSpec, max_bytes: int, has_gso: bool = True) -> None:
        """`max_bytes`: the longest packet. `has_gso`: gso_size and gso_segs may be set."""
        self._seed, self._spec, self._max_bytes, self._has_gso = seed, spec, max_bytes, has_gso
        self._corpus = corpus()

    def batch(self, number: int, steps: int) -> list[Step]:
        """About `steps` steps (a story is not cut)."""
        rng = Random(f"{self._seed}:{number}")
        requests = Requests(rng, self._spec.window, self._max_bytes - 420)
        made: list[Step] = []
        open_stories: list[Iterator[Step]] = []
        while len(made) < steps:
            while len(open_stories) < 4:
                open_stories.append(iter(self._story(rng, requests)))
            at = rng.randrange(4)
            step = next(open_stories[at], None)
            if step is None:
                del open_stories[at]
            else:
                made.append(step)
        return made

    def _story(self, rng: Random, requests: Requests) -> list[Step]:
        first, second = rng.choice(tuple(KINDS))
        payload = requests.draw()
        is_ipv6 = rng.random() < 0.35
        flow = self._flow(rng)
        ifindexes = rng.choice(IFINDEXES), rng.choice(IFINDEXES)
        seen = self._step(rng, first, flow, is_ipv6, payload, ifindexes[0])
        if rng.random() < 0.04:
            payload = requests.draw()
        later = self._step(rng, second, self._translated(rng, flow), is_ipv6, payload, ifindexes[1])
        other_point = Point.VPORT_IN if first == Point.NIC_IN else Point.NIC_IN
        other = seen._replace(
            point=other_point if rng.random() < 0.5 else first, ifindex=rng.choice(IFINDEXES)
        )
        story = [{"A": seen, "B": later, "X": other}[letter] for letter in rng.choice(STORIES)]
        if rng.random() < 0.03:
            at = rng.randrange(len(story))
            story[at] = self._disturbed(rng, story[at], flow)
        return story

    def _disturbed(self, rng: Random, step: Step, flow: Flow) -> Step:
        """Time passes before the step, or somebody holds ways of its set."""
        if rng.random() < 0.5:
            return step._replace(age_ns=rng.choice(AGES_NS))
        first = 2 * place(flow.seq, flow.ack, self._spec.sets)[0]
        return step._replace(locked=rng.choice(((first,), (first + 1,), (first, first + 1))))

    def _flow(self, rng: Random) -> Flow:
        src, dst = rng.choice(ADDRESSES), rng.choice(ADDRESSES)
        key = rng.choice(SPECIAL_KEYS) if rng.random() < 0.02 else rng.getrandbits(64)
        return Flow(src, dst, rng.choice(PORTS), rng.choice(PORTS), key >> 32, key & 0xFFFFFFFF)

    def _translated(self, rng: Random, flow: Flow) -> Flow:
        """What NAT between the points makes of a flow; seq and ack stay, nearly always."""
        roll = rng.random()
        if roll < 0.15:
            flow = flow._replace(dst=rng.choice(ADDRESSES))
        if 0.1 < roll < 0.25:
            flow = flow._replace(dport=rng.choice(PORTS))
        if 0.2 < roll < 0.35:
            flow = flow._replace(src=rng.choice(ADDRESSES))
        if 0.3 < roll < 0.4:
            flow = flow._replace(sport=rng.choice(PORTS))
        if (flow.seq << 32 | flow.ack) in SPECIAL_KEYS and rng.random() < 0.5:
            key = rng.choice(SPECIAL_KEYS)
            return flow._replace(seq=key >> 32, ack=key & 0xFFFFFFFF)
        if roll > 0.98:
            flow = flow._replace(ack=flow.ack ^ 1 << rng.randrange(32))
        return flow

    def _step(
        self, rng: Random, point: Point, flow: Flow, is_ipv6: bool, payload: bytes, ifindex: int
    ) -> Step:
        envelope = self._envelope(rng, point, is_ipv6)
        packet = envelope.fill(flow, payload)
        gso_size = gso_segs = 0
        if self._has_gso and rng.random() < 0.1:
            gso_size, gso_segs = rng.choice((0, 1, 1448, 65535)), rng.choice((0, 1, 2, 45))
            if rng.random() < 0.5:
                _clear_lengths(rng, packet, envelope)
        if rng.random() < 0.12:
            mutate(rng, packet, envelope)
        return Step(point, bytes(packet[: self._max_bytes]), ifindex, gso_size, gso_segs)

    def _envelope(self, rng: Random, point: Point, is_ipv6: bool) -> Envelope:
        roll = rng.random()
        if roll < 0.06:
            return rng.choice(self._corpus.everything)
        if roll < 0.07:
            is_ipv6 = not is_ipv6
        is_tunnelled = point in (Point.NIC_IN, Point.NIC_OUT) and roll < 0.75
        if is_tunnelled:
            return rng.choice(rng.choice(self._corpus.tunnel_v6 if is_ipv6 else self._corpus.tunnel_v4))
        return rng.choice(self._corpus.plain_v6 if is_ipv6 else self._corpus.plain_v4)


def _clear_lengths(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """Zero some IP lengths, as a packet above 64 KiB has them (BIG TCP)."""
    for at, _ in envelope.lengths:
        if rng.random() < 0.7:
            packet[at : at + 2] = bytes(2)


def truncations() -> Iterator[Step]:
    """Every envelope with a short request, cut at every length, at all four points in turn."""
    flow = Flow(ADDRESSES[0], ADDRESSES[1], 40000, 80, 1, 2)
    for number, envelope in enumerate(corpus().everything):
        is_plain = number < corpus().plain
        points = tuple(Point) if is_plain else (Point.NIC_IN, Point.NIC_OUT)
        packet = bytes(envelope.fill(flow, PROBE))
        for end in range(14, len(packet) + 1):
            yield Step(points[end % len(points)], packet[:end])
