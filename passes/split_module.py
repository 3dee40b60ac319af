"""Split a module into the host's module and the device's module."""

from __future__ import annotations

from dataclasses import dataclass

import tvm

from ._device_protocol import REGION_ATTR
from .operator_call import is_caller


@dataclass(frozen=True, kw_only=True)
class SplitModule:
    """The two sides of a partitioned module.

    Parameters
    ----------
    host
        Entry functions, which call regions through ``relax_tapml.device.*``, with all units.
    device
        Region functions, with all units; None if no site is on the device.
    """

    host: tvm.IRModule
    device: tvm.IRModule | None


def split_module(
    mod: tvm.IRModule, host_units: tvm.IRModule, device_units: tvm.IRModule
) -> SplitModule:
    """Split a module after ``OutlineRegions``; each side gets its own implementation of the units.

    Parameters
    ----------
    mod
        The outlined module. Its entry and region functions are used, its units are not.
    host_units, device_units
        The module as prepared for either side: the units under the GlobalVars that ``mod`` calls
        them by, and whatever they call in turn. Their entry functions are not used.
    """
    host: dict[tvm.ir.GlobalVar, tvm.ir.BaseFunc] = {}
    device: dict[tvm.ir.GlobalVar, tvm.ir.BaseFunc] = {}
    for gvar, function in mod.functions.items():
        if not is_caller(function):
            continue
        is_region = function.attrs and REGION_ATTR in function.attrs
        (device if is_region else host)[gvar] = function
    entries = {gvar.name_hint for gvar in host}
    return SplitModule(
        host=tvm.IRModule({**_without(entries, host_units), **host}, attrs=mod.attrs),
        device=tvm.IRModule({**_without(entries, device_units), **device}) if device else None,
    )


def _without(entries: set[str], mod: tvm.IRModule) -> dict[tvm.ir.GlobalVar, tvm.ir.BaseFunc]:
    return {g: f for g, f in mod.functions.items() if g.name_hint not in entries}
