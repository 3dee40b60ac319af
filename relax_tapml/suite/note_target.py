"""The kernels that units of a suite have on other targets than its source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import tvm
from tvm import tirx
from tvm.ir import GlobalVar

from relax_tapml.files.replace import write_file
from relax_tapml.foreign.module import mark_checked
from relax_tapml.partition.target_kernels import TargetKernels
from relax_tapml.suite.manifest import MANIFEST, SuiteKernels, SuiteUnit
from relax_tapml.suite.manifest_file import dump_manifest
from relax_tapml.suite.open_suite import Suite, target_text
from relax_tapml.suite.suite_files import SuiteFiles


def note_target(suite: Suite, target: tvm.target.Target, kernels: TargetKernels) -> Suite:
    """Give the units of a suite the kernels that they have on a target; those of others stay.

    Parameters
    ----------
    suite
        Its manifest is replaced on disk, unless it has these kernels already.
    target
        The target.
    kernels
        Of the model that the suite was carved from.
    """
    files = SuiteFiles.of(suite)
    units = {
        name: _with_kernels(suite, name, unit, target, kernels, files)
        for name, unit in suite.manifest.units.items()
    }
    targets = tuple(dict.fromkeys((*suite.manifest.targets, target_text(target))))
    if units == suite.manifest.units and targets == suite.manifest.targets:
        return suite
    mark_checked(files.sha256[name] for name in files.sha256.keys() - suite.manifest.sha256.keys())
    manifest = replace(suite.manifest, units=units, sha256=files.sha256, targets=targets)
    write_file(suite.folder / MANIFEST, dump_manifest(manifest))
    return replace(suite, manifest=manifest)


def _with_kernels(
    suite: Suite,
    name: str,
    unit: SuiteUnit,
    target: tvm.target.Target,
    kernels: TargetKernels,
    files: SuiteFiles,
) -> SuiteUnit:
    """Return a unit's entry with its kernels for the target, whose file is written."""
    module = suite.module(name)
    own = [gvar.name_hint for gvar in module.functions]
    lacking = [kernel for kernel in own if kernel in kernels.lacking]
    if lacking:
        reason = "; ".join(
            kernels.lacking[kernel] if kernel == name else f"{kernel}: {kernels.lacking[kernel]}"
            for kernel in lacking
        )
        entry = SuiteKernels(reason=reason)
    elif any(kernel in kernels.kernels for kernel in own):
        applied = kernels.applied(module)
        entry = write_kernels(
            files, {kernel: applied[kernel] for kernel in own if kernel in kernels.kernels}
        )
    else:  # The target has the source's, whatever it had before.
        others = {
            text: known for text, known in unit.targets.items() if text != target_text(target)
        }
        return replace(unit, targets=others)
    return replace(unit, targets={**unit.targets, target_text(target): entry})


def write_kernels(files: SuiteFiles, kernels: Mapping[str, tirx.PrimFunc]) -> SuiteKernels:
    """Write kernels of a unit for a target, by the names of those that they stand for."""
    module = tvm.IRModule({GlobalVar(name): kernel for name, kernel in kernels.items()})
    data = tvm.ir.save_json(module).encode()
    file = f"targets/{hashlib.sha256(data).hexdigest()[:32]}.json"
    if file not in files.sha256:
        files.write(file, data)
    return SuiteKernels(file=file)
