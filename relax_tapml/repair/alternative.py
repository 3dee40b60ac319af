"""What an alternative kernel is made of, and what makes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tvm import tirx

from relax_tapml.repair._scheduled import is_plain


class Layer(StrEnum):
    """Where a fault is, if a kernel is right that differs from a wrong one there only."""

    PIPELINE = "device pipeline"
    OPTION = "compile option"
    LOWERING = "lowering"
    SCHEDULE = "schedule"
    CODE_GENERATION = "code generation"
    DEFINITION = "definition"
    DRIVER = "driver"
    UNKNOWN = "code generation or driver"


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A kernel of a failing unit.

    Parameters
    ----------
    failing
        As the device's pipeline returned it: scheduled by it, or not yet.
    lowered
        As the pipeline got it, without a schedule.
    target
        The ``tvm.target.Target`` that it is built for.
    host
        What a CPU computes the unit with, without a schedule; None if that is not known.
    """

    failing: tirx.PrimFunc
    lowered: tirx.PrimFunc
    target: Any
    host: tirx.PrimFunc | None = None

    @property
    def plain(self) -> tirx.PrimFunc:
        """The failing kernel if the pipeline left it without a schedule, else the lowered one."""
        return self.failing if is_plain(self.failing) else self.lowered

    @property
    def is_for_gpu(self) -> bool:
        """Whether the target's loops are bound to threads."""
        return "gpu" in self.target.keys


class Alternative(ABC):
    """One way to make another kernel of the same definition; each is one file."""

    name: str
    """For files and results."""

    layer: Layer
    """What it changes."""

    text: str
    """A phrase that follows ``right``: ``without fast math``."""

    @abstractmethod
    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return the other kernel; None where the alternative does not apply.

        Whatever TVM raises counts as not applicable, with its message as the reason.
        """
