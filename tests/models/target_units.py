# ruff: noqa: N812 - TVMScript
"""A small Relax module with kernels that work, fail, crash and hang."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.targets.platforms.parse_target import parse_target

LLVM = parse_target("llvm")


@dataclass(frozen=True, kw_only=True)
class Built:
    """Serialised bytecode and the kernel libraries it calls."""

    bytecode: bytes
    kernels: list[Path]


def build(module, folder: Path) -> Built:
    """Compile every PrimFunc to a library of its own and the Relax functions to bytecode."""
    with LLVM:
        lowered = relax.get_pipeline("default_build")(module)
    kernels = []
    # Lowering adds PrimFuncs that compute symbolic shapes.
    for name, function in lowered.functions_items():
        if isinstance(function, tvm.tirx.PrimFunc):
            path = folder / f"{name.name_hint}.so"
            single = tvm.IRModule({name: function.with_attr("global_symbol", name.name_hint)})
            tvm.tirx.build(single, target=LLVM).export_library(str(path))
            kernels.append(path)
    builder = relax.ExecBuilder()
    lowered = relax.vm_build._vmcodegen(builder, lowered)
    executable = relax.vm_build._vmlink(builder, LLVM, None, params={})
    path = folder / "bytecode.bin"
    executable.mod.write_to_file(str(path), "bin")
    return Built(bytecode=path.read_bytes(), kernels=kernels)


@I.ir_module
class Units:
    """One Relax function for each way a kernel can behave."""

    @T.prim_func(private=True, s_tir=True)
    def exp_tenth(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
        for i, j in T.grid(4, 8):
            with T.sblock("y"):
                v_i, v_j = T.axis.remap("SS", [i, j])
                y[v_i, v_j] = T.exp(x[v_i, v_j]) * T.float32(0.1)

    @T.prim_func(private=True, s_tir=True)
    def store_far_away(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
        for i in range(8):
            with T.sblock("y"):
                v_i = T.axis.spatial(8, i)
                y[T.int64(1) << T.int64(44), v_i] = x[0, v_i]

    @T.prim_func(private=True, s_tir=True)
    def spin(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
        for i in T.serial(T.int64(1) << T.int64(60)):
            with T.sblock("y"):
                T.axis.spatial(T.int64(1) << T.int64(60), i)
                y[0, 0] = y[0, 0] * T.float32(0.5) + x[0, 0]

    @T.prim_func(private=True, s_tir=True)
    def call_missing(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
        T.evaluate(T.call_packed("tapml_test.no_such_function", x.data, y.data))

    @R.function
    def works(x: R.Tensor((4, 8), "float32"), w: R.Tensor((4, 8), "float32")):
        cls = Units
        with R.dataflow():
            y = R.call_tir(cls.exp_tenth, (x,), out_ty=R.Tensor((4, 8), "float32"))
            z = R.call_tir(cls.exp_tenth, (w,), out_ty=R.Tensor((4, 8), "float32"))
            out = (y, (z,))
            R.output(out)
        return out

    @R.function
    def views(x: R.Tensor((4, 8), "float32")):
        with R.dataflow():
            out = (R.reshape(x, R.shape([2, 16])),)
            R.output(out)
        return out

    @R.function
    def reshapes(x: R.Tensor((4, 8), "float32"), shape: R.Shape(["m", "n"])):
        m, n = T.int64(), T.int64()
        with R.dataflow():
            y = R.reshape(x, R.shape([m, n]))
            R.output(y)
        return y

    @R.function
    def crashes(x: R.Tensor((4, 8), "float32")):
        cls = Units
        with R.dataflow():
            y = R.call_tir(cls.store_far_away, (x,), out_ty=R.Tensor((4, 8), "float32"))
            R.output(y)
        return y

    @R.function
    def hangs(x: R.Tensor((4, 8), "float32")):
        cls = Units
        with R.dataflow():
            y = R.call_tir(cls.spin, (x,), out_ty=R.Tensor((4, 8), "float32"))
            R.output(y)
        return y

    @R.function
    def raises(x: R.Tensor((4, 8), "float32")):
        cls = Units
        with R.dataflow():
            y = R.call_tir(cls.call_missing, (x,), out_ty=R.Tensor((4, 8), "float32"))
            R.output(y)
        return y


@pytest.fixture(scope="session")
def units(tmp_path_factory) -> Built:
    """The compiled ``Units``."""
    return build(Units, tmp_path_factory.mktemp("units"))
