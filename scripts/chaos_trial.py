"""One trial of ``chaos.py``: what is done in it, and what is asked of what is left."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campaign_child import RAISED, Ended, Limits, Place
from campaign_readers import Work, command, read_store, read_suite

INLINE, PROCESS = "inline", "process"
# A second of work; the rest is for machines under load.
LIMITS = Limits(seconds=240.0)
_INTERNAL = 70
# What differs between two runs that did the same: times, and what an interrupted run had to bring
# to a second device.
_VARYING = (
    *("seconds", "estimate", "devices", "bytes", "peak_bytes"),
    *("bytes_stored", "bytes_moved", "bytes_to_device"),
)
_WRONG_VERDICTS = ("mismatch", "crash", "timeout", "build_error", "flaky")
# In the names of kernels: of what they are made of, and of what the linker made of it this time.
_HASHES = re.compile(r"(-[0-9a-f]{32})+\.")
_NO_ERROR = ("This is a bug", "Traceback (most recent call last)", "Exception ignored")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all trials share: a saved model, and for each session the folder of a run of it."""

    saved: Path
    references: Mapping[str, Path]
    can_mount: bool


@dataclass(kw_only=True)
class Trial:
    """A trial under way.

    Parameters
    ----------
    bench, place, draw
        What it is made of; all that it draws comes from its name.
    name, scenario, index
        ``SEED:SCENARIO:INDEX`` and its parts.
    done
        What was done, for people.
    problems
        What is wrong; empty if nothing is.
    events
        How many kills or faults it had.
    is_skipped
        Whether this machine or user cannot make it.
    seconds
        How long it took.
    """

    bench: Bench
    place: Place
    draw: random.Random
    name: str
    scenario: str
    index: int
    done: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    events: int = 0
    is_skipped: bool = False
    seconds: float = 0.0

    @property
    def description(self) -> str:
        """What was done, in one line."""
        return ", ".join(self.done)

    @property
    def out(self) -> Path:
        """The output folder of its runs."""
        return self.place.case / "out"

    def build(self, session: str, *options: Any, out: Path | None = None) -> Work:
        """Return the work of the whole job."""
        folder = self.out if out is None else out
        return command("build", self.bench.saved, "--session", session, "--out", folder, *options)

    def run(self, work: Work, before: Callable[[], None] | None = None) -> Ended:
        """Do work in a fork, after something that makes the machine worse."""
        return self.place.run(after(before, work), LIMITS)

    def blame(self, text: str) -> None:
        """Note that something is wrong."""
        self.problems.append(text)

    def expect(self, ended: Ended, codes: Iterable[int], causes: Sequence[str] = ()) -> None:
        """Ask for an exit code, for a cause in the message unless it is 0, and for nothing left."""
        allowed = tuple(codes)
        if ended.exit_code not in allowed:
            wanted = " or ".join(map(str, allowed))
            self.blame(f"{ending(ended)}, expected {wanted}: {tail(ended.err)}")
        elif ended.exit_code and causes and not has_one_of(causes, ended.err):
            self.blame(f"{ending(ended)} does not name {' or '.join(causes)}: {tail(ended.err)}")
        for text in _NO_ERROR:
            if text in ended.err:
                self.blame(f"{text!r} on stderr: {tail(ended.err)}")
        if ended.processes:
            self.blame(f"processes left: {'; '.join(ended.processes)}")
        if ended.outside:
            self.blame(f"changed outside: {', '.join(ended.outside)[:300]}")

    def expect_nobody_blamed(self, out: Path | None = None) -> None:
        """Ask that no unit is called wrong in what a run left."""
        path = (self.out if out is None else out) / "result.json"
        if not path.is_file():
            return
        document = json.loads(path.read_text())
        wrong = [u["name"] for u in document["units"] if u["verdict"] in _WRONG_VERDICTS]
        if wrong or document["culprits"]:
            reasons = [u["reason"] for u in document["units"] if u["name"] in wrong][:1]
            self.blame(f"blamed: {wrong or document['culprits']}, {reasons}")

    def expect_whole(self, out: Path | None = None) -> None:
        """Ask that everything that is there can be opened."""
        folder = self.out if out is None else out
        ended = self.place.run(lambda: _open_all(folder), LIMITS)
        if ended.exit_code != 0:
            self.blame(f"not whole: {tail(ended.out) or tail(ended.err) or ending(ended)}")

    def expect_no_leftovers(self, session: str, out: Path | None = None) -> None:
        """Ask that nothing is in TMPDIR, and nothing hidden in the folder."""
        folder = self.out if out is None else out
        files = sorted(path.name for path in self.place.temporary.iterdir())
        if files:
            self.blame(f"left in TMPDIR: {', '.join(files)}")
        known = _tree(self.bench.references[session])
        hidden = [name for name in _tree(folder) - known if _is_leftover(name)]
        if hidden:
            self.blame(f"left in the folder: {', '.join(sorted(hidden))}")

    def expect_end(self, session: str, out: Path | None = None) -> None:
        """Resume to the end, and ask that all is as if nothing had happened."""
        folder = self.out if out is None else out
        has_run = folder.is_dir() and any(folder.iterdir())
        ended = self.run(self.build(session, *(["--resume"] if has_run else []), out=folder))
        if ended.exit_code != 0:
            self.blame(f"resumed: {ending(ended)}: {tail(ended.err)}")
            return
        reference = self.bench.references[session]
        differing = _differences(_result(reference), _result(folder))
        if differing:
            self.blame(f"resumed, but not as a run of its own: {'; '.join(differing[:4])}")
        missing = _tree(reference) - _tree(folder)
        extra = _tree(folder) - _tree(reference)
        if missing or extra:
            self.blame(f"missing {sorted(missing)[:4]}, more than expected {sorted(extra)[:4]}")
        self.expect_whole(folder)
        self.expect_no_leftovers(session, folder)
        if ended.processes:
            self.blame(f"processes left: {'; '.join(ended.processes)}")


