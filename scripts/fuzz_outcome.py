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
# Everything else is wrong. The worst first: a mutation counts as the first that fits.
WRONG = (
    "planted code ran",
    "wrote outside",
    "died",
    "hung",
    "memory",
    "internal error",
    "raised",
    "believed",
    "accused",
    "control characters",
    "malformed",
    "left a process",
    "left a file",
)
_INTERNAL = 70
_REFUSALS = (2, 3)
_VERDICTS = (0, 1)
# What a terminal obeys: all of C0 but tab and newline, delete, and C1.
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
        if detail:
            return Outcome(kind=kind, detail=detail)
    kind = ACCEPTED if ended.exit_code in _VERDICTS else REFUSED
    return Outcome(kind=kind, detail=_last_line(ended.err if kind == REFUSED else ended.out))


def _died(_: Mutation, ended: Ended, __: Limits) -> str:
    if ended.killed_by is None or ended.is_hung:
        return ""
    return f"{signal.Signals(ended.killed_by).name}: {_last_line(ended.err)}"


def _internal(_: Mutation, ended: Ended, __: Limits) -> str:
    if ended.exit_code == _INTERNAL or "This is a bug" in ended.err:
        return _error_line(ended.err)
    return ""


def _raised(_: Mutation, ended: Ended, __: Limits) -> str:
    if ended.exit_code == RAISED or "Traceback (most recent call last)" in ended.err:
        return _last_line(ended.err) or "a traceback"
    return ""


def _malformed(mutation: Mutation, ended: Ended, _: Limits) -> str:
    code = ended.exit_code
    if code in _REFUSALS and "error:" not in ended.err:
        # A replay that judges nothing says so where it prints its verdicts.
        return "" if code == 3 and ended.out.strip() else f"exit code {code} without a reason"
    if code not in (*_VERDICTS, *_REFUSALS):
        return f"exit code {code}"
    if code in _VERDICTS and mutation.is_json:
        try:
            json.loads(ended.out, parse_constant=_no_constant)
        except ValueError as error:
            return f"standard output is no JSON: {error}"
    if mutation.page is not None and mutation.page.is_file():
        text = mutation.page.read_text(errors="replace")
        return next((f"{bad} is markup in the page" for bad in _MARKUP if bad in text), "")
    return ""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _control(_: Mutation, ended: Ended, __: Limits) -> str:
    for name, text in (("stdout", ended.out), ("stderr", ended.err)):
        found = _CONTROL.search(text)
        if found is not None:
            around = text[max(0, found.start() - 30) : found.end() + 20]
            return f"{name}: {around!r}"
    return ""


def _accused(mutation: Mutation, ended: Ended, _: Limits) -> str:
    return _last_line(ended.out) if ended.exit_code == 1 and not mutation.may_accuse else ""


def _believed(mutation: Mutation, ended: Ended, _: Limits) -> str:
    if mutation.must_refuse and ended.exit_code in _VERDICTS:
        return f"exit code {ended.exit_code} although a checksum is wrong"
    return ""


_CHECKS = {
    "planted code ran": lambda _, ended, __: ", ".join(ended.planted),
    "wrote outside": lambda _, ended, __: ", ".join(ended.outside)[:200],
    "died": _died,
    "hung": lambda _, ended, limits: f"after {limits.seconds:.0f} s" if ended.is_hung else "",
    "memory": lambda _, ended, limits: (
        f"{ended.grown / 2**20:.0f} MB" if ended.grown > limits.peak else ""
    ),
    "internal error": _internal,
    "raised": _raised,
    "believed": _believed,
    "accused": _accused,
    "control characters": _control,
    "malformed": _malformed,
    "left a process": lambda _, ended, __: "; ".join(ended.processes),
    "left a file": lambda _, ended, __: ", ".join(ended.files),
}


def _error_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("error:")]
    return _plain(lines[-1] if lines else _last_line(text))


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return _plain(lines[-1]) if lines else ""


def _plain(line: str) -> str:
    return _CONTROL.sub("?", line)[:200]
