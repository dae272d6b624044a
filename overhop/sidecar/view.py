# SPDX-License-Identifier: Apache-2.0
"""The result of `overhop sidecar verify` in a terminal, and as plain data. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from overhop import output
from overhop.sidecar.report import Report, SenderShare
from overhop.text import counted, printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

BINS = (0, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
"""Where bars of offsets begin; the last one has no end."""
BAR_CELLS = 40
MOST_SENDERS = 20
REQUESTS_TEXTS = {
    "no_context": "without a context",
    "bad_context": "with an invalid context only",
    "cut": "cut by the capture before their context",
    "incomplete": "with a packet missing before their context",
    "behind_another": "behind another one in the same packet",
    "copy": "seen a second time on another interface",
}
PACKETS_TEXTS = {
    "request": "of request heads",
    "body": "of bodies",
    "repeated": "seen before",
    "no_payload": "without payload",
    "tls": "TLS",
    "http2": "HTTP/2",
    "response": "of responses",
    "no_request": "of other TCP payload",
    "not_tcp": "not TCP",
    "not_ip": "not IP",
    "fragment": "IP fragments",
    "ext_headers": "with too many IPv6 headers",
    "cut": "cut before their payload",
    "malformed": "malformed",
    "link_type": "of a link type that is not read",
}


def as_json(report: Report) -> dict[str, object]:
    """Everything as plain data (docs/sidecar-verify.md)."""
    asked = asdict(report.asked)
    rest = asdict(report)
    del rest["asked"]
    smallest = {str(percent): window for percent, window in report.smallest.items()}
    senders = [asdict(each) | {"is_relocated": each.is_relocated} for each in report.senders]
    return asked | {"is_enough": report.is_enough} | rest | {"smallest": smallest, "senders": senders}


def render(report: Report) -> "Group":
    """For people."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Table | Text] = [
        Text(printable(line), "bold" if at == 0 else "") for at, line in enumerate(headlines(report))
    ]
    if report.with_context:
        parts += [Text(), _offsets(report), Text(), _windows(report), Text(smallest_line(report))]
        parts += [Text(), *_senders(report.senders)]
    parts += [Text(line) for line in rest_lines(report)]
    parts += [Text(printable(f"note: {note}"), "yellow") for note in report.asked.notes]
    return Group(*parts)


def headlines(report: Report) -> list[str]:
    """The verdict, and of what it is."""
    asked = report.asked
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in report.kinds.items())
    if report.share is None:
        return [f"no request with a context was seen: {asked.source}"]
    wanted = percent_text(asked.threshold)
    verdict = f"enough, {wanted} is wanted" if report.is_enough else f"too few, {wanted} is wanted"
    return [
        f"{percent_text(report.share)} of contexts are found within {asked.window} bytes: {verdict}",
        f"{asked.source}: {counted(report.with_context, 'request')} with a context ({kinds})",
    ]


def smallest_line(report: Report) -> str:
    """The smallest window for each percentage."""
    texts = [
        f"{percent} %: {window if window is not None else 'none up to 8192'}"
        for percent, window in report.smallest.items()
    ]
    split = f"; {report.split:,} found by no window" if report.split else ""
    return f"smallest window for {', '.join(texts)}{split}"


def rest_lines(report: Report) -> Iterator[str]:
    """What has no part in the share, by why."""
    requests = _named(report.requests, REQUESTS_TEXTS)
    if requests:
        yield f"other requests: {requests}"
    if packets := _named(report.packets, PACKETS_TEXTS):
        yield f"packets: {packets}"


def _named(counts: Mapping[str, int], texts: Mapping[str, str]) -> str:
    return ", ".join(f"{count:,} {texts[name]}" for name, count in counts.items() if name in texts and count)


def binned(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Begin of each bin and how many are in it, from the first that has some to the last."""
    counts = [0] * len(BINS)
    for offset, count in offsets:
        counts[sum(begin <= offset for begin in BINS) - 1] += count
    used = [at for at, count in enumerate(counts) if count]
    return [(BINS[at], counts[at]) for at in range(used[0], used[-1] + 1)] if used else []


def bin_text(begin: int) -> str:
    """`64 to 95`"""
    at = BINS.index(begin)
    return f"{begin} to {BINS[at + 1] - 1}" if at + 1 < len(BINS) else f"{begin} and more"


def _offsets(report: Report) -> "Table":
    """A bar for each bin of offsets."""
    table = output.plain_table(("offset", "requests", "share", ""))
    bins = binned(report.offsets)
    most = max((count for _, count in bins), default=1)
    for begin, count in bins:
        share = percent_text(count / report.with_context)
        table.add_row(bin_text(begin), f"{count:,}", share, bar(count / most))
    return _right(table, 1, 2)


def _windows(report: Report) -> "Table":
    """A bar for each window: the distribution function of what a window must be."""
    table = output.plain_table(("window", "found", "share", ""))
    for each in report.windows:
        style = "bold" if each.window == report.asked.window else ""
        table.add_row(
            str(each.window),
            f"{each.found:,}",
            percent_text(each.share or 0.0),
            bar(each.share or 0.0),
            style=style,
        )
    return _right(table, 0, 1, 2)


def _senders(senders: Sequence[SenderShare]) -> "Iterator[Table | Text]":
    from rich.text import Text

    others = [each for each in senders if not each.is_relocated]
    if not others:
        yield Text(f"relocated: {'all ' if len(senders) > 1 else ''}{counted(len(senders), 'sender')}")
        return
    yield Text(f"not relocated: {len(others)} of {counted(len(senders), 'sender')}")
    table = output.plain_table(("sender", "requests", "relocated", "found", "offset", "in the way"))
    for each in others[:MOST_SENDERS]:
        table.add_row(
            output.literal(f"{each.address} {each.name}".strip()),
            f"{each.requests:,}",
            percent_text(each.relocated / each.requests),
            percent_text(each.found / each.requests),
            offset_text(each),
            output.literal(", ".join(each.before)),
        )
    yield _right(table, 1, 2, 3, 4)
    if len(others) > MOST_SENDERS:
        yield Text(f"and {len(others) - MOST_SENDERS:,} more (--json has all)")


def offset_text(sender: SenderShare) -> str:
    """`396`, or the least, the median and the largest."""
    if sender.offset_min is None:
        return "-"
    if sender.offset_min == sender.offset_max:
        return str(sender.offset_min)
    return f"{sender.offset_min}, {sender.offset_median}, {sender.offset_max}"


def _right(table: "Table", *columns: int) -> "Table":
    for at in columns:
        table.columns[at].justify = "right"
    return table


def bar(share: float) -> str:
    """A bar of at most BAR_CELLS cells, in eighths; whatever is more than nothing is seen."""
    eighths = round(share * BAR_CELLS * 8)
    eighths = max(eighths, 1) if share > 0 else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def percent_text(share: float) -> str:
    """With one digit behind the point; what is less than all is never shown as 100 %, nor some as 0 %."""
    tenths = round(share * 1000)
    if share < 1:
        tenths = min(tenths, 999)
    if share > 0:
        tenths = max(tenths, 1)
    return f"{tenths / 10:.1f} %" if tenths % 10 else f"{tenths // 10} %"
