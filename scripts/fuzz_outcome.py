"""What came of reading a damaged artefact: refused, accepted, or wrong, and how."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from typing import Any

from campaign_child import RAISED, Ended, Limits
from fuzz_kinds import Mutation

REFUSED, ACCEPTED = "refused", "accepted"
_INTERNAL = 70
_REFUSALS = (2, 3)
_VERDICTS = (0, 1)
# What a terminal interprets: all of C0 but tab and newline, delete, and C1.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")
_MARKUP = ("<img src=x", "</script><script>alert")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``kind`` is ``REFUSED``, ``ACCEPTED`` or one of ``WRONG``; ``detail`` is one line."""

    kind: str
    detail: str

    @property
    def is_wrong(self) -> bool:
        """Whether a promise is broken."""
        return self.kind in WRONG


def judged(mutation: Mutation, ended: Ended, limits: Limits) -> Outcome:
    """Judge how reading a mutation ended."""
    for kind in WRONG:
        detail = _CHECKS[kind](mutation, ended, limits)
        if detail is not None:
            return Outcome(kind=kind, detail=detail)
    kind = ACCEPTED if ended.exit_code in _VERDICTS else REFUSED
    return Outcome(kind=kind, detail=_last_line(ended.err if kind == REFUSED else ended.out))


# Each of these returns what is wrong, which may be an empty text, or None if nothing is.


def _planted(_: Mutation, ended: Ended, __: Limits) -> str | None:
    return ", ".join(ended.planted) or None


def _wrote(_: Mutation, ended: Ended, __: Limits) -> str | None:
    return ", ".join(ended.outside)[:200] or None


def _killed(_: Mutation, ended: Ended, __: Limits) -> str | None:
    if ended.killed_by is None or ended.is_hung:
        return None
    return f"{signal.Signals(ended.killed_by).name}: {_last_line(ended.err)}"


def _hung(_: Mutation, ended: Ended, limits: Limits) -> str | None:
    return f"after {limits.seconds:.0f} s" if ended.is_hung else None


def _memory(_: Mutation, ended: Ended, limits: Limits) -> str | None:
    return f"{ended.grown / 2**20:.0f} MB" if ended.grown > limits.peak else None


def _internal(_: Mutation, ended: Ended, __: Limits) -> str | None:
    if ended.exit_code == _INTERNAL or "This is a bug" in ended.err:
        return _error_line(ended.err)
    return None


def _raised(_: Mutation, ended: Ended, __: Limits) -> str | None:
    if ended.exit_code == RAISED or "Traceback (most recent call last)" in ended.err:
        return _last_line(ended.err)
    return None


def _unchecked(mutation: Mutation, ended: Ended, _: Limits) -> str | None:
    if mutation.must_refuse and ended.exit_code in _VERDICTS:
        return f"exit code {ended.exit_code} although a checksum is wrong"
    return None


def _blamed(mutation: Mutation, ended: Ended, _: Limits) -> str | None:
    is_blaming = ended.exit_code == 1 and not mutation.may_blame
    return _last_line(ended.out) if is_blaming else None


def _control(_: Mutation, ended: Ended, __: Limits) -> str | None:
    for name, text in (("stdout", ended.out), ("stderr", ended.err)):
        found = _CONTROL.search(text)
        if found is not None:
            around = text[max(0, found.start() - 30) : found.end() + 20]
            return f"{name}: {around!r}"
    return None


def _malformed(mutation: Mutation, ended: Ended, _: Limits) -> str | None:
    code = ended.exit_code
    if code not in (*_VERDICTS, *_REFUSALS):
        return f"exit code {code}"
    if code in _REFUSALS and "error:" not in ended.err:
        # A replay without a verdict prints the reason where it prints verdicts.
        has_output = code == 3 and ended.out.strip()
        return None if has_output else f"exit code {code} without a reason"
    if code in _VERDICTS and mutation.is_json:
        try:
            json.loads(ended.out, parse_constant=_no_constant)
        except ValueError as error:
            return f"standard output is no JSON: {error}"
    if mutation.page is not None and mutation.page.is_file():
        text = mutation.page.read_text(errors="replace")
        return next((f"{bad} is markup in the page" for bad in _MARKUP if bad in text), None)
    return None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _process(_: Mutation, ended: Ended, __: Limits) -> str | None:
    return "; ".join(ended.processes) or None


def _file(_: Mutation, ended: Ended, __: Limits) -> str | None:
    return ", ".join(ended.files) or None


# The worst first: a mutation counts as the first that fits.
_CHECKS = {
    "planted code ran": _planted,
    "wrote outside": _wrote,
    "ended by a signal": _killed,
    "hung": _hung,
    "memory": _memory,
    "internal error": _internal,
    "raised": _raised,
    "wrong checksum accepted": _unchecked,
    "blamed": _blamed,
    "control characters": _control,
    "malformed": _malformed,
    "left a process": _process,
    "left a file": _file,
}
# Everything but the two above is wrong.
WRONG = tuple(_CHECKS)


def _error_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("error:")]
    return _plain(lines[-1] if lines else _last_line(text))


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return _plain(lines[-1]) if lines else ""


def _plain(line: str) -> str:
    return _CONTROL.sub("?", line)[:200]
