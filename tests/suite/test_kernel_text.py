from __future__ import annotations

import os
import signal

import pytest
import tvm
from tvm.script import ir as I  # noqa: N812 - as TVMScript prints it
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.suite import kernel_text as module
from relax_tapml.suite.kernel_text import kernel_text


@I.ir_module
class Kernels:
    @T.prim_func(s_tir=True)
    def double(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] * T.float32(2)


TARGET = tvm.target.Target("llvm")


def test_a_kernel_has_a_script_and_generated_source() -> None:
    text = kernel_text(Kernels, TARGET)
    assert "def double" in text.script
    assert "define" in text.source
    assert (text.suffix, text.missing) == (".ll", "")


@pytest.mark.needs_forks
def test_a_code_generator_that_crashes_leaves_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel failed, so whatever is made of it may crash."""
    monkeypatch.setattr(module, "kernel_source", lambda *_: os.kill(os.getpid(), signal.SIGSEGV))
    text = kernel_text(Kernels, TARGET)
    assert "def double" in text.script
    assert text.source == ""
    assert "SIGSEGV" in text.missing
