"""Build the source, run it on the samples, and compare it with the framework."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from relax_tapml.arrays import Array
from relax_tapml.bringup._identity import source_identity
from relax_tapml.bringup._import_check import ImportCheck
from relax_tapml.bringup._measured import Measured
from relax_tapml.bringup._source import Source
from relax_tapml.bringup.ir_dump import NO_DUMP, IrDump
from relax_tapml.bringup.lowered_model import Lowered
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import SourceError
from relax_tapml.frontend.model import Model
from relax_tapml.migrate.choices import SourceChoices
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.progress import SILENT, Stage, showing
from relax_tapml.report.quantities import number_text
from relax_tapml.results.import_result import ImportFinding


@dataclass(frozen=True, kw_only=True)
class BuiltSource:
    """The source, built and not run yet.

    Parameters
    ----------
    model, lowered, side
        What it was built from.
    source
        What runs.
    identity
        Digests of what captures depend on, by the name that a user would give each.
    build_s
        Seconds of building its kernels.
    """

    model: Model
    lowered: Lowered
    side: SideSpec
    source: Source
    identity: Mapping[str, str]
    build_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trusted:
    """A source that has run on all samples; its outputs are the oracle.

    Parameters
    ----------
    built
        The source.
    outputs
        For each sample, its outputs.
    check
        How it compares with the framework; None where that has no output.
    doubt
        Why the import is not known to be right; empty if it is.
    is_refused
        Whether it is known to be wrong, so that nothing may be concluded about a target.
    finding
        What makes it differ from the framework; None where it does not, or that was not looked for.
    run_s, derive_s
        Seconds in which the source ran all samples, and in which it derived weights for that.
    """

    built: BuiltSource
    outputs: list[list[Array]]
    check: ImportCheck | None = None
    doubt: str = ""
    is_refused: bool = False
    finding: ImportFinding | None = None
    run_s: float = 0.0
    derive_s: float = 0.0

    @property
    def measured(self) -> Measured:
        """What its run shows of how long the rest will take."""
        return Measured(
            run_s=self.run_s,
            derive_s=self.derive_s,
            build_s=self.built.build_s,
            kernels_built=len(self.built.source.kernels.built),
        )

    def require(self, target: str) -> None:
        """Raise ``SourceError`` if the import is wrong, which a run on ``target`` would hide."""
        if self.is_refused:
            if self.finding is None:
                found = "look for an operator that the importer or the host pipeline gets wrong"
            else:
                found = self.finding.text
            raise SourceError(
                f"{self.doubt}. Nothing is known about {target}; {found}. To go on nevertheless: "
                "--no-import-check"
            )


def build_source(
    model: Model,
    lowered: Lowered,
    side: SideSpec,
    kernels: Path,
    dump: IrDump = NO_DUMP,
    stage: Stage = SILENT,
) -> BuiltSource:
    """Build a model for its source.

    Parameters
    ----------
    model
        With weights and samples.
    lowered
        Of that model.
    side
        The source. Its kernels are compiled without fast math.
    kernels
        Folder of cached kernels, made if it is not there.
    dump
        Gets the module after each pass.
    stage
        Shows the progress.

    Raises
    ------
    LoweringError
        A kernel of the source does not build, or its pipeline raised.
    """
    side = side.trusted()
    stage.say(f"building kernels for {side.described}")
    library = KernelLibrary(kernels)
    with dump.phase("source"):
        units = lower_for_target(lowered.module, side.target, side.pipeline)
    began = time.perf_counter()
    built = library.build(units, side.target, showing(stage, f"kernels for {side.name}"))
    build_s = time.perf_counter() - began
    return BuiltSource(
        model=model,
        lowered=lowered,
        side=side,
        source=Source(model, units, side.target, built, library),
        identity=source_identity(model, lowered.module, units, built),
        build_s=build_s,
    )


def trust_source(built: BuiltSource, is_checked: bool = True, stage: Stage = SILENT) -> Trusted:
    """Run a source on all samples, and compare it with the framework that the model comes from.

    Parameters
    ----------
    built
        The source.
    is_checked
        Whether a source that differs is refused, and a framework whose own run fails is an error;
        otherwise these are doubts.
    stage
        Shows the progress.

    Raises
    ------
    SourceError
        The source crashes; or the framework's own run fails, and ``is_checked``.
    """
    outputs = built.source.run(stage)
    source = built.source
    ran = Trusted(built=built, outputs=outputs, run_s=source.run_s, derive_s=source.derive_s)
    stage.say("comparing with the framework")
    name, model = built.side.described, built.model.name
    try:
        check = source.check_import(outputs, SourceChoices(built.lowered.module))
    except SourceError as error:
        if is_checked:
            raise
        stage.say(f"{name}; the framework's own run failed")
        return replace(ran, doubt=str(error))
    if check is None:
        stage.say(f"{name}; there is no framework output to compare with")
        return ran
    stage.say(f"{name} {check.agreement} (max abs {number_text(check.apart)})")
    doubts = {
        Verdict.PASS: "",
        Verdict.INCONCLUSIVE: f"import of {model}: comparing with the framework shows nothing: "
        f"{check.reason}",
    }
    wrong = (
        f"import of {model}: the source build does not compute what the framework does: "
        f"{check.reason}"
    )
    if not is_checked:
        wrong += ". The run went on nevertheless: --no-import-check"
    return replace(
        ran,
        check=check,
        doubt=doubts.get(check.verdict, wrong),
        is_refused=is_checked and check.verdict not in doubts,
    )
