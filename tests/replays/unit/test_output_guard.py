# ruff: noqa: N812 - TVMScript
"""What a kernel leaves unwritten, or writes behind its output, is seen, whatever it returns."""

from __future__ import annotations

from contextlib import closing

import ml_dtypes
import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.replays.unit._output_guard import guarded_call
from relax_tapml.replays.unit._poison import GUARD_BYTES, PoisonedBlock, pattern_sizes
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.session.poison import Poison

LLVM = tvm.target.Target("llvm")


@I.ir_module
class Two:
    """A kernel of two outputs, of sizes that are no multiple of an alignment."""

    @T.prim_func(private=True, s_tir=True)
    def both(x: T.Buffer((3,), "float32"), y: T.Buffer((3,), "int8"), z: T.Buffer((5,), "float32")):
        for i in range(3):
            with T.sblock("y"):
                v = T.axis.spatial(3, i)
                y[v] = T.Cast("int8", x[v])
        for i in range(5):
            with T.sblock("z"):
                v = T.axis.spatial(5, i)
                z[v] = x[0]

    @R.function
    def replay(x: R.Tensor((3,), "float32")):
        cls = Two
        out = R.call_tir(cls.both, (x,), out_ty=[R.Tensor((3,), "int8"), R.Tensor((5,), "float32")])
        a = out[0]
        b = out[1]
        return (a, b)


def with_guards(module):
    guarded = guarded_call(module, "replay")
    assert guarded is not None
    out = module.clone()
    del out["replay"]
    out["replay"] = guarded.function
    return out, guarded


def called(module, guarded, x, poison, session, folder):
    """Return outputs and guards of a call on a device."""
    library = KernelLibrary(folder)
    kernels = library.build(module, LLVM)
    functions = compile_functions(module, LLVM, library)
    (size,) = pattern_sizes(guarded.blocks)
    with closing(open_session(session, LLVM)) as device:
        program = device.load(functions.bytecode, kernels.files())
        arguments = [device.upload(array) for array in (x, poison.pattern(size))]
        return [device.download(one) for one in device.call(program, "replay", arguments)]


@pytest.mark.parametrize("session", ["inline", "process"])
def test_a_right_kernel_returns_what_it_did_and_the_pattern(session, tmp_path):
    """Behind each output, in this process and over RPC."""
    module, guarded = with_guards(Two)
    assert [block.output for block in guarded.blocks] == [0, 1]
    poison = Poison(seed=3)
    x = np.float32([1, 2, 3])
    y, z, *guards = called(module, guarded, x, poison, session, tmp_path)
    assert (y.tolist(), z.tolist()) == ([1, 2, 3], [1.0] * 5)
    seen = list(zip(guarded.blocks, guards, strict=True))
    assert [block.overrun(block.behind, guard, poison) for block, guard in seen] == ["", ""]
    assert [guard.size for guard in guards] == [GUARD_BYTES] * 2
    first, second = guarded.blocks
    assert first.untouched(y, poison) is None
    assert second.untouched(z, poison) is None


