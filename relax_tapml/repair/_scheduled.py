"""Schedules of single kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir import dlight

from relax_tapml.targets.toolchain.default_schedule import schedule

_NAME = "main"
_SCHEDULED = "tirx.is_scheduled"


def scheduled(kernel: tirx.PrimFunc, target: Any) -> tirx.PrimFunc:
    """Return a kernel as it is compiled: with its own schedule, or the default one."""
    function = schedule(tvm.IRModule({_NAME: kernel}), target)[_NAME]
    return function.with_attr(_SCHEDULED, True)


def scheduled_by(kernel: tirx.PrimFunc, target: Any, rules: Sequence[Any]) -> tirx.PrimFunc | None:
    """Return a kernel scheduled by the first rule of dlight that applies; None if none does."""
    with target:
        made = dlight.ApplyDefaultSchedule(*rules)(tvm.IRModule({_NAME: kernel}))[_NAME]
    return made if made.attrs.get(_SCHEDULED, False) else None


def as_scheduled(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a kernel that is compiled with no other schedule than its own."""
    return kernel.with_attr(_SCHEDULED, True)
