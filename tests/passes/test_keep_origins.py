# ruff: noqa: N812 - TVMScript
"""Every kernel call has its origins, also when several calls were fused into it."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.passes.annotate_sites import AnnotateSites, annotated_calls
from relax_tapml.passes.keep_origins import FuseOpsKeepingOrigins, KeepOrigins, give_origins
from relax_tapml.passes.origin import Origin
from relax_tapml.passes.site import origins_of


@I.ir_module
class Layers:
    """Two layers that fuse to the same function, in an order that interleaves them."""

    @R.function
    def main(
        x: R.Tensor((4, 8), "float32"),
        v: R.Tensor((8, 8), "float32"),
        w: R.Tensor((8, 8), "float32"),
    ):
        with R.dataflow():
            first = R.matmul(x, w)
            second = R.matmul(v, w)
            first_act = R.nn.relu(first)
            second_act = R.nn.relu(second)
            third = R.matmul(second_act, w)
            third_act = R.nn.relu(third)
            total = R.matmul(first_act, third_act)
            out = R.sum(total, axis=[0])
            R.output(out)
        return out


def marked(module: tvm.IRModule) -> tvm.IRModule:
    """The module, each call with the name of its variable as where it comes from."""
    names = {}
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            names[binding.var] = [Origin(module=binding.var.name)]
    return give_origins(module, names)


def legalized(module: tvm.IRModule) -> tvm.IRModule:
    module = KeepOrigins(relax.transform.LegalizeOps())(module)
    return relax.transform.AnnotateTIROpPattern()(module)


def origins_in(module: tvm.IRModule) -> list[tuple[str, list[str]]]:
    """Unit and origins of every call, in program order."""
    return [
        (site.unit, [origin.module for origin in origins_of(call)])
        for site, call in annotated_calls(AnnotateSites()(module))
    ]


def test_each_call_of_a_shared_fused_function_has_its_own_origins():
    """Through legalisation, fusion and naming."""
    module = FuseOpsKeepingOrigins()(legalized(marked(Layers)))
    module = KeepOrigins(relax.transform.FuseTIR())(module)
    found = origins_in(module)
    assert sorted(origins for _, origins in found) == [
        ["first", "first_act"],
        ["out"],
        ["second", "second_act"],
        ["third", "third_act"],
        ["total"],
    ]
    units = {origins[0]: unit for unit, origins in found}
    assert units["second"] == units["third"] != units["first"]


def test_calls_that_compute_an_operand_have_the_origin_of_what_uses_it():
    """An operator that becomes several kernels."""

    @I.ir_module
    class Spread:
        @R.function
        def main(x: R.Tensor((4, 8), "float32")):
            with R.dataflow():
                y = R.variance(x, axis=[1])
                z = R.exp(y)
                R.output(z)
            return z

    @tvm.transform.module_pass(opt_level=0)
    def twice(mod, _ctx):
        """Compute ``exp`` by two new calls, the last of them bound to its variable."""
        (block,) = mod["main"].body.blocks
        y, z = block.bindings
        helper = relax.Var("helper", y.var.ty)
        new = relax.VarBinding(helper, relax.op.negative(y.var))
        last = relax.VarBinding(z.var, relax.op.negative(helper))
        body = relax.SeqExpr([relax.DataflowBlock([y, new, last])], mod["main"].body.body)
        function = relax.Function(mod["main"].params, body, mod["main"].ret_ty)
        return relax.transform.Normalize()(tvm.IRModule({"main": function}))

    module = KeepOrigins(twice)(marked(Spread))
    assert [origins for _, origins in origins_in(module)] == [["y"], ["z"], ["z"]]


def test_without_origins_the_pass_alone_is_run():
    """Nothing is added, nothing else changes."""
    plain = relax.transform.LegalizeOps()(Layers)
    tvm.ir.assert_structural_equal(KeepOrigins(relax.transform.LegalizeOps())(Layers), plain)
    annotated = relax.transform.AnnotateTIROpPattern()(plain)
    fused = relax.transform.FuseOps()(annotated)
    tvm.ir.assert_structural_equal(FuseOpsKeepingOrigins()(annotated), fused)


@pytest.mark.parametrize("is_marked", [True, False])
def test_origins_change_nothing_that_is_compiled(is_marked):
    """Structural equality and hashing do not see them; JSON keeps them."""
    module = legalized(marked(Layers) if is_marked else Layers)
    tvm.ir.assert_structural_equal(module, legalized(Layers))
    read = tvm.ir.load_json(tvm.ir.save_json(module))
    assert origins_in(read) == origins_in(module)
    assert any(origins for _, origins in origins_in(read)) is is_marked
