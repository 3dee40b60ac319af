"""Gather the device sites of a function into as few device calls as its data flow allows."""

from __future__ import annotations

import tvm
from tvm import relax

from ._device_protocol import DOWNLOAD, PARAMETER, REGION_ATTR, RUN, UPLOAD
from ._host_function import HostFunction
from ._region_table import RegionTable
from .assign_sides import DEVICE_SITES_ATTR
from .module_pass import ModulePass

__all__ = ["DOWNLOAD", "PARAMETER", "REGION_ATTR", "RUN", "UPLOAD", "OutlineRegions"]


@tvm.transform.module_pass(opt_level=0, name="OutlineRegions")
class OutlineRegions(ModulePass):
    """Move the device sites of every function into region functions, called over explicit copies.

    A region is a maximal convex group of device sites: all sites that can run without a host
    operator in between run in one call. So the number of device calls is the number of times that
    the data flow changes to the device. Each value is copied at most once in each direction, and
    again only after a host call that may have written to it. Values that only other regions read
    stay on the device. Weights are named, not copied: the device keeps them. Regions that are
    structurally equal, as those of repeated layers, are one function with the name of the first.

    Precondition: ``AssignSides`` has run. ``ToNonDataflow`` is applied where something moves. ::

        R.func_attr({"num_input": 1, "relax_tapml.device_sites": ["main/000/matmul"]})
        lv = R.call_tir(cls.matmul, (x, w), out_ty=R.Tensor((4, 8), "float32"))
        gv = R.call_tir(cls.relu, (lv,), out_ty=R.Tensor((4, 8), "float32"))
        # after
        x_device = R.call_packed("relax_tapml.device.upload", x, ty_args=(R.Object,))
        w_device = R.call_packed("relax_tapml.device.parameter", "w", ty_args=(R.Object,))
        result = R.call_packed("relax_tapml.device.run", "main_region0", x_device, w_device,
                               ty_args=(R.Tuple(R.Object),))
        lv_device = result[0]
        lv = R.call_packed("relax_tapml.device.download", lv_device,
                           ty_args=(R.Tensor((4, 8), "float32"),))
        gv = R.call_tir(cls.relu, (lv,), out_ty=R.Tensor((4, 8), "float32"))

        @R.function
        def main_region0(x: R.Tensor((2, 4), "float32"), w: R.Tensor((4, 8), "float32")):
            R.func_attr({"relax_tapml.region": "main"})
            lv = R.call_tir(cls.matmul, (x, w), out_ty=R.Tensor((4, 8), "float32"))
            return (lv,)

    A branch of an ``If`` is outlined by itself. Symbolic dimensions that no tensor argument of a
    region defines are passed as one shape argument, the last. A module in which no site is on the
    device is returned as it is.

    Parameters
    ----------
    is_merged
        Whether sites that can run in one call do. If not, every site is a region of its own, so
        that a failing call identifies its site; values still stay on the device between regions.
    """

    def __init__(self, *, is_merged: bool = True) -> None:
        self._is_merged = is_merged

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        names = [
            gvar.name_hint
            for gvar, function in mod.functions.items()
            if function.attrs and DEVICE_SITES_ATTR in function.attrs
        ]
        if not names:
            return mod
        out = relax.transform.ToNonDataflow()(mod).clone()
        regions = RegionTable(_names_in(out), is_shared=self._is_merged)
        for name in names:
            host = HostFunction(out, name, regions, is_merged=self._is_merged).rewrite()
            out.update_func(out.get_global_var(name), host)
        for name, region in regions.functions.items():
            out[name] = region
        return relax.transform.RemovePurityChecking()(out)


def _names_in(mod: tvm.IRModule) -> set[str]:
    names = set()
    for gvar, function in mod.functions.items():
        names.add(gvar.name_hint)
        if function.attrs and "global_symbol" in function.attrs:
            names.add(str(function.attrs["global_symbol"]))
    return names