def after(before: Callable[[], None] | None, work: Work) -> Work:
    """Return work that does something else first."""

    def both() -> int:
        if before is not None:
            before()
        return work()

    return both


def ending(ended: Ended) -> str:
    """Return how a fork ended, for people."""
    if ended.is_hung:
        return f"hung for {ended.seconds:.0f} s"
    if ended.killed_by is not None:
        return f"ended by signal {ended.killed_by}"
    if ended.exit_code in (RAISED, _INTERNAL):
        return f"exit code {ended.exit_code}, an internal error"
    return f"exit code {ended.exit_code}"


def tail(text: str) -> str:
    """Return the end of what was printed, from the error on, in one line."""
    start = text.rfind("error: ")
    return " / ".join(text[max(start, 0) :].strip().splitlines())[:300]


def has_one_of(causes: Sequence[str], text: str) -> bool:
    """Whether a text has one of some words."""
    low = text.lower()
    return any(cause.lower() in low for cause in causes)


def _open_all(out: Path) -> int:
    """Open everything in an output folder; print and count what cannot be."""
    from relax_tapml.partition.bundle import read_bundle_boundary

    found = 0
    readers: dict[Path, Callable[[Path], Any]] = {
        out / "tests": read_suite,
        out / "captures": read_store,
        out / "bundle": read_bundle_boundary,
    }
    # A store that has no index yet is none; everything else appears whole.
    if not (out / "captures" / "index.sqlite").exists():
        readers.pop(out / "captures")
    for name in ("state.json", "result.json", "lowered.json", "device.json"):
        readers[out / name] = lambda path: json.loads(path.read_text())
    for path in sorted(out.glob("boundaries/[0-9]*.json")):
        readers[path] = lambda path: json.loads(path.read_text())
    for path, read in readers.items():
        try:
            if path.exists():
                read(path)
        except Exception as error:
            print(f"{path.name}: {type(error).__name__}: {error}")
            found += 1
    return min(found, 9)


def _result(folder: Path) -> Any:
    return _without_varying(json.loads((folder / "result.json").read_text()))


def _without_varying(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_varying(v) for k, v in value.items() if k not in _VARYING}
    return [_without_varying(v) for v in value] if isinstance(value, list) else value


def _differences(expected: Any, actual: Any, where: str = "") -> list[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        keys = [k for k in expected if k in actual]
        other = [f"{where}.{k} is in one only" for k in expected.keys() ^ actual.keys()]
        inner = (_differences(expected[k], actual[k], f"{where}.{k}") for k in keys)
        return other + [difference for found in inner for difference in found]
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual, strict=True))
        return [d for i, (e, a) in pairs for d in _differences(e, a, f"{where}[{i}]")]
    return [] if expected == actual else [f"{where}: {expected!r:.60} is {actual!r:.60}"]


def _tree(folder: Path) -> set[str]:
    """Return the names of all files of a run that have the same name in every run."""
    return {
        _HASHES.sub(".", name)
        for path in folder.rglob("*")
        if not path.is_dir()
        and not (name := os.fspath(path.relative_to(folder))).startswith("captures/")
    }


def _is_leftover(name: str) -> bool:
    parts = name.split("/")
    return any(part.startswith(".") or part.endswith((".tmp", ".partial")) for part in parts)
