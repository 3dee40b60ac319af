"""Import every node test of ONNX, run it on llvm, and compare with ONNX's own outputs.

    nice python scripts/onnx_import_sweep.py [OPERATOR ...] [--all] [--markdown FILE]

Prints a line for each operator: tests that are right, refused (the message names the node), and
silently wrong. Tests come with the package onnx (``onnx.backend.test.case.node``); nothing is
downloaded. Inputs that decide shapes are inputs of the graph there; a test in which these are
refused is run once more with small integer inputs as constants, as in real models. Each test runs
in a fork, because wrong code can crash. Exit code 1 if anything is silently wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm
from tvm import relax

from relax_tapml.errors import TapmlError
from relax_tapml.frontend.onnx_model import from_onnx
from relax_tapml.printable import error_line

RIGHT, REFUSED, WRONG = "right", "refused", "wrong"
_SECONDS = 60
_FEW = 64
_TARGET = {"kind": "llvm", "opt-level": 1}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a test."""

    test: str
    operator: str
    kind: str
    detail: str = ""

    @property
    def text(self) -> str:
        """A line for people."""
        return f"{self.kind}: {self.operator}: {self.test}: {self.detail}"


def main() -> int:
    """Run the tests and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("operators", nargs="*", help="only these")
    parser.add_argument("--all", action="store_true", help="list every refused test, too")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    args = parser.parse_args()
    began = time.time()
    outcomes: list[Outcome] = []
    _load_modules()
    for test in _tests(args.operators):
        outcomes.append(_outcome(test))
        if outcomes[-1].kind != RIGHT:
            print(f"{len(outcomes)} {outcomes[-1].text}", file=sys.stderr, flush=True)
    rows = _rows(outcomes)
    print(f"{'operator':28}{RIGHT:>8}{REFUSED:>9}{WRONG:>7}")
    for operator, counts in rows:
        print(
            f"{operator:28}"
            + "".join(f"{count:{w}}" for count, w in zip(counts, (8, 9, 7), strict=True))
        )
    for outcome in outcomes:
        if outcome.kind == WRONG or (args.all and outcome.kind == REFUSED):
            print(outcome.text)
    total = [sum(counts[at] for _, counts in rows) for at in range(3)]
    print(
        f"{len(outcomes)} tests of {len(rows)} operators in {time.time() - began:.0f} s: "
        f"{total[0]} right, {total[1]} refused, {total[2]} silently wrong"
    )
    if args.markdown:
        lines = ["| operator | right | refused | silently wrong |", "|---|---|---|---|"]
        lines += [f"| {name} | {a} | {b} | {c} |" for name, (a, b, c) in rows]
        args.markdown.write_text("\n".join(lines) + "\n")
    return int(total[2] > 0)


def _load_modules() -> None:
    """Import what forks need, once."""
    info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [info], [out]
    )
    from_onnx(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]))


def _tests(operators: list[str]) -> Iterator[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = collect_testcases(None)
    for test in sorted(tests, key=lambda one: one.name):
        # The others test definitions of the same operators by simpler ones.
        is_own = not test.name.endswith("_expanded")
        if is_own and (not operators or _operator(test) in operators):
            yield test


def _operator(test: Any) -> str:
    """Return the operator that a test is about: the longest of those in the name of the test."""
    nodes = test.model.graph.node
    if len(nodes) == 1:
        return str(nodes[0].op_type)
    named = [n.op_type for n in nodes if n.op_type.lower() in test.name.replace("_", "")]
    return max(named, key=len, default=nodes[-1].op_type)


def _rows(outcomes: list[Outcome]) -> list[tuple[str, list[int]]]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for outcome in outcomes:
        counts[outcome.operator][(RIGHT, REFUSED, WRONG).index(outcome.kind)] += 1
    return sorted(counts.items())


def _outcome(test: Any) -> Outcome:
    first = _in_fork(test, test.model, test.data_sets[0][0])
    if first[0] == REFUSED:
        model, inputs = _with_constants(test)
        if len(inputs) < len(test.data_sets[0][0]):
            second = _in_fork(test, model, inputs)
            first = second if second[0] != REFUSED else first
    return Outcome(test=test.name, operator=_operator(test), kind=first[0], detail=first[1])


def _with_constants(test: Any) -> tuple[onnx.ModelProto, list[Any]]:
    """Return the model with small integer inputs, but for the first, as initializers."""
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    kept, arrays = [], []
    for at, (info, value) in enumerate(zip(model.graph.input, test.data_sets[0][0], strict=True)):
        is_array = isinstance(value, np.ndarray | np.generic)
        is_small = is_array and np.size(value) <= _FEW and np.asarray(value).dtype.kind in "iuf"
        if at and is_small and (np.asarray(value).dtype.kind in "iu" or np.size(value) <= 8):
            tensor = onnx.numpy_helper.from_array(np.asarray(value), info.name)
            model.graph.initializer.append(tensor)
        else:
            kept.append(info)
            arrays.append(value)
    infos = [onnx.ValueInfoProto.FromString(info.SerializeToString()) for info in kept]
    del model.graph.input[:]
    model.graph.input.extend(infos)
    return model, arrays


def _in_fork(test: Any, model: onnx.ModelProto, inputs: Any) -> tuple[str, str]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(_SECONDS)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            result = _run(test, model, inputs)
        except BaseException as error:
            result = (WRONG, f"{type(error).__name__}: {str(error)[:200]}")
        os.write(writer, json.dumps(result).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if not data:
        return WRONG, f"the process ended with signal {os.WTERMSIG(status)}"
    kind, detail = json.loads(data)
    return kind, detail


def _run(test: Any, model: onnx.ModelProto, inputs: Any) -> tuple[str, str]:
    if not all(isinstance(value, np.ndarray | np.generic) for value in inputs):
        inputs = list(inputs)
    warnings.simplefilter("ignore")
    try:
        arrays = [_array(value) for value in inputs]
        imported = from_onnx(model, samples=[arrays])
    except TapmlError as error:
        return REFUSED, str(error).replace("\n", " ")[:300]
    except (TypeError, ValueError) as error:  # NumPy: a list of arrays is no array.
        if any(isinstance(value, list) or value is None for value in inputs):
            return REFUSED, f"inputs are no arrays: {error}"
        raise
    try:
        built = tvm.compile(imported.module, target=tvm.target.Target(_TARGET))
    except Exception as error:
        return REFUSED, f"tvm.compile: {error_line(error)}"
    try:
        outputs = _results(built, imported)
    except Exception as error:
        return REFUSED, f"running: {error_line(error)}"
    expected = test.data_sets[0][1]
    for number, (want, got) in enumerate(zip(expected, outputs, strict=True)):
        fault = _fault(_array(want), got, test)
        if fault:
            return WRONG, f"output {number}: {fault}"
    return RIGHT, ""


def _results(built: Any, imported: Any) -> list[Any]:
    machine = relax.VirtualMachine(built, tvm.cpu())
    given = [*imported.samples[0].arrays, *imported.params.values()]
    outputs = machine["main"](*[tvm.runtime.tensor(np.array(a, order="C")) for a in given])
    return [output.numpy() for output in outputs]


def _array(value: Any) -> Any:
    """Return an array of what a test has: float8 and smaller come as messages."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value)


def _fault(want: Any, got: Any, test: Any) -> str:
    if want.dtype != got.dtype or want.shape != got.shape:
        return f"expected {want.dtype} {list(want.shape)}, got {got.dtype} {list(got.shape)}"
    if want.dtype.kind not in "fV":
        return (
            ""
            if np.array_equal(want, got)
            else f"expected {want.reshape(-1)[:4]}, got {got.reshape(-1)[:4]}"
        )
    wide = (want.astype("float64"), got.astype("float64"))
    step = {2: 1e-2, 1: 0.1}.get(want.dtype.itemsize, 0.0)
    close = np.isclose(
        *wide, rtol=max(test.rtol, step), atol=max(test.atol, step / 10), equal_nan=True
    )
    if close.all():
        return ""
    at = np.unravel_index(np.argmin(close), close.shape) if close.shape else ()
    return f"at {tuple(map(int, at))} expected {wide[0][at]:.6g}, got {wide[1][at]:.6g}"


if __name__ == "__main__":
    sys.exit(main())
