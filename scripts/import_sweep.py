"""Import every core operator of PyTorch, run it once on llvm, and compare it with PyTorch.

The operators are those that PyTorch marks as core; the calls are recorded from the samples that it
tests its operators with. Calls are exported, imported and run in processes of their own, so a crash
or a hang is an outcome. Nothing should be silently wrong: what cannot be imported rightly is
to be refused. Results are kept in ``--out`` by operator and not made again.

``python scripts/import_sweep.py --all --markdown docs/operators.md`` takes about half an hour.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

os.environ.update(TVM_NUM_THREADS="1", OMP_NUM_THREADS="1")

import torch
import tvm
from sweep_calls import CoreCall, core_operators, recorded_calls
from torch.utils._pytree import tree_flatten, tree_unflatten
from tvm import relax

from relax_tapml.bringup import build_source, lower_model, trust_source
from relax_tapml.bringup._import_check import check_import
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import LoweringError, TapmlError
from relax_tapml.frontend._arrays import to_array
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.torch_export import from_torch

_TIMEOUT_S = 60
_TARGET = {"kind": "llvm", "opt-level": 1}
# Their values are drawn, or not defined.
_DRAWN = {
    *("aten.rand.default", "aten.randn.default", "aten.randperm.default"),
    *("aten.empty.memory_format", "aten.empty_strided.default"),
}


class Outcome(StrEnum):
    """What came of one call."""

    RIGHT = "right"
    REFUSED = "refused"
    WRONG = "wrong"
    CRASH = "crash"
    HANG = "hang"
    NOT_EXPORTED = "not exported"


SILENT = (Outcome.WRONG, Outcome.CRASH, Outcome.HANG)


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """One call, and what came of it.

    Parameters
    ----------
    call
        Its arguments.
    origin
        The operator of PyTorch's samples that it comes from.
    outcome, reason
        What came of it, and why.
    """

    call: str
    origin: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class OperatorResult:
    """What came of the calls of one operator."""

    operator: str
    calls: list[CallResult] = field(default_factory=list)

    def count(self, *outcomes: Outcome) -> int:
        """Return how many calls ended so."""
        return sum(call.outcome in outcomes for call in self.calls)

    def reason(self, *outcomes: Outcome) -> str:
        """Return the reason that most of these calls have."""
        reasons = Counter(call.reason for call in self.calls if call.outcome in outcomes)
        return reasons.most_common(1)[0][0] if reasons else ""


class _Call(torch.nn.Module):
    """Calls an operator with the tensors that it gets, and all other arguments as they are."""

    def __init__(self, operator: Any, call: CoreCall) -> None:
        super().__init__()
        leaves, self._spec = tree_flatten((call.args, dict(call.kwargs)))
        self._leaves = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self._places = [at for at, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self.tensors = tuple(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
        self._operator = operator
        self._item = call.item

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = tree_unflatten(leaves, self._spec)
        found = self._operator(*args, **kwargs)
        if self._item is not None:
            return found[self._item]
        return list(found) if isinstance(found, tuple) else found


def sweep_call(operator: Any, call: CoreCall, *, is_run: bool = True) -> CallResult:
    """Export, import and run one call in this process; compare it with PyTorch."""

    def ended(outcome: Outcome, reason: object = "") -> CallResult:
        text = " ".join(str(reason).split())
        return CallResult(call=call.text, origin=call.origin, outcome=outcome, reason=text[:400])

    module = _Call(operator, call)
    try:
        with torch.no_grad():
            program = torch.export.export(module, module.tensors)
    except Exception as error:
        return ended(Outcome.NOT_EXPORTED, f"{type(error).__name__}: {error}")
    try:
        model = from_torch(program, name=call.operator)
    except TapmlError as error:
        return ended(Outcome.REFUSED, error)
    try:
        built = tvm.compile(model.module, target=tvm.target.Target(_TARGET))
        if not is_run:
            return ended(Outcome.RIGHT)
        outputs = _run(model, built)
    except Exception as error:
        return ended(Outcome.REFUSED, f"does not build or run: {type(error).__name__}: {error}")
    if call.operator in _DRAWN:
        theirs = model.reference(model.samples[0]) if model.reference else []
        alike = [(a.dtype, a.shape) for a in theirs] == [(a.dtype, a.shape) for a in outputs]
        return ended(Outcome.RIGHT if alike else Outcome.WRONG, "dtypes and shapes compared")
    check = check_import(model, [outputs])
    if check is not None and check.verdict is Verdict.MISMATCH and not _is_a_choice(model):
        return ended(Outcome.WRONG, check.decisive.reason)
    return ended(Outcome.RIGHT)


def _run(model: Model, built: Any) -> list[Any]:
    machine = relax.VirtualMachine(built, tvm.cpu())
    arguments = [*model.samples[0].arrays, *model.params.values()]
    found = machine[model.entry](*(tvm.runtime.tensor(array) for array in arguments))
    leaves = [found] if isinstance(found, tvm.runtime.Tensor) else list(found)
    return [to_array(leaf) for leaf in leaves]


def _is_a_choice(model: Model) -> bool:
    """Whether the tool, which knows choices among equal scores, does not call it wrong."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            side = SideSpec(target=tvm.target.Target(_TARGET))
            built = build_source(model, lower_model(model), side, Path(folder))
            check = trust_source(built).check
    except LoweringError:  # Nothing is computed, so nothing is chosen.
        return False
    return check is not None and check.verdict is not Verdict.MISMATCH


