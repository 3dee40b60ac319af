"""What came of reading a damaged artefact: refused, accepted, or wrong, and how."""

from __future__ import annotations

import json
import re
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


# The worst first: a mutation counts as the first that fits. Everything else is right.
WRONG = (
    *("planted code ran", "wrote outside", "ended by a signal", "hung", "memory"),
    *("internal error", "raised", "wrong checksum accepted", "blamed", "control characters"),
    *("malformed", "left a process", "left a file"),
)


def judged(mutation: Mutation, ended: Ended, limits: Limits) -> Outcome:
    """Judge how reading a mutation ended."""
    found = _wrongs(mutation, ended, limits)
    for kind in WRONG:
        if found.get(kind) is not None:
            return Outcome(kind=kind, detail=str(found[kind]))
    kind = ACCEPTED if ended.exit_code in _VERDICTS else REFUSED
    return Outcome(kind=kind, detail=_last_line(ended.err if kind == REFUSED else ended.out))


def _wrongs(mutation: Mutation, ended: Ended, limits: Limits) -> dict[str, str | None]:
    """Return the detail of each kind that is wrong, which may be empty; None if it is not."""
    code, last = ended.exit_code, _last_line(ended.err)
    is_killed = ended.killed_by is not None and not ended.is_hung
    is_internal = code == _INTERNAL or "This is a bug" in ended.err
    is_raised = code == RAISED or "Traceback (most recent call last)" in ended.err
    is_unchecked = mutation.must_refuse and code in _VERDICTS
    is_blaming = code == 1 and not mutation.may_blame
    return {
        "planted code ran": ", ".join(ended.planted) or None,
        "wrote outside": ", ".join(ended.outside)[:200] or None,
        "ended by a signal": f"signal {ended.killed_by}: {last}" if is_killed else None,
        "hung": f"after {limits.seconds:.0f} s" if ended.is_hung else None,
        "memory": f"{ended.grown >> 20} MB" if ended.grown > limits.peak else None,
        "internal error": _error_line(ended.err) if is_internal else None,
        "raised": last if is_raised else None,
        "wrong checksum accepted": f"exit code {code}" if is_unchecked else None,
        "blamed": _last_line(ended.out) if is_blaming else None,
        "control characters": _control(ended),
        "malformed": _malformed(mutation, ended),
        "left a process": "; ".join(ended.processes) or None,
        "left a file": ", ".join(ended.files) or None,
    }


def _control(ended: Ended) -> str | None:
    for name, text in (("stdout", ended.out), ("stderr", ended.err)):
        found = _CONTROL.search(text)
        if found is not None:
            return f"{name}: {text[max(0, found.start() - 30) : found.end() + 20]!r}"
    return None


def _malformed(mutation: Mutation, ended: Ended) -> str | None:
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


def _error_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("error:")]
    return _plain(lines[-1] if lines else _last_line(text))


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return _plain(lines[-1]) if lines else ""


def _plain(line: str) -> str:
    return _CONTROL.sub("?", line)[:200]
