"""A suite for a TVM that cannot read its modules: they are given to it as TVMScript.

The JSON of a module names the classes of the TVM that wrote it, which differ from release to
release; TVMScript is the same. What TVMScript does not hold exactly, such as tensor constants, is
left out, with the reason.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import msgspec
import tvm

from relax_tapml.errors import StoreError
from relax_tapml.files.read import read_bytes
from relax_tapml.files.replace import write_file
from relax_tapml.foreign.script import script_fault
from relax_tapml.printable import message_line
from relax_tapml.suite._script_text import script_text
from relax_tapml.suite.manifest import MANIFEST, SuiteKernels, SuiteUnit
from relax_tapml.suite.manifest_file import dump_manifest, read_manifest
from relax_tapml.suite.open_suite import Suite
from relax_tapml.suite.suite_files import link_file

_SCRIPTS = "scripts.json"
_MAX_BYTES = 1 << 30
_IMPORT = re.compile(r"^(?=from [\w.]+ import )", re.MULTILINE)
_FIX = "Run the comparison again"


class _Script(msgspec.Struct, frozen=True):
    """A module file of a suite: its TVMScript, or why there is none."""

    text: str = ""
    reason: str = ""


def write_scripts(suite: Suite, folder: Path) -> None:
    """Write the modules of a suite as TVMScript to a folder, for ``transcribe``."""
    modules = {entry.module: suite.module(unit) for unit, entry in suite.manifest.units.items()}
    for unit, entry in suite.manifest.units.items():
        for target, kernels in suite.kernels_by_target(unit).items():
            file = entry.targets[target].file
            if file is not None and isinstance(kernels, dict):
                named = {tvm.ir.GlobalVar(name): kernel for name, kernel in kernels.items()}
                modules[file] = tvm.IRModule(named)
    scripts: dict[str, _Script] = {}
    for file, module in modules.items():
        printed = script_text(module)
        scripts[file] = _Script(
            text="" if printed.inexact else printed.text, reason=printed.inexact
        )
    write_file(folder / _SCRIPTS, msgspec.json.encode(scripts))


def transcribe(suite: Path, scripts: Path, out: Path) -> Path:
    """Make a suite that this TVM can read of one that it cannot; return its folder.

    Tensors, cases and tolerances are the same files. A unit without a script is ``skipped``.

    Parameters
    ----------
    suite
        A suite, or an output folder with one in ``tests``.
    scripts
        The folder of ``write_scripts``.
    out
        Where the suite is made; nothing is there.

    Raises
    ------
    StoreError
        The scripts are damaged.
    """
    suite = suite if (suite / MANIFEST).exists() else suite / "tests"
    manifest = read_manifest(suite / MANIFEST)
    data = read_bytes(scripts / _SCRIPTS, fix=_FIX, max_bytes=_MAX_BYTES)
    found = msgspec.json.decode(data, type=dict[str, _Script])
    read = {file: _read(script) for file, script in found.items()}
    lost: dict[str, str] = {}
    units: dict[str, SuiteUnit] = {}
    for name, unit in manifest.units.items():
        module = read.get(unit.module, "it has no script")
        if isinstance(module, str):
            lost[name] = f"TVM {tvm.__version__} cannot read it, and as TVMScript: {module}"
            continue
        targets = {
            target: kernels
            if kernels.file is None or not isinstance(read[kernels.file], str)
            else SuiteKernels(
                reason=f"TVM {tvm.__version__} cannot read them: {read[kernels.file]}"
            )
            for target, kernels in unit.targets.items()
        }
        units[name] = replace(unit, targets=targets)
    texts = {f: tvm.ir.save_json(m) for f, m in read.items() if not isinstance(m, str)}
    gone = found.keys() - texts.keys()
    out.mkdir(parents=True)
    for name in manifest.sha256.keys() - found.keys():
        link_file(suite / name, out / name)
    sha256 = {name: sha for name, sha in manifest.sha256.items() if name not in gone}
    for name, text in texts.items():
        (out / name).parent.mkdir(exist_ok=True, parents=True)
        write_file(out / name, text)
        sha256[name] = hashlib.sha256(text.encode()).hexdigest()
    manifest = replace(manifest, units=units, skipped={**manifest.skipped, **lost}, sha256=sha256)
    write_file(out / MANIFEST, dump_manifest(manifest))
    return out


def _read(script: _Script) -> tvm.IRModule | str:
    """Return the module of a script, or why there is none."""
    if script.reason:
        return script.reason
    fault = script_fault(script.text)
    if fault:
        raise StoreError(f"a script of the suite is not only TVMScript: {fault}. {_FIX}")
    try:
        module = tvm.script.from_source(_IMPORT.sub("# ", script.text))
    except Exception as error:  # Whatever its parser raises.
        return message_line(error, -1)
    if not isinstance(module, tvm.IRModule):
        return f"it reads a {type(module).__name__}"
    return module
