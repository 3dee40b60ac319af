"""What a capture of MiniLM leaves behind when it is killed at a random moment.

``python -m relax_tapml.build`` of MiniLM is killed with SIGKILL while it captures, again and again
in one output folder; each run resumes what the one before left. After each kill the store must
open, every tensor it names must read back with the right digest, samples it calls complete must
have the records of a run that nobody killed, and nothing may be missing that was in the store
before the kill. When most of its samples are complete a store is deleted, and the next run begins a
new one. At last the command is resumed and not killed: it must end with exit code 0 and the records
of the uninterrupted run.

Exits with 1 if anything of this does not hold.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from minilm_build import sentences
from rich.console import Console
from rich.table import Table

from relax_tapml.capture.index import INDEX_FILE
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import CallRecord, TensorValue
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.frontend.saved import save_model


@dataclass(frozen=True, kw_only=True)
class Records:
    """What a store says, sample by sample: all calls, and whether the sample is complete."""

    calls: dict[str, list[CallRecord]]
    complete: frozenset[str]

    @property
    def count(self) -> int:
        """Calls of all samples."""
        return sum(map(len, self.calls.values()))


def read(captures: Path) -> Records:
    """Read the records of a store; one that does not exist yet has none."""
    if not (captures / INDEX_FILE).exists():
        return Records(calls={}, complete=frozenset())
    with CaptureStore.open(captures) as store:
        # Read first, so that a capture under way cannot complete a sample in between.
        complete = frozenset(store.samples()) - frozenset(store.incomplete_samples())
        calls = {name: list(store.calls(sample=name)) for name in store.samples()}
    return Records(calls=calls, complete=complete)


def verify_tensors(captures: Path, records: Records) -> int:
    """Read every tensor that a store names and compare it with its digest; return how many."""
    if not records.calls:
        return 0
    digests = {
        value.digest
        for calls in records.calls.values()
        for call in calls
        for value in (*call.inputs, *(call.outputs or ()))
        if isinstance(value, TensorValue)
    }
    with CaptureStore.open(captures) as store:
        for name in records.complete:
            outputs = store.sample_outputs(name)
            digests |= {value.digest for value in outputs if isinstance(value, TensorValue)}
        for digest in digests:
            store.tensor(digest, verify=True)
        names = store.parameters()
        for name in names:
            store.parameter(name, verify=True)
    return len(digests) + len(names)


def faults(expected: Records, before: Records, after: Records) -> list[str]:
    """Say what is wrong with a store after a kill, given its records just before it."""
    found = [
        f"sample {name!r} is called complete and has other records"
        for name in sorted(after.complete)
        if after.calls[name] != expected.calls[name]
    ]
    if lost := before.complete - after.complete:
        found.append(f"complete samples were lost: {sorted(lost)}")
    for name, calls in before.calls.items():
        kept = {(call.frame, call.call) for call in after.calls.get(name, ())}
        if missing := sum((call.frame, call.call) not in kept for call in calls):
            found.append(f"{missing} calls of sample {name!r} were in the store and are lost")
    if len(after.calls) > len(after.complete) + 1:
        found.append("more than one sample is incomplete")
    return found


def command(model: Path, out: Path) -> list[str]:
    """Return the real command, which captures the model's samples into ``out``."""
    options = ["--session", "inline", "--strategy", "isolated", "--resume", "--out", str(out)]
    return [sys.executable, "-m", "relax_tapml.build", str(model), *options]


def run_to_its_end(model: Path, out: Path) -> tuple[int, float]:
    """Run the command; return its exit code and the seconds from the source to the captures."""
    seconds = began = 0.0
    with subprocess.Popen(
        command(model, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith("source "):
                began = time.monotonic()
            elif line.startswith("capture "):
                seconds = time.monotonic() - began
    return child.returncode, seconds


def kill_while_capturing(model: Path, out: Path, delay_s: float) -> tuple[Records, bool]:
    """Kill the command that long after its capture began.

    Returns
    -------
    Records
        What was in the store immediately before.
    bool
        Whether the capture was still under way.
    """
    with subprocess.Popen(
        command(model, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        log = []
        for line in child.stderr:
            log.append(line)
            if line.startswith("source "):
                break
        else:
            sys.exit(f"the command ended before it captured anything:\n{''.join(log)}")
        time.sleep(delay_s)
        before = read(out / "captures")
        child.send_signal(signal.SIGKILL)
        rest = child.stderr.read()
    return before, "\ncapture " not in f"\n{rest}"


def main() -> int:
    """Kill, check, resume, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how often (20)")
    parser.add_argument("--samples", type=int, default=8, help="sentences to capture (8)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    args = parser.parse_args()
    console = Console(width=100, highlight=False)
    moments = random.Random(args.seed)
    table = Table("kill", "after s", "complete", "calls", "tensors verified", "what is wrong")
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="tapml-kill-") as scratch:
        model, reference, out = (Path(scratch) / name for name in ("model", "reference", "out"))
        # A saved model is loaded without PyTorch, in a fraction of the time.
        save_model(load_model("minilm", texts=sentences(args.samples, 11)), model)
        code, capture_s = run_to_its_end(model, reference)
        if code != 0:
            sys.exit(f"the uninterrupted run ended with exit code {code}, expected 0")
        expected = read(reference / "captures")
        # The killed runs begin where that one had built its kernels and captured nothing.
        shutil.copytree(reference, out, ignore=shutil.ignore_patterns("captures", "tests"))
        kills, window_s = 0, capture_s
        while kills < args.kills:
            found = read(out / "captures")
            if len(found.complete) > args.samples / 2:
                shutil.rmtree(out / "captures")
                found = read(out / "captures")
            share = 1 - len(found.complete) / args.samples
            delay_s = moments.uniform(0, window_s * share)
            before, was_capturing = kill_while_capturing(model, out, delay_s)
            if not was_capturing:
                window_s *= 0.8
            after = read(out / "captures")
            verified = verify_tensors(out / "captures", after)
            told = faults(expected, before, after)
            wrong += bool(told)
            kills += was_capturing
            table.add_row(
                str(kills) if was_capturing else "too late",
                f"{delay_s:.2f}",
                f"{len(after.complete)} of {args.samples}",
                str(after.count),
                str(verified),
                "; ".join(told) or "nothing",
            )
        code, _ = run_to_its_end(model, out)
        resumed = read(out / "captures")
        verified = verify_tensors(out / "captures", resumed)
    console.print(table)
    is_same = resumed == expected
    console.print(
        f"resumed: exit code {code}, {len(resumed.complete)} of {args.samples} samples complete, "
        f"{verified} tensors verified, records {'equal' if is_same else 'DIFFER from'} those of "
        "an uninterrupted run"
    )
    return 0 if not wrong and code == 0 and is_same else 1


if __name__ == "__main__":
    sys.exit(main())
