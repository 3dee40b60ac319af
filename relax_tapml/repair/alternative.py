"""What an alternative kernel is made of, and what makes one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tvm import tirx


class Layer(StrEnum):
    """Where a fault is, if a kernel is right that differs from a wrong one there only."""

    PIPELINE = "device pipeline"
    OPTION = "compile option"
    LOWERING = "lowering"
    SCHEDULE = "schedule"
    DEFINITION = "definition"
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
    """

    failing: tirx.PrimFunc
    lowered: tirx.PrimFunc
    target: Any


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
