# ruff: noqa: N812, RET504 - TVMScript
"""Device sites are gathered into as few calls and copies as the data flow allows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import tvm
import tvm_ffi
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml._compat import StringImm
from relax_tapml.passes.annotate_sites import AnnotateSites, annotated_calls
from relax_tapml.passes.assign_sides import AssignSides
from relax_tapml.passes.device_calls import device_calls
from relax_tapml.passes.outline_regions import (
    DOWNLOAD,
    PARAMETER,
    REGION_ATTR,
    RUN,
    UPLOAD,
    OutlineRegions,
)
from relax_tapml.passes.value_leaves import bindings_in


def external_calls(function: relax.Function) -> list[tuple[str, tuple[str, ...]]]:
    """Calls of external functions in program order: the name, and names of variables or strings."""
    return [
        (
            binding.value.op.global_symbol,
            tuple(
                arg.value if isinstance(arg, StringImm) else getattr(arg, "name", "")
                for arg in binding.value.args
            ),
        )
        for binding in bindings_in(function.body)
        if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, relax.ExternFunc)
    ]


def counts(module: tvm.IRModule) -> Counter[str]:
    return Counter(name for name, _ in external_calls(module["main"]))


@I.ir_module
class Before:
    @T.prim_func(private=True, s_tir=True)
    def add(
        x: T.Buffer((4,), "float32"), w: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")
    ):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] + w[v]

    @R.function
    def main(x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1, "relax_tapml.device_sites": ["main/000/add"]})
        cls = Before
        with R.dataflow():
            lv = R.call_tir(cls.add, (x, w), out_ty=R.Tensor((4,), "float32"))
            gv = R.call_tir(cls.add, (lv, w), out_ty=R.Tensor((4,), "float32"))
            R.output(gv)
        return gv


@I.ir_module
class Expected:
    @T.prim_func(private=True, s_tir=True)
    def add(
        x: T.Buffer((4,), "float32"), w: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")
    ):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] + w[v]

    @R.function
    def main_region0(x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")) -> R.Tuple(
        R.Tensor((4,), "float32")
    ):
        R.func_attr({"relax.force_pure": True, "relax_tapml.region": "main"})
        cls = Expected
        lv = R.call_tir(cls.add, (x, w), out_ty=R.Tensor((4,), "float32"))
        outputs = (lv,)
        return outputs

    @R.function
    def main(x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1, "relax.force_pure": True})
        cls = Expected
        x_device = R.call_packed("relax_tapml.device.upload", x, ty_args=[R.Object])
        w_device = R.call_packed("relax_tapml.device.parameter", R.str("w"), ty_args=[R.Object])
        result = R.call_packed(
            "relax_tapml.device.run",
            *(R.str("main_region0"), x_device, w_device),
            ty_args=[R.Tuple(R.Object)],
        )
        lv_device = result[0]
        lv = R.call_packed(
            "relax_tapml.device.download", lv_device, ty_args=[R.Tensor((4,), "float32")]
        )
        gv = R.call_tir(cls.add, (lv, w), out_ty=R.Tensor((4,), "float32"))
        return gv


def test_a_site_moves_with_its_copies(apply):
    """The weight goes by name, the input and the result are copied, the attribute is gone."""
    named = AnnotateSites()(Before)
    after = apply(OutlineRegions(), named)
    tvm.ir.assert_structural_equal(after, Expected)
    assert {site.id for site, _ in annotated_calls(after)} == {"main/000/add", "main/001/add"}


def test_without_device_sites_nothing_changes(apply):
    """The same module is returned."""
    module = AssignSides()(AnnotateSites()(Before))
    assert apply(OutlineRegions(), module).same_as(module)


@dataclass(frozen=True)
class Graph:
    """Binary operators on inputs ``-1, -2``, a weight ``-3`` and each other."""

    operands: tuple[tuple[int, int], ...]
    on_device: tuple[bool, ...]
    outputs: tuple[int, ...]

    def module(self) -> tvm.IRModule:
        ty = relax.TensorType((4,), "float32")
        params = {-1: relax.Var("x", ty), -2: relax.Var("y", ty), -3: relax.Var("w", ty)}
        builder = relax.BlockBuilder()
        add = builder.add_func(Before["add"], "add")
        with builder.function("main", list(params.values()), attrs={"num_input": 2}):
            values = dict(params)
            for i, (a, b) in enumerate(self.operands):
                call = relax.op.call_tir(add, relax.Tuple([values[a], values[b]]), out_ty=ty)
                values[i] = builder.emit(call)
            builder.emit_func_output(relax.Tuple([values[i] for i in self.outputs]))
        module = AnnotateSites()(builder.get())
        ids = [site.id for site, _ in annotated_calls(module)]
        chosen = [site for site, moved in zip(ids, self.on_device, strict=True) if moved]
        return AssignSides(sites=chosen)(module)

    def device_sites(self, module: tvm.IRModule) -> list[str]:
        """Ids of the sites on the device."""
        ids = [site.id for site, _ in annotated_calls(module)]
        return [site for site, moved in zip(ids, self.on_device, strict=True) if moved]

    def fewest_device_calls(self) -> int:
        """Try every order the data flow allows; device operators in a row are one call."""

        @cache
        def fewest(done: frozenset[int], last_on_device: bool) -> int:
            ready = [
                i
                for i, operands in enumerate(self.operands)
                if i not in done and all(o < 0 or o in done for o in operands)
            ]
            return min(
                (
                    (self.on_device[i] and not last_on_device)
                    + fewest(done | {i}, self.on_device[i])
                    for i in ready
                ),
                default=0,
            )

        return fewest(frozenset(), False)

    def must_cross(self) -> Counter[str]:
        """Copies without which the result cannot be computed, and weights the device reads."""
        read_on_device = {
            o for i, pair in enumerate(self.operands) if self.on_device[i] for o in pair
        }
        read_on_host = set(self.outputs) | {
            o for i, pair in enumerate(self.operands) if not self.on_device[i] for o in pair
        }
        made_on_device = {i for i, moved in enumerate(self.on_device) if moved}
        return Counter(
            {
                UPLOAD: len(read_on_device - made_on_device - {-3}),
                DOWNLOAD: len(read_on_host & made_on_device),
                PARAMETER: int(-3 in read_on_device),
                RUN: self.fewest_device_calls(),
            }
        )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(1, 9))
    operand = [st.integers(-3, i - 1) for i in range(size)]
    return Graph(
        operands=tuple((draw(operand[i]), draw(operand[i])) for i in range(size)),
        on_device=tuple(draw(st.lists(st.booleans(), min_size=size, max_size=size))),
        outputs=tuple(draw(st.lists(st.integers(-3, size - 1), min_size=1, max_size=3))),
    )


@settings(max_examples=150)
@given(graph=graphs())
def test_calls_and_copies_are_as_few_as_can_be(graph: Graph):
    """On any graph: the optimum of all orders, and no copy but those that are needed."""
    module = graph.module()
    after = OutlineRegions()(module)
    relax.analysis.well_formed(after)
    assert counts(after) == +graph.must_cross()
    used = {arg for _, args in external_calls(after["main"]) for arg in args}
    handles = {
        binding.var.name
        for binding in bindings_in(after["main"].body)
        if isinstance(binding.value, relax.TupleGetItem)
    }
    assert handles <= used
    regions = [f for f in after.functions.values() if f.attrs and REGION_ATTR in f.attrs]
    assert len(regions) <= graph.fewest_device_calls()
    assert not any(tvm_ffi.structural_equal(a.body, b.body) for a, b in combinations(regions, 2))
    calls = device_calls(after)
    needed = graph.must_cross()
    assert len(calls) == needed[RUN]
    assert sum(call.crossings for call in calls) == needed[UPLOAD] + needed[DOWNLOAD]
    assert sum(call.crossing_bytes for call in calls) == 16 * (needed[UPLOAD] + needed[DOWNLOAD])
    assert sum(len(call.parameters) for call in calls) == needed[PARAMETER]
    assert sorted(site for call in calls for site in call.sites) == graph.device_sites(module)


@settings(max_examples=60)
@given(graph=graphs())
def test_each_site_may_be_a_region_of_its_own(graph: Graph):
    """For a fault to name it: as many calls as sites, and not a copy more than in one region."""
    module = graph.module()
    after = OutlineRegions(is_merged=False)(module)
    relax.analysis.well_formed(after)
    calls = device_calls(after)
    assert sorted(call.sites[0] for call in calls) == graph.device_sites(module)
    assert all(len(call.sites) == 1 for call in calls)
    assert len({call.region for call in calls}) == len(calls)
    needed = graph.must_cross()
    assert sum(call.crossings for call in calls) == needed[UPLOAD] + needed[DOWNLOAD]


def test_host_calls_with_effects_keep_their_order(lowered, apply):
    """Also where the data flow would let them change places, or a value is written in between."""

    @I.ir_module
    class Module:
        @R.function(pure=False)
        def main(x: R.Tensor((4,), "float32")):
            _0 = R.call_packed("effect.0", R.str(""), ty_args=R.Tuple([]))
            a = R.exp(x)
            b = R.sin(a)
            _1 = R.call_packed("effect.1", b, ty_args=R.Tuple([]))
            c = R.exp(b)
            _2 = R.call_packed("effect.2", R.str(""), ty_args=R.Tuple([]))
            _3 = R.assert_op(R.const(True))
            d = R.exp(c)
            _4 = R.call_packed("effect.4", x, ty_args=R.Tuple([]))
            e = R.add(d, x)
            _5 = R.call_packed("effect.5", R.str(""), ty_args=R.Tuple([]))
            return e

    module = lowered(Module)
    before = [name for name, _ in external_calls(module["main"])]
    assert len(before) == 6
    for units in ({"tir_exp"}, {"tir_exp", "add"}, {"tir_sin"}, {"add"}):
        after = apply(OutlineRegions(), AssignSides(units=units)(module))
        names = [name for name, _ in external_calls(after["main"])]
        assert [name for name in names if name in before] == before


def test_items_of_tuples_cross_one_by_one(lowered, apply):
    """Of a tuple only what the other side reads; a weight inside a tuple goes by name."""

    @I.ir_module
    class Module:
        @R.function
        def main(
            x: R.Tensor((4,), "float32"),
            packed: R.Tuple(R.Tensor((4,), "float32"), R.Tensor((2,), "float32")),
        ):
            R.func_attr({"num_input": 1})
            parts = R.split(x, 2)
            t = (parts, packed)
            p = t[1]
            w = p[1]
            first = parts[0]
            y = R.add(first, w)
            again = parts[0]
            z = R.exp(again)
            return (y, z)

    module = lowered(Module)
    split_moved = apply(OutlineRegions(), AssignSides(units={"split"})(module))
    assert external_calls(split_moved["main"]) == [
        (UPLOAD, ("x",)),
        (RUN, ("main_region0", "x_device")),
        (DOWNLOAD, ("parts_device",)),
    ]
    add_moved = apply(OutlineRegions(), AssignSides(units={"add"})(module))
    assert external_calls(add_moved["main"]) == [
        (UPLOAD, ("item",)),
        (PARAMETER, ("packed.1",)),
        (RUN, ("main_region0", "parts_device", "packed_device")),
        (DOWNLOAD, ("y_device",)),
    ]


def _is_run(value: relax.Expr) -> bool:
    return (
        isinstance(value, relax.Call)
        and isinstance(value.op, relax.ExternFunc)
        and value.op.global_symbol == RUN
    )


def test_each_branch_has_regions_of_its_own(lowered, apply):
    """A branch that is not taken makes no device call."""

    @I.ir_module
    class Module:
        @R.function
        def main(cond: R.Tensor((), "bool"), x: R.Tensor((4,), "float32")):
            a = R.exp(x)
            if cond:
                b = R.sin(a)
                y = R.exp(b)
            else:
                y = R.exp(a)
            return y

    after = apply(OutlineRegions(), AssignSides(units={"tir_exp"})(lowered(Module)))
    (branch,) = [b.value for b in bindings_in(after["main"].body) if isinstance(b.value, relax.If)]
    for sequence in (branch.true_branch, branch.false_branch):
        assert sum(_is_run(binding.value) for binding in bindings_in(sequence)) == 1
    assert counts(after)[RUN] == 3


def test_every_function_is_outlined(lowered, apply):
    """Also those that others call; equal regions are one, named by the first that needed it."""

    @I.ir_module
    class Module:
        @R.function(private=True)
        def helper(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
            return R.exp(x)

        @R.function
        def main(x: R.Tensor((4,), "float32")):
            cls = Module
            y = R.exp(x)
            return cls.helper(y)

    after = apply(OutlineRegions(), AssignSides(units={"tir_exp"})(lowered(Module)))
    calls = [(call.function, call.region) for call in device_calls(after)]
    assert sorted(calls) == [("helper", "helper_region0"), ("main", "helper_region0")]


@I.ir_module
class Layers:
    """Three layers with weights of their own, a host operator between them."""

    @R.function
    def main(
        x: R.Tensor((4, 4), "float32"),
        w0: R.Tensor((4, 4), "float32"),
        w1: R.Tensor((4, 4), "float32"),
        w2: R.Tensor((4, 2), "float32"),
    ):
        R.func_attr({"num_input": 1})
        a = R.matmul(x, w0)
        b = R.add(a, a)
        c = R.exp(b)
        d = R.matmul(c, w1)
        e = R.add(d, d)
        f = R.exp(e)
        return R.matmul(f, w2)

    @R.function
    def main_region0(x: R.Tensor((4, 4), "float32"), w: R.Tensor((4, 4), "float32")):
        R.func_attr({"num_input": 1})
        a = R.matmul(x, w)
        return R.add(a, a)


def test_equal_regions_are_one_function(lowered, apply):
    """Of repeated layers and of several functions; another shape is another region."""
    module = lowered(Layers)
    units = {"matmul", "matmul1", "add"}
    after = apply(OutlineRegions(), AssignSides(units=units)(module))
    called = {
        name: [c.region for c in device_calls(after) if c.function == name]
        for name in ("main", "main_region0")
    }
    assert called == {
        "main": ["main_region1", "main_region1", "main_region2"],
        "main_region0": ["main_region1"],
    }
    sites = [call.sites for call in device_calls(after) if call.region == "main_region1"]
    assert sites == [
        ("main/000/matmul", "main/001/add"),
        ("main/003/matmul", "main/004/add"),
        ("main_region0/000/matmul", "main_region0/001/add"),
    ]


def test_a_function_of_the_model_keeps_its_name(lowered, apply):
    """A region never replaces a function that has the name it would get."""
    module = lowered(Layers)
    after = apply(OutlineRegions(), AssignSides(units={"matmul1"})(module))
    tvm.ir.assert_structural_equal(after["main_region0"].params[0].ty, Layers["main"].params[0].ty)
    assert REGION_ATTR not in after["main_region0"].attrs
    assert [call.region for call in device_calls(after)] == ["main_region1"]
