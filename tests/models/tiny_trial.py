"""``tiny_model`` built for both sides, and a device that fails on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import tvm
from tiny_model import model

from relax_tapml.arrays import Array
from relax_tapml.bringup._source import Source
from relax_tapml.compare.tolerances.rule import tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.frontend.model import Model
from relax_tapml.migrate.built_sides import BuiltSides
from relax_tapml.migrate.move_groups import By, MoveGroup, move_batches
from relax_tapml.migrate.trial import Trial
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower import lower, mark_inputs
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.partition.site_table import site_table
from relax_tapml.progress import SilentStage
from relax_tapml.targets.session.device import Device
from relax_tapml.targets.session.inline import InlineSession

LLVM = tvm.target.Target("llvm")


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """What a migration of ``tiny_model`` works with."""

    model: Model
    lowered: tvm.IRModule
    library: KernelLibrary
    source: Source
    sides: BuiltSides
    oracles: list[list[Array]]
    tolerances: list[list[Tolerance]]
    groups: dict[str, MoveGroup]

    def trial(self, device: Device, **fields: Any) -> Trial:
        """Return what boundaries are tried with, ``fields`` instead of the model's own."""
        own = {
            "sides": self.sides,
            "groups": self.groups,
            "device": device,
            "model": self.model,
            "oracles": self.oracles,
            "tolerances": self.tolerances,
        }
        return Trial(**{**own, **fields})


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Both sides have the same kernels; the library builds no others."""
    built = model()
    lowered = lower(mark_inputs(built.module, built.params))
    library = KernelLibrary(tmp_path_factory.mktemp("kernels"))
    units = lower_for_target(lowered, LLVM)
    kernels = library.build(units, LLVM)
    source = Source(built, units, LLVM, kernels, library)
    sides = BuiltSides(
        lowered=lowered,
        host_units=units,
        device_units=units,
        source=LLVM,
        target=LLVM,
        host=source.host,
        library=library,
        device_kernels=kernels,
    )
    oracles = source.run(SilentStage())
    table = site_table(lowered)
    batches = move_batches(table, By.UNIT, {entry.site.id for entry in table})
    return Tiny(
        model=built,
        lowered=lowered,
        library=library,
        source=source,
        sides=sides,
        oracles=oracles,
        tolerances=[[tolerance_for(oracle) for oracle in outputs] for outputs in oracles],
        groups={group.name: group for batch in batches for group in batch},
    )


class FailingSession(InlineSession):
    """A device in this process whose calls raise ``fault``, if there is one."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__(LLVM)
        self.fault = fault
        self.is_closed = False

    def call(self, *args: Any) -> Any:
        """Run a function, or raise."""
        if self.fault is not None:
            raise self.fault
        return super().call(*args)

    def close(self) -> None:
        """End the session."""
        self.is_closed = True
        super().close()


@pytest.fixture
def failing_session() -> type[FailingSession]:
    """The class of devices that fail on demand."""
    return FailingSession
