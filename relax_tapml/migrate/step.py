"""One boundary, tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import tvm

from relax_tapml.carve.submodule import submodule
from relax_tapml.compare.comparison import compare_all, worst
from relax_tapml.compare.tolerance import Tolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceFault, DeviceTimeout
from relax_tapml.frontend.model import Array, Sample
from relax_tapml.migrate.json_number import json_number
from relax_tapml.migrate.strategy import Proposal
from relax_tapml.partition.boundary import PartitionedProgram, partition
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.passes.operator_call import UNIT_ATTR
from relax_tapml.targets.session import DeviceSession


@dataclass(frozen=True, kw_only=True)
class Step:
    """How one boundary did, as in ``result.json``.

    Parameters
    ----------
    boundary
        Units on the device, sorted.
    unit
        The unit that moved, or None.
    verdict, reason, error
        What came of it, why in one sentence, and the largest absolute error of the outputs.
    shift_s, run_s
        Seconds for partition, bytecode and link; and for the hybrid runs of all samples.
    kernels_built
        Kernels compiled in this step.
    bytes_moved
        Tensor bytes that crossed to and from the device.
    """

    boundary: list[str]
    unit: str | None
    verdict: Verdict
    reason: str
    error: float | None
    shift_s: float
    run_s: float
    kernels_built: int
    bytes_moved: int

    def document(self) -> dict[str, Any]:
        """Return the step as it stands in ``result.json``."""
        fields = {**asdict(self), "error": json_number(self.error)}
        seconds = {"shift": fields.pop("shift_s"), "run": fields.pop("run_s")}
        return {**fields, "verdict": str(self.verdict), "seconds": seconds}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Step:
        """Read back what ``document`` returned."""
        fields = dict(document)
        seconds = fields.pop("seconds")
        fields["verdict"] = Verdict(fields["verdict"])
        fields["error"] = None if fields["error"] is None else float(fields["error"])
        return cls(shift_s=seconds["shift"], run_s=seconds["run"], **fields)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Everything a step needs that stays the same from step to step.

    Parameters
    ----------
    lowered
        The annotated module.
    entry
        Name of the function that is run.
    host_units, device_units
        The module as prepared for either side.
    source, target
        What the sides run on.
    host
        Kernels and weights of the source, loaded.
    library
        Where kernels are built; a step must not need it.
    device_kernels
        Kernels of the target.
    """

    lowered: tvm.IRModule
    entry: str
    host_units: tvm.IRModule
    device_units: tvm.IRModule
    source: tvm.target.Target
    target: tvm.target.Target
    host: Host
    library: KernelLibrary
    device_kernels: KernelSet

    def partition(self, boundary: frozenset[str]) -> PartitionedProgram:
        """Return the programs of a boundary.

        The device gets the units that are on it and no others: one whose kernel does not build
        must not keep the rest from being linked.
        """
        on_device = [
            gvar.name_hint
            for gvar, function in self.device_units.functions.items()
            if (function.attrs or {}).get(UNIT_ATTR, gvar.name_hint) in boundary
        ]
        return partition(
            self.lowered,
            boundary,
            host_units=self.host_units,
            device_units=submodule(self.device_units, on_device),
            source=self.source,
            target=self.target,
            library=self.library,
        )


class Device:
    """The one device session of a migration, opened when needed and replaced after a fault."""

    def __init__(self, open_session: Callable[[], DeviceSession]) -> None:
        self._open = open_session
        self._session: DeviceSession | None = None

    @property
    def session(self) -> DeviceSession:
        """The open session. Raises ``DeviceUnavailable`` if none can be opened."""
        if self._session is None:
            self._session = self._open()
        return self._session

    @property
    def bytes_moved(self) -> int:
        """Bytes the open session has moved; none if there is none."""
        return 0 if self._session is None else self._session.bytes_moved

    def close(self) -> None:
        """End the session, if any; the next use opens a fresh one."""
        if self._session is not None:
            self._session.close()
            self._session = None


def try_step(
    sides: Sides,
    proposal: Proposal,
    device: Device,
    samples: Sequence[Sample],
    oracles: Sequence[Sequence[Array]],
    tolerances: Sequence[Sequence[Tolerance]],
) -> Step:
    """Run the model with a boundary on every sample and compare with the source's outputs.

    The first sample that differs ends the step. After a fault the session is closed.

    Parameters
    ----------
    sides, proposal, device
        What to run where.
    samples
        Inputs.
    oracles, tolerances
        For each sample, the source's outputs and how far from them a right target may be.

    Raises
    ------
    LoweringError
        The partition itself failed.
    DeviceUnavailable
        No session could be opened.
    """
    if proposal.boundary:
        _ = device.session  # Opening it is no part of the step.
    built_before = sides.library.built_count
    began = time.perf_counter()
    program = sides.partition(proposal.boundary)
    partitioned = time.perf_counter()
    moved_before = device.bytes_moved
    verdict, reason, error = Verdict.PASS, "", 0.0
    linked = partitioned
    try:
        needs_device = program.device is not None
        hybrid = HybridModule(
            sides.host,
            program,
            device.session if needs_device else None,
            sides.device_kernels.files(proposal.boundary),
        )
        linked = time.perf_counter()
        for sample, oracle, allowed in zip(samples, oracles, tolerances, strict=True):
            outputs = hybrid[sides.entry](*sample.arrays)
            comparisons = compare_all(oracle, outputs, allowed)
            found = worst(comparisons)
            error = max(error, found.error)
            if found.verdict is not Verdict.PASS:
                verdict, error = found.verdict, found.error
                number = next(i for i, item in enumerate(comparisons) if item is found)
                output = f", output {number}" if len(comparisons) > 1 else ""
                reason = f"on {sample.name!r}{output}: {found.reason}"
                break
        bytes_moved = device.bytes_moved - moved_before
    except DeviceFault as fault:
        bytes_moved = device.bytes_moved - moved_before
        device.close()
        verdict, reason = fault_verdict(fault), str(fault)
    finished = time.perf_counter()
    return Step(
        boundary=sorted(proposal.boundary),
        unit=proposal.moved,
        verdict=verdict,
        reason=reason,
        error=None if verdict in (Verdict.CRASH, Verdict.TIMEOUT) else error,
        shift_s=linked - began,
        run_s=finished - linked,
        kernels_built=sides.library.built_count - built_before,
        bytes_moved=bytes_moved,
    )


def fault_verdict(fault: DeviceFault) -> Verdict:
    """Return the verdict a device fault stands for."""
    return Verdict.TIMEOUT if isinstance(fault, DeviceTimeout) else Verdict.CRASH
