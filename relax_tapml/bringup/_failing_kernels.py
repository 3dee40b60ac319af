"""Keep the kernels of units that failed as text, beside the result."""

from __future__ import annotations

import logging
from pathlib import Path

from relax_tapml.bringup.target_build import TargetBuild
from relax_tapml.errors import TapmlError
from relax_tapml.passes.submodule import submodule
from relax_tapml.results.failing_kernels import write_failing_kernel
from relax_tapml.results.run_result import RunResult
from relax_tapml.suite.kernel_text import kernel_text

_AT_MOST = 5
_log = logging.getLogger(__name__)


def write_failing_kernels(result: RunResult, build: TargetBuild, out: Path) -> None:
    """Write the kernels of the first few culprits to ``out/failing``, as they are on the target.

    Where that is not possible the log says why: the result is worth more than their text.
    """
    try:
        _write(result, build, out)
    except TapmlError as error:
        _log.warning("the kernels of the culprits are not all in %s: %s", out, error)


def _write(result: RunResult, build: TargetBuild, out: Path) -> None:
    functions = {gvar.name_hint for gvar in build.prepared.units.functions}
    culprits = [name for name in result.culprits if name in functions]
    for name in culprits[:_AT_MOST]:
        text = kernel_text(submodule(build.prepared.units, [name]), build.spec.target)
        write_failing_kernel(
            out, name, _script(name, text.script, text.missing), text.suffix, text.source
        )


def _script(unit: str, script: str, missing: str) -> str:
    about = [f"unit {unit}, as the target has it"]
    if missing:
        about.append(f"no generated source: {missing}")
    lines = [line for text in about for line in text.splitlines()]
    return "".join(f"# {line}\n" for line in lines) + script
