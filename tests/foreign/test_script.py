"""A print of a module is used as Python only where it is TVMScript and nothing else."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.foreign.script import script_fault
from relax_tapml.suite._script_text import script_text

HEAD = """
from typing import TypeVar
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

n = TypeVar("n")
"""


@I.ir_module
class Scale:
    @T.prim_func(private=True, s_tir=True)
    def scale(x: T.Buffer((64, 64), "float32"), y: T.Buffer((64, 64), "float32")):
        for i, j in T.grid(64, 64):
            with T.sblock("scale"):
                vi, vj = T.axis.remap("SS", [i, j])
                y[vi, vj] = T.Select(x[vi, vj] > T.float32(0), x[vi, vj], T.exp(x[vi, vj]))

    @R.function
    def main(x: R.Tensor((64, 64), "float32")):
        cls = Scale
        z = R.nn.relu(x)
        return R.call_tir(cls.scale, (z,), out_ty=R.Tensor((64, 64), "float32"))


@pytest.mark.parametrize("target", ["llvm", "nvidia/nvidia-h100"])
def test_what_tvm_prints_is_let_through(target: str) -> None:
    module = Scale
    if target != "llvm":
        with tvm.target.Target(target):
            module = tvm.s_tir.dlight.ApplyDefaultSchedule(tvm.s_tir.dlight.gpu.Fallback())(module)
    assert script_text(module).inexact == ""


@pytest.mark.parametrize(
    "line",
    [
        "__import__('os').system('true')",
        "T.evaluate(__import__('os').system('true'))",
        "T.evaluate(open('file', 'w'))",
        "I.entry.inspect.getmodule(1)",
        "T.__dict__",
        "().__class__.__base__.__subclasses__()",
        "x = exec\nx('1')",
        "import os",
        "from os import system as T",
        "def f():\n    pass",
        "R = n",
        "[y for y in n]",
        "T.evaluate(f'{n}')",
        "'{0.__class__}'.format(n)",
        "n.x.__globals__",
    ],
)
def test_what_is_no_tvmscript_is_found(line: str) -> None:
    assert script_fault(HEAD + line)
    assert script_fault(HEAD) == ""


def test_code_in_a_print_is_not_run(tmp_path) -> None:
    """Keys of attributes are printed as they are, and evaluated by who reads the print."""
    mark = tmp_path / "ran"
    key = f"a=__import__('pathlib').Path('{mark}').touch(), b"
    attributes = tvm.ir.make_node("ir.DictAttrs", **{key: 1})
    ty = relax.TensorType((4,), "float32")
    x = relax.Var("x", ty)
    builder = relax.BlockBuilder()
    with builder.function("main", [x], pure=False):
        call = relax.Call(relax.ExternFunc("foo"), [x], attributes, [ty])
        builder.emit_func_output(builder.emit(call))
    printed = script_text(builder.get())
    assert str(mark) in printed.text
    assert printed.inexact
    assert not mark.exists()