def sweep_operator(name: str, operator: Any, calls: Sequence[CoreCall]) -> OperatorResult:
    """Sweep the calls of an operator in a process of its own; after a crash, in another one."""
    results: list[CallResult] = []
    while len(results) < len(calls):
        results += _apart(operator, calls[len(results) :])
    return OperatorResult(operator=name, calls=results)


def _apart(operator: Any, calls: Sequence[CoreCall]) -> list[CallResult]:
    """Return the results up to the first call that does not return, or all of them."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, operator, calls))
    process.start()
    sender.close()
    results: list[CallResult] = []
    fault: tuple[Outcome, str] | None = None
    while fault is None and len(results) < len(calls):
        if not receiver.poll(_TIMEOUT_S):
            fault = Outcome.HANG, f"no result after {_TIMEOUT_S} s"
            break
        try:
            results.append(receiver.recv())
        except EOFError:
            process.join()
            code = process.exitcode or 0
            name = signal.Signals(-code).name if code < 0 else f"exit {code}"
            fault = Outcome.CRASH, name
    process.kill()
    process.join()
    receiver.close()
    if fault is not None:
        call = calls[len(results)]
        results.append(
            CallResult(call=call.text, origin=call.origin, outcome=fault[0], reason=fault[1])
        )
    return results


def _send(sender: Any, operator: Any, calls: Sequence[CoreCall]) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    faulthandler.disable()
    for call in calls:
        sender.send(sweep_call(operator, call))
    sender.close()


def sweep(
    operators: Mapping[str, Any],
    calls: Mapping[str, Sequence[CoreCall]],
    out: Path,
    *,
    jobs: int = 1,
    is_again: bool = False,
) -> Iterator[OperatorResult]:
    """Yield the result of each operator, in order; those that are in ``out`` are not made again."""
    out.mkdir(parents=True, exist_ok=True)

    def result(name: str) -> OperatorResult:
        path = out / f"{name}.json"
        if path.exists() and not is_again:
            return read(path)
        found = sweep_operator(name, operators[name], calls[name])
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(asdict(found), indent=1))
        partial.replace(path)
        return found

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(result, operators)


def read(path: Path) -> OperatorResult:
    """Read a result back."""
    document = json.loads(path.read_text())
    calls = [CallResult(**{**c, "outcome": Outcome(c["outcome"])}) for c in document["calls"]]
    return OperatorResult(operator=document["operator"], calls=calls)


def verdict(result: OperatorResult) -> str:
    """Return what an operator is, in a word."""
    if result.count(*SILENT):
        return "SILENTLY WRONG"
    right, refused = result.count(Outcome.RIGHT), result.count(Outcome.REFUSED)
    if right and refused:
        return "right or refused"
    return "right" if right else "refused" if refused else "not exported"


def markdown(results: Sequence[OperatorResult]) -> str:
    """Return the table of a sweep, and how many operators are what."""
    counts = Counter(verdict(result) for result in results)
    total = Counter(call.outcome for result in results for call in result.calls)
    lines = [
        "# PyTorch's core operators",
        "",
        "Written by `python scripts/import_sweep.py --all --markdown docs/operators.md`. Each of "
        f"PyTorch {torch.__version__.partition('+')[0]}'s core operators is called as PyTorch's "
        "own samples call it, exported, imported, run on llvm and compared with PyTorch by the "
        "rules of the [import check](judging.md#the-import-check). What is refused is "
        "refused with the operator and the module that it is in. `not exported`: `torch.export` "
        "does not take the call.",
        "",
        f"Operators: {', '.join(f'{n} {name}' for name, n in counts.most_common())}. Calls: "
        f"{', '.join(f'{n} {name}' for name, n in total.most_common())}.",
        "",
        "| operator | verdict | right | refused | silently wrong | why |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        silent = result.count(*SILENT)
        why = result.reason(*(SILENT if silent else (Outcome.REFUSED,)))
        if not result.calls:
            why = "no sample calls it"
        why = why.replace("|", "\\|")
        lines.append(
            f"| `{result.operator.removeprefix('aten.')}` | {verdict(result)} | "
            f"{result.count(Outcome.RIGHT)} | {result.count(Outcome.REFUSED)} | {silent} | "
            f"{why if len(why) <= 200 else why[:199] + '…'} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Sweep; return 0 if nothing is silently wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="operators, e.g. aten.select.int")
    parser.add_argument("--all", action="store_true", help="all core operators")
    parser.add_argument("--calls", type=int, default=24, help="of each operator at most")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("sweep"), help="folder for results")
    parser.add_argument("--again", action="store_true", help="also those that are there")
    parser.add_argument("--markdown", type=Path, help="file for the table")
    args = parser.parse_args()
    operators = core_operators()
    unknown = sorted(set(args.names) - operators.keys())
    if unknown or bool(args.names) == args.all:
        parser.error(f"name core operators, or --all; unknown: {', '.join(unknown) or 'none'}")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    chosen = {name: operators[name] for name in (operators if args.all else args.names)}
    calls = recorded_calls(operators, args.calls)
    # What every process needs is loaded once. Nothing is run: TVM's threads do not fork.
    example = CoreCall(operator="", args=(torch.ones(2), 2.0), kwargs={}, origin="")
    sweep_call(torch.ops.aten.add.Tensor, example, is_run=False)
    results = []
    for result in sweep(chosen, calls, args.out, jobs=args.jobs, is_again=args.again):
        results.append(result)
        print(f"{result.operator:<48}{verdict(result):<18}", end="")
        print(
            ", ".join(f"{n} {name}" for name, n in Counter(c.outcome for c in result.calls).items())
        )
        for call in result.calls:
            if call.outcome in SILENT:
                print(f"    {call.outcome}: {call.call} [{call.origin}]: {call.reason}")
        sys.stdout.flush()
    text = markdown(results)
    if args.markdown:
        args.markdown.write_text(text)
    wrong = [result.operator for result in results if result.count(*SILENT)]
    print(f"{len(results)} operators, {time.perf_counter() - began:.0f} s; ", end="")
    print(f"silently wrong: {', '.join(wrong) or 'none'}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
