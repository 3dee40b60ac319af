# ruff: noqa: N812 - TVMScript
"""Copies to the device and back are listed call by call, each copy once."""

from __future__ import annotations

from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.crossings import Crossing, DeviceCall, bytes_of
from relax_tapml.passes.assign_sides import AssignSides
from relax_tapml.passes.device_calls import device_calls
from relax_tapml.passes.outline_regions import OutlineRegions


def calls(module, *units):
    return device_calls(OutlineRegions()(AssignSides(units=units)(module)))


def test_each_copy_is_listed_once_where_it_is_needed(lowered):
    """A later call has what an earlier one brought; what stays on the device does not cross."""

    @I.ir_module
    class Module:
        @R.function
        def main(x: R.Tensor((2, 4), "float16"), w: R.Tensor((4,), "float16")):
            R.func_attr({"num_input": 1})
            a = R.add(x, w)
            b = R.exp(a)
            c = R.add(b, w)
            d = R.multiply(c, a)
            return (d, x)

    first, second = calls(lowered(Module), "add", "multiply")
    assert first == DeviceCall(
        function="main",
        region="main_region0",
        sites=("main/000/add",),
        uploads=(Crossing(name="x", type="float16[2, 4]", size_bytes=16),),
        downloads=(Crossing(name="a", type="float16[2, 4]", size_bytes=16),),
        parameters=(Crossing(name="w", type="float16[4]", size_bytes=8),),
    )
    assert second == DeviceCall(
        function="main",
        region="main_region1",
        sites=("main/002/add", "main/003/multiply"),
        uploads=(Crossing(name="b", type="float16[2, 4]", size_bytes=16),),
        downloads=(Crossing(name="d", type="float16[2, 4]", size_bytes=16),),
        parameters=(),
    )
    assert (first.crossings, first.crossing_bytes) == (2, 32)
    assert bytes_of([first, second]) == 64


def test_a_size_that_only_the_run_knows_is_none(lowered):
    """The dimension has its name; the shape argument is not a copy."""

    @I.ir_module
    class Module:
        @R.function
        def main(x: R.Tensor(("n", 4), "float32")):
            n = T.int64()
            a = R.full(R.shape([n + 1]), R.const(1.0, "float32"), dtype="float32")
            return (a, R.exp(x))

    (call,) = calls(lowered(Module), "full")
    assert call.uploads == ()
    assert call.downloads == (Crossing(name="a", type="float32[n + 1]", size_bytes=None),)
    assert call.crossing_bytes is None
    assert bytes_of([call]) is None
    (call,) = calls(lowered(Module), "tir_exp")
    assert call.uploads == (Crossing(name="x", type="float32[n, 4]", size_bytes=None),)
