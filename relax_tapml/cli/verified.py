"""What ``relax-tapml verify`` prints."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator

from relax_tapml.compare.verdict import Verdict
from relax_tapml.report.power import share_text
from relax_tapml.report.quantities import count_text, seconds_text, size_text, value_text
from relax_tapml.results.json_codec import encode
from relax_tapml.results.kernel_report import HeldOutResult, KernelReport, SpeedResult

_WIDTH, _INDENT = 80, 12


def print_report(report: KernelReport, *, as_json: bool) -> None:
    """Print the verdict on a kernel."""
    if as_json:
        json.dump(encode(report), sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
        return
    sys.stdout.write(f"{report.unit}: {report.verdict} on {report.target}\n")
    for name, text in _lines(report):
        lines = textwrap.wrap(
            text, _WIDTH - _INDENT, break_long_words=False, break_on_hyphens=False
        )
        for number, line in enumerate(lines):
            head = f"  {name}" if number == 0 else ""
            sys.stdout.write(f"{head:<{_INDENT}}{line}\n")


def _lines(report: KernelReport) -> Iterator[tuple[str, str]]:
    yield "kernel", report.kernel
    if report.reason:
        yield "reason", report.reason
    if report.first is not None:
        index = list(report.first.index)
        yield (
            "first",
            f"{report.first_case}, output {report.first_output}, at {index}: expected "
            f"{value_text(report.first.expected)}, got {value_text(report.first.actual)}",
        )
    passed = sum(case.verdict is Verdict.PASS for case in report.cases)
    yield "shown", f"{passed} of {count_text(len(report.cases), 'case')} pass{_repeated(report)}"
    yield "held out", _held_out_text(report.held_out)
    if report.power:
        sharp = [one for one in report.power if not one.blunt]
        shares = [one.share for one in sharp if one.share is not None]
        least = f"; the sharpest allows {share_text(min(shares))} of an output" if shares else ""
        outputs = count_text(len(report.power), "output")
        yield "power", f"{len(sharp)} of {outputs} of cases would show a wrong kernel{least}"
    if report.speed is not None:
        yield "speed", _speed_text(report.speed)
    elif report.speed_reason:
        yield "speed", report.speed_reason


def _repeated(report: KernelReport) -> str:
    if report.deterministic is None:
        return ""
    bytes_text = "the same bytes" if report.deterministic else "other bytes now and then"
    return f", each run {report.repeat} times with {bytes_text}"


def _held_out_text(held: HeldOutResult) -> str:
    ended = {True: "all pass", False: "not all pass", None: "not judged"}[held.passed]
    shapes = f", {held.boundary} of them at other shapes" if held.boundary else ""
    text = f"{count_text(held.count, 'case')}{shapes}: {ended}"
    return f"{text} ({'; '.join(held.reasons)})" if held.reasons else text


def _speed_text(speed: SpeedResult) -> str:
    rates = [f"{size_text(round(rate))}/s" for rate in (speed.bytes_per_s, speed.own_bytes_per_s)]
    return (
        f"{_time_text(speed.seconds)}, the unit's own kernel {_time_text(speed.own_seconds)}: "
        f"{speed.ratio:.3g} times as fast. {size_text(speed.bytes)} read or written, {rates[0]}, "
        f"its own {rates[1]}; {100 * speed.copy_share:.3g} % of what a copy of as much reaches. "
        f"Median of {speed.calls} calls like {speed.case}, by {speed.clock}"
    )


def _time_text(seconds: float) -> str:
    return seconds_text(seconds) if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"
