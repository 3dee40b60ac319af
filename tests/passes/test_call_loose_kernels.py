"""A kernel that only a program calls gets a function, a unit and a site."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.passes import native
from relax_tapml.passes.annotate_sites import AnnotateSites, annotated_calls
from relax_tapml.passes.call_loose_kernels import CallLooseKernels


@I.ir_module
class Before:
    @T.prim_func(s_tir=True)
    def add_bias(logits: T.handle, rows: T.handle, bias: T.handle):
        T.func_attr({"global_symbol": "add_bias"})
        n, m, k = T.int32(), T.int32(), T.int32()
        to = T.match_buffer(logits, (n, m))
        at = T.match_buffer(rows, (k,), "int32")
        more = T.match_buffer(bias, (k,))
        for i in range(k):
            with T.sblock("add"):
                vi = T.axis.spatial(k, i)
                to[at[vi], 0] = to[at[vi], 0] + more[vi]

    @T.prim_func(private=True, s_tir=True)
    def twice(x: T.Buffer((4,)), y: T.Buffer((4,))):
        for i in range(4):
            with T.sblock("twice"):
                vi = T.axis.spatial(4, i)
                y[vi] = x[vi] * T.float32(2)

    @R.function
    def main(x: R.Tensor((4,), "float32")):
        return R.call_tir(Before.twice, (x,), out_ty=R.Tensor((4,), "float32"))


@pytest.fixture(scope="module")
def after():
    return CallLooseKernels()(Before)


def test_it_is_a_unit_that_returns_what_it_writes_to(after):
    sites = [site for site, _ in annotated_calls(AnnotateSites()(after))]
    assert {(site.function, site.unit) for site in sites} == {
        ("main", "twice"),
        ("call_add_bias", "add_bias"),
    }
    native.load()
    machine = relax.VirtualMachine(tvm.compile(after, "llvm"), tvm.cpu())
    arrays = [np.zeros((2, 3), "float32"), np.array([1], "int32"), np.array([5], "float32")]
    (found,) = machine["call_add_bias"](*map(tvm.runtime.tensor, arrays))
    np.testing.assert_array_equal(found.numpy(), [[0, 0, 0], [5, 0, 0]])


def test_nothing_else_changes(after):
    """Also if there is nothing to do; the input stays as it is."""
    assert {gvar.name_hint for gvar in Before.get_global_vars()} == {"add_bias", "twice", "main"}
    tvm.ir.assert_structural_equal(after["main"], Before["main"])
    assert CallLooseKernels()(after).same_as(after)
