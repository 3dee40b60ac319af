"""One case of a suite as a Python file that needs nothing but TVM and NumPy."""

from __future__ import annotations

import os
import pprint
import re
from dataclasses import dataclass
from pathlib import Path

import tvm

from relax_tapml.carve.manifest import Manifest, SuiteCase, SuiteTolerance
from relax_tapml.carve.open_suite import Suite
from relax_tapml.carve.pytest_file import MAX_STEM, identifier
from relax_tapml.carve.script_text import script_text
from relax_tapml.carve.source_text import comments, one_line, quoted
from relax_tapml.carve.submodule import submodule
from relax_tapml.errors import UsageError
from relax_tapml.tensor_file import dump_tensors

_TEMPLATE = Path(__file__).with_name("reproducer_template.txt")
_BLANK = re.compile(r"<<([A-Z_]+)>>")
# Lines that only a script with a tolerance of that kind needs.
_SECTION = re.compile(r"^#\{(\w+)\n(.*?)^#\}\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Reproducer:
    """Two files that lie side by side.

    Parameters
    ----------
    stem
        Name of both, without suffix.
    script
        Text of the ``.py``.
    data
        Bytes of the ``.safetensors``: inputs, oracles and bounds.
    inexact
        Why the script holds the module as JSON and not as TVMScript; empty if it does not.
    """

    stem: str
    script: str
    data: bytes
    inexact: str


def reproducer(suite: Suite, unit: str, case: SuiteCase) -> Reproducer:
    """Make the reproducer of a case.

    Its script builds the unit's module for a target, runs the case, compares every value with the
    oracle by the tolerance of the suite, prints versions and the first mismatch, and exits with 0
    or 1. The module is TVMScript, to be read and edited; JSON where TVMScript is not exact.

    Parameters
    ----------
    suite
        From ``open_suite``.
    unit, case
        The case, and the name of its unit.

    Raises
    ------
    StoreError
        A file of the suite cannot be read.
    UsageError
        A tensor has a dtype that a safetensors file cannot hold.
    """
    manifest = suite.manifest
    arrays = {f"input{n}": item.tensor for n, item in enumerate(case.inputs)}
    outputs = []
    for number, output in enumerate(case.outputs):
        arrays[f"expected{number}"] = output.tensor
        if output.tolerance.bound is not None:
            arrays[f"bound{number}"] = output.tolerance.bound
        if output.tolerance.alternatives is not None:
            arrays[f"others{number}"] = output.tolerance.alternatives
        outputs.append(f"    {_tolerance(number, output.tolerance)},\n")
    module = submodule(suite.module(unit), [case.function])
    printed = script_text(module)
    stem = identifier(unit)[:MAX_STEM]
    replaced = {
        "ABOUT": comments(_about(manifest, unit, case)),
        "DATA": quoted(f"{stem}.safetensors"),
        "FUNCTION": quoted(case.function),
        "INPUTS": pprint.pformat([f"input{n}" for n in range(len(case.inputs))], width=99),
        "MAY_WRITE": repr(case.may_write),
        "OUTPUTS": "".join(outputs),
        "TARGET": quoted(manifest.source),
        "MODULE": _as_json(module, printed.text, printed.inexact)
        if printed.inexact
        else f"{printed.text.rstrip()}\n",
    }
    kinds = {output.tolerance.kind for output in case.outputs}
    template = _SECTION.sub(
        lambda found: found[2] if found[1] in kinds else "", _TEMPLATE.read_text()
    )
    # In one pass, so that nothing is replaced in what was filled in.
    script = _BLANK.sub(lambda found: replaced[found[1]], template)
    try:
        data = dump_tensors({name: suite.tensor(digest) for name, digest in arrays.items()})
    except ValueError as error:
        raise UsageError(f"unit {unit}, case {case.name}: {error}") from error
    return Reproducer(stem=stem, script=script, data=data, inexact=printed.inexact)


def _about(manifest: Manifest, unit: str, case: SuiteCase) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    origins = [f"It comes from {', '.join(case.origins)}."] if case.origins else []
    return [
        f"{unit}, recorded at {case.site} and carved with {versions}.",
        *origins,
        f"The oracle comes from {manifest.source}.",
    ]


def _tolerance(number: int, tolerance: SuiteTolerance) -> str:
    expected = quoted(f"expected{number}")
    match tolerance.kind:
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
    """Write the two files of a reproducer and return the path of the script.

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
    data = script.with_suffix(".safetensors")
    for path in (script, data):
        if path.exists() and not replace:
            raise UsageError(f"{path} exists. Choose another folder or pass --force.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The script last: where it is, its data is too.
        for path, content in ((data, made.data), (script, made.script.encode())):
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_bytes(content)
            partial.replace(path)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to: {error.strerror}") from error
    return script