def test_what_was_written_behind_is_reported_by_output():
    """How much, and how far."""
    block = PoisonedBlock(output=1, tensor_bytes=40, pattern_bytes=1 << 15)
    poison = Poison(seed=0)
    touched = np.resize(poison.pattern(block.pattern_bytes), block.size_bytes)[40:][:GUARD_BYTES]
    assert block.guards == (40,)
    assert block.overrun(40, touched, poison) == ""
    touched[[0, 9]] ^= 1
    assert block.overrun(40, touched, poison) == (
        "it writes behind the end of its output 1: 2 bytes differ there, the last one 10 bytes "
        "behind it"
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_poison_is_nan_whatever_the_float(dtype):
    """So that what is computed from it is seen, too; and never the NaN that hardware computes."""
    found = Poison(seed=1).pattern(1 << 12).view(ml_dtypes.bfloat16 if "b" in dtype else dtype)
    assert np.isnan(found.astype("float64")).all()
    with np.errstate(invalid="ignore"):
        computed = np.array([np.nan, -np.nan, np.inf - np.inf], found.dtype)
    bits = f"u{found.dtype.itemsize}"
    assert not np.isin(found.view(bits), computed.view(bits)).any()


def test_untouched_values_hold_the_pattern():
    """Also in a block of several patterns; an output written to the end has none."""
    block = PoisonedBlock(output=0, tensor_bytes=120_000, pattern_bytes=1 << 15)
    poison = Poison(seed=5)
    memory = np.resize(poison.pattern(block.pattern_bytes), block.size_bytes)
    held = memory[:120_000].view("float32").copy().reshape(300, 100)
    held[:200] = 0
    mask = block.untouched(held, poison)
    assert mask is not None
    assert (mask[:200].any(), mask[200:].all()) == (False, True)
    held[200:] = 1
    assert block.untouched(held, poison) is None
    assert block.untouched(np.zeros((0, 3), "float32"), poison) is None


@given(
    count=st.integers(1, 400),
    before_bytes=st.sampled_from([0, 64, 8192]),
    block_bytes=st.sampled_from([16, 64, 1 << 18]),
    dtype=st.sampled_from(["uint8", "float16", "float64"]),
    written=st.sets(st.integers(0, 399)),
)
def test_untouched_values_are_the_same_block_by_block(
    count, before_bytes, block_bytes, dtype, written
):
    """Wherever blocks of the output, and repeats of the pattern, begin."""
    poison, pattern_bytes = Poison(seed=7), 256
    block = PoisonedBlock(
        output=0, tensor_bytes=count * 8, pattern_bytes=pattern_bytes, before_bytes=before_bytes
    )
    memory = np.resize(poison.pattern(pattern_bytes), block.size_bytes)
    size_bytes = count * np.dtype(dtype).itemsize
    values = memory[before_bytes : before_bytes + size_bytes].view(dtype).copy()
    whole = values.copy()
    places = [place for place in written if place < count]
    values.view(f"u{values.itemsize}")[places] ^= 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relax_tapml.replays.unit._poison._BLOCK_BYTES", block_bytes)
        found = block.untouched(values, poison)
    bits = f"u{values.itemsize}"
    expected = values.view(bits) == whole.view(bits)
    assert (found is None) == (not expected.any())
    if found is not None:
        np.testing.assert_array_equal(found, expected)


@I.ir_module
class Others:
    """Calls whose outputs are not allocated for them alone."""

    @T.prim_func(private=True, s_tir=True)
    def double(x: T.Buffer((3,), "float32")):
        for i in range(3):
            with T.sblock("x"):
                v = T.axis.spatial(3, i)
                x[v] = x[v] * T.float32(2)

    @R.function
    def inplace(x: R.Tensor((3,), "float32")):
        cls = Others
        return R.call_tir_inplace(
            cls.double, (x,), inplace_indices=[0], out_ty=R.Tensor((3,), "float32")
        )

    @R.function
    def packed(x: R.Tensor((3,), "float32")):
        return R.call_dps_packed("some.function", (x,), out_ty=R.Tensor((3,), "float32"))

    @R.function
    def impure(x: R.Tensor((3,), "float32")):
        y = R.call_dps_packed("some.function", (x,), out_ty=R.Tensor((3,), "float32"))
        return R.call_pure_packed("another", y, ty_args=R.Tensor((3,), "float32"))


@pytest.mark.parametrize(("name", "count"), [("inplace", 0), ("packed", 1), ("impure", 0)])
def test_what_is_not_allocated_for_the_call_has_no_guard(name, count):
    """Such calls are replayed as they are; a result of any function that fills it has one."""
    guarded = guarded_call(Others, name)
    assert len(guarded.blocks if guarded else ()) == count


@I.ir_module
class Anywhere:
    """Kernels that take their output at any offset; one writes a value before it and one behind."""

    @T.prim_func(private=True, s_tir=True)
    def inside(x: T.handle, y: T.handle):
        place = T.int64()
        X = T.match_buffer(x, (8,), "float32")
        Y = T.match_buffer(y, (8,), "float32", elem_offset=place, offset_factor=1)
        for i in range(8):
            with T.sblock("y"):
                v = T.axis.spatial(8, i)
                Y[v] = X[v]

    @T.prim_func(private=True, s_tir=True)
    def around(x: T.handle, y: T.handle):
        place = T.int64()
        X = T.match_buffer(x, (8,), "float32")
        Y = T.match_buffer(y, (8,), "float32", elem_offset=place, offset_factor=1)
        for i in range(10):
            with T.sblock("y"):
                v = T.axis.spatial(10, i)
                Y[v - 1] = X[T.max(T.min(v - 1, 7), 0)]

    @R.function
    def right(x: R.Tensor((8,), "float32")):
        cls = Anywhere
        out = R.call_tir(cls.inside, (x,), out_ty=R.Tensor((8,), "float32"))
        return (out,)

    @R.function
    def wrong(x: R.Tensor((8,), "float32")):
        cls = Anywhere
        out = R.call_tir(cls.around, (x,), out_ty=R.Tensor((8,), "float32"))
        return (out,)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("right", ["", ""]),
        (
            "wrong",
            [
                "it writes before the begin of its output 0: 4 bytes differ there, the first one 4 "
                "bytes before it",
                "it writes behind the end of its output 0: 4 bytes differ there, the last one 4 "
                "bytes behind it",
            ],
        ),
    ],
)
@pytest.mark.parametrize("session", ["inline", "process"])
def test_where_an_offset_is_taken_there_is_a_guard_before(name, expected, session, tmp_path):
    """Its result is the same, and both sides of it are seen."""
    guarded = guarded_call(Anywhere, name)
    module = Anywhere.clone()
    for function in ("right", "wrong"):
        del module[function]
    module["replay"] = guarded.function.with_attr("global_symbol", "replay")
    (block,), poison = guarded.blocks, Poison(seed=9)
    x = np.arange(8, dtype="float32")
    y, *guards = called(module, guarded, x, poison, session, tmp_path)
    assert y.tolist() == x.tolist()
    found = [block.overrun(p, g, poison) for p, g in zip(block.guards, guards, strict=True)]
    assert found == expected
