"""One case of a suite as a Python file that needs nothing but TVM and NumPy."""

from __future__ import annotations

import pprint
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.stored import StoredTolerance
from relax_tapml.errors import UsageError
from relax_tapml.files.names import file_stem
from relax_tapml.files.replace import write_file
from relax_tapml.passes.submodule import submodule
from relax_tapml.suite._kernel_source import KernelSource, kernel_source, scheduled
from relax_tapml.suite._script_text import script_text
from relax_tapml.suite._source_text import comments, one_line, quoted
from relax_tapml.suite.manifest import Manifest, SuiteCase
from relax_tapml.suite.open_suite import Suite
from relax_tapml.suite.pytest_file import MAX_STEM
from relax_tapml.suite.tolerances import read_tolerance
from relax_tapml.tensor_file import FILE_DTYPES, dump_tensors

# The kinds of tolerance that the template has a function for.
_IN_SCRIPT = ("rule", "equal", "elements", "index", "choices")
_TEMPLATE = Path(__file__).with_name("reproducer_template.txt")
_BLANK = re.compile(r"<<([A-Z_]+)>>")
# Lines that only a script with a tolerance of that kind needs.
_SECTION = re.compile(r"^#\{(\w+)\n(.*?)^#\}\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a run found about a unit.

    Parameters
    ----------
    target
        The target as it was given.
    text
        Verdict, reason, error and tolerance, a line each.
    """

    target: str
    text: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Reproducer:
    """Files that lie side by side.

    Parameters
    ----------
    stem
        Name of all, without suffix.
    script
        Text of the ``.py``.
    data
        Bytes of the ``.safetensors``: inputs, oracles and bounds.
    source
        What the target's code generator makes of the kernels; None without a target.
    inexact
        Why the script holds the module as JSON and not as TVMScript; empty for TVMScript.
    """

    stem: str
    script: str
    data: bytes
    source: KernelSource | None
    inexact: str


def reproducer(
    suite: Suite,
    unit: str,
    case: SuiteCase,
    *,
    implementation: tvm.IRModule | None = None,
    target: Any = None,
    recorded: Recorded | None = None,
) -> Reproducer:
    """Make the reproducer of a case.

    Its script builds the unit's module for a target, runs the case, compares every value with the
    oracle by the tolerance of the suite, prints versions and the first mismatch, and exits with 0
    or 1; with 2 if nothing could be compared. The module is TVMScript, to be read and edited; JSON
    where TVMScript is not exact.

    Parameters
    ----------
    suite
        From ``open_suite``.
    unit, case
        The case, and the name of its unit.
    implementation
        The unit as the target's side has it, with the functions of the suite's cases; its kernels
        get the schedules that they are built with. None for what the suite holds, the source's.
    target
        The ``tvm.target.Target`` that the script builds for by default. None for llvm.
    recorded
        What a run found, for the script to print.

    Raises
    ------
    LoweringError
        A kernel has no schedule for the target.
    StoreError
        A file of the suite cannot be read.
    UsageError
        A tensor has a dtype that a safetensors file cannot hold.
    """
    manifest = suite.manifest
    arrays = {f"input{n}": suite.tensor(item.tensor) for n, item in enumerate(case.inputs)}
    outputs, kinds = [], set()
    for number, output in enumerate(case.outputs):
        expected = arrays[f"expected{number}"] = suite.tensor(output.tensor)
        kind = output.tolerance.kind
        bound = output.tolerance.bound
        if suite.is_low_precision and output.tolerance.coarse is not None:
            bound = output.tolerance.coarse
        if bound is not None:
            arrays[f"bound{number}"] = suite.tensor(bound)
        if output.tolerance.alternatives is not None:
            arrays[f"others{number}"] = suite.tensor(output.tolerance.alternatives)
        if kind not in _IN_SCRIPT:
            # The script has no function for it: what it allows here is a bound for each value.
            kind = ElementTolerance.kind
            arrays[f"bound{number}"] = read_tolerance(suite, case, output).allowed(expected)
        kinds.add(kind)
        outputs.append(f"    {_tolerance(number, kind, output.tolerance)},\n")
    held = suite.module(unit) if implementation is None else implementation
    module = submodule(held, [case.function])
    source = None
    if implementation is not None and target is not None:
        module = scheduled(module, target)
        source = kernel_source(module, target)
    printed = script_text(module)
    stem = file_stem(unit, max_length=MAX_STEM)
    replaced = {
        "ABOUT": comments(_about(manifest, unit, case, recorded)),
        "DEFAULT_TARGET": quoted("llvm" if target is None else str(target)),
        # Kernels that a side has made are built as they are.
        "PIPELINE": quoted("default" if implementation is None else "default_build"),
        "RECORDED": pprint.pformat(list(recorded.text) if recorded else [], width=99),
        "DATA": quoted(f"{stem}.safetensors"),
        "FUNCTION": quoted(case.function),
        "INPUTS": pprint.pformat([f"input{n}" for n in range(len(case.inputs))], width=99),
        "MAY_WRITE": repr(case.may_write),
        "OUTPUTS": "".join(outputs),
        "DTYPES": pprint.pformat({code: name for name, code in FILE_DTYPES.items()}, width=99),
        "TARGET": quoted(manifest.source),
        "MODULE": _as_json(module, printed.text, printed.inexact)
        if printed.inexact
        else f"{printed.text.rstrip()}\n",
    }
    template = _SECTION.sub(
        lambda found: found[2] if found[1] in kinds else "", _TEMPLATE.read_text()
    )
    # In one pass, so that nothing is replaced in what was filled in.
    script = _BLANK.sub(lambda found: replaced[found[1]], template)
    try:
        data = dump_tensors(arrays)
    except ValueError as error:
        raise UsageError(f"unit {unit}, case {case.name}: {error}") from error
    return Reproducer(stem=stem, script=script, data=data, source=source, inexact=printed.inexact)


def _about(manifest: Manifest, unit: str, case: SuiteCase, recorded: Recorded | None) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    origins = [f"It comes from {', '.join(case.origins)}."] if case.origins else []
    return [
        f"{unit}, recorded at {case.site} and carved with {versions}.",
        *origins,
        f"The oracle comes from {manifest.source}.",
        *([f"The kernel is the one that was run for {recorded.target}."] if recorded else []),
    ]


def _tolerance(number: int, kind: str, tolerance: StoredTolerance) -> str:
    expected = quoted(f"expected{number}")
    match kind:
        case "elements":
            call = f"elements({quoted(f'bound{number}')})"
        case "choices":
            call = f"choices({quoted(f'bound{number}')}, {quoted(f'others{number}')})"
        case "index":
            call = f"same_choice({quoted(f'input{tolerance.input}')}, axis={tolerance.axis})"
        case "rule":
            call = f"rule(atol={tolerance.atol!r}, rtol={tolerance.rtol!r})"
        case _:
            call = "rule(atol=0.0, rtol=0.0)"
    return f"({expected}, {call}, {quoted(tolerance.origin)})"


def _as_json(module: tvm.IRModule, script: str, inexact: str) -> str:
    return (
        "# TVMScript cannot hold this module exactly, so it is JSON here.\n"
        f"# {one_line(inexact)}\n"
        f"{comments(script.splitlines())}Module = tvm.ir.load_json(\n"
        f"    {quoted(tvm.ir.save_json(module))}\n)\n"
    )


def write_reproducer(made: Reproducer, folder: Path, *, replace: bool = False) -> Path:
    """Write the files of a reproducer and return the path of the script.

    Parameters
    ----------
    made
        From ``reproducer``.
    folder
        Created, with its parents.
    replace
        Whether files of the same names are replaced.

    Raises
    ------
    UsageError
        One of the files exists and ``replace`` is false, or the folder cannot be written to.
    """
    script = folder / f"{made.stem}.py"
    files = {script.with_suffix(".safetensors"): made.data}
    if made.source is not None and made.source.text:
        files[script.with_suffix(made.source.suffix)] = made.source.text.encode()
    # The script last: where it is, all it needs is too.
    files[script] = made.script.encode()
    for path in files:
        if path.exists() and not replace:
            raise UsageError(f"{path} exists. Choose another folder or pass --force.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            write_file(path, content)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to: {error.strerror}") from error
    return script
