# ruff: noqa: N812 - TVMScript
"""For any module and any boundary the hybrid equals the unpartitioned module, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, combinations, cycle

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from same_kernels import LLVM, partitioned
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.built_functions import flat_values
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower import lower
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.passes.annotate_sites import AnnotateSites, annotated_calls
from relax_tapml.passes.assign_sides import AssignSides, host_only_sites
from relax_tapml.passes.operator_call import leaf_types
from relax_tapml.passes.outline_dispatched_ops import OutlineDispatchedOps
from relax_tapml.passes.outline_regions import OutlineRegions
from relax_tapml.passes.split_module import split_module
from relax_tapml.targets.session.inline import InlineSession

ROWS, COLUMNS = 3, 4
UNARY = [relax.op.nn.relu, relax.op.negative, relax.op.sqrt, lambda x: relax.op.cumsum(x, axis=1)]
BINARY = [relax.op.add, relax.op.multiply, relax.op.maximum]
DERIVING = [relax.op.negative, relax.op.exp, lambda x: relax.op.cumsum(x, axis=0)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> KernelLibrary:
    return KernelLibrary(tmp_path_factory.mktemp("kernels"))


@dataclass
class Program:
    """A random module, and what it was made from."""

    module: tvm.IRModule
    input_count: int
    weights: dict[str, np.ndarray] = field(default_factory=dict)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Chains, diamonds, fan-out, tuples, constants, in-place calls, subroutines, branches."""
    symbolic = draw(st.booleans())
    rows = T.Var("n", "int64") if symbolic else ROWS
    ty = relax.TensorType((rows, COLUMNS), "float32")
    builder = relax.BlockBuilder()
    helper = draw(st.booleans())
    if helper:
        x = relax.Var("x", ty)
        with builder.function("helper", [x], private=True):
            y = builder.emit(relax.op.add(x, x))
            builder.emit_func_output(builder.emit(relax.op.nn.relu(y)))
    helper_var = builder.get().get_global_var("helper") if helper else None
    inputs = [relax.Var(f"x{i}", ty) for i in range(draw(st.integers(1, 2)))]
    row = relax.TensorType((COLUMNS,), "float32")
    weights = [relax.Var(name, row) for name in ("w", "v")]
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    with builder.function("main", [*inputs, *weights], attrs={"num_input": len(inputs)}):
        values = list(inputs)
        constants = list(weights)
        with builder.dataflow():
            for _ in range(draw(st.integers(1, 8))):
                kinds = ["unary", "binary", "weight", "constant", "split", "derive", "derive two"]
                kind = draw(st.sampled_from(kinds))
                value = draw(st.sampled_from(values))
                if kind == "unary":
                    values.append(builder.emit(draw(st.sampled_from(UNARY))(value)))
                elif kind == "binary":
                    other = draw(st.sampled_from(values))
                    values.append(builder.emit(draw(st.sampled_from(BINARY))(value, other)))
                elif kind == "weight":
                    weight = draw(st.sampled_from(constants))
                    values.append(builder.emit(relax.op.add(value, weight)))
                elif kind == "derive":
                    weight = draw(st.sampled_from(constants))
                    constants.append(builder.emit(draw(st.sampled_from(DERIVING))(weight)))
                elif kind == "derive two":
                    pair = [draw(st.sampled_from(constants)) for _ in range(2)]
                    constants.append(builder.emit(draw(st.sampled_from(BINARY))(*pair)))
                elif kind == "constant":
                    constant = relax.const(rng.standard_normal(COLUMNS).astype("float32"))
                    values.append(builder.emit(relax.op.multiply(value, constant)))
                else:
                    parts = builder.emit(relax.op.split(value, 2, axis=1))
                    halves = [builder.emit(relax.TupleGetItem(parts, i)) for i in (1, 0)]
                    values.append(builder.emit(relax.op.concat(halves, axis=1)))
                if helper_var is not None and draw(st.integers(0, 3)) == 0:
                    call = relax.Call(helper_var, [values[-1]])
                    values.append(builder.emit(call))
            picked = draw(st.lists(st.sampled_from([*values, *constants]), min_size=1, max_size=3))
            outputs = [builder.emit_output(value) for value in picked]
        result = outputs[0] if len(outputs) == 1 else relax.Tuple(outputs)
        builder.emit_func_output(result)
    module = builder.get()
    fuse = draw(st.booleans())
    if fuse:
        assume(_has_operator(relax.transform.DeadCodeElimination()(module)))
        module = lower(module)
    else:
        module = relax.transform.LegalizeOps()(module)
        if draw(st.booleans()) and not symbolic:
            module = relax.transform.DataflowUseInplaceCalls()(module)
        module = AnnotateSites()(OutlineDispatchedOps()(module))
    arrays = {var.name: rng.standard_normal(COLUMNS).astype("float32") for var in weights}
    return Program(module=module, input_count=len(inputs), weights=arrays)


def _has_operator(module: tvm.IRModule) -> bool:
    return any(annotated_calls(AnnotateSites()(module)))


def run_whole(
    program: Program, library: KernelLibrary, inputs: list[np.ndarray], entry: str = "main"
) -> list[bytes]:
    units = lower_for_target(program.module, LLVM)
    host = Host(LLVM, library.build(units, LLVM).files(), program.weights)
    vm = host.virtual_machine(compile_functions(units, LLVM, library))
    result = vm[entry](*(host.upload(a) for a in inputs), *map(host.weight, host.params))
    return [array.tobytes() for array in flat_values(result)]


def hybrid_of(
    program: Program,
    library: KernelLibrary,
    boundary: Boundary,
    *,
    is_merged: bool = True,
    is_poisoned: bool = False,
) -> HybridModule:
    """The program with ``boundary`` on a device in this process, same kernels on both sides."""
    units = lower_for_target(program.module, LLVM)
    kernels = library.build(units, LLVM)
    assert not kernels.failed
    poisoned = kernels.paths if is_poisoned else ()
    options = {"boundary": boundary, "is_merged": is_merged, "poisoned": poisoned}
    parted = partitioned(program.module, units, library, **options)
    moved = boundary.resolve(program.module) - host_only_sites(program.module).keys()
    assert (parted.device is not None) == bool(moved)
    assert sorted(site for call in parted.calls for site in call.sites) == sorted(moved)
    host = Host(LLVM, kernels.files(), program.weights)
    return HybridModule(host, parted, InlineSession(LLVM), kernels.files())


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(program=programs(), data=st.data())
def test_hybrid_equals_the_whole_module(program: Program, data: st.DataObject, library) -> None:
    """For any module and boundary, host + device equals the original when kernels are the same."""
    sites = [site for site, _ in annotated_calls(program.module)]
    if not sites:
        return
    units = sorted({site.unit for site in sites})
    boundary = data.draw(
        st.builds(
            Boundary,
            units=st.sets(st.sampled_from(units)),
            sites=st.sets(st.sampled_from([site.id for site in sites])),
        )
    )
    rng = np.random.default_rng(0)
    inputs = [
        rng.standard_normal((ROWS, COLUMNS)).astype("float32") for _ in range(program.input_count)
    ]
    if data.draw(st.booleans()):
        inputs = [inputs[0]] * len(inputs)  # One array for all of them.
    expected = run_whole(program, library, [a.copy() for a in inputs])
    flags = {name: data.draw(st.booleans()) for name in ("is_merged", "is_poisoned")}
    hybrid = hybrid_of(program, library, boundary, **flags)
    outputs = hybrid["main"](*(a.copy() for a in inputs))
    assert [array.tobytes() for array in outputs] == expected


# The branch that is not taken allocates nothing: TVM 0.27 crashes where the memory planner has let
# one branch reuse what the other allocates (StaticPlanBlockMemory, seen with plain tvm.compile).
@I.ir_module
class Then:
    """Values of either side cross into and out of a branch, renamed and in tuples."""

    @R.function
    def main(
        cond: R.Tensor((), "bool"), x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")
    ):
        R.func_attr({"num_input": 2})
        parts = R.split(x, 2, axis=1)
        left = parts[0]
        right = parts[1]
        v = w
        if cond:
            a = R.negative(left)
            b = R.add(x, v)
            c = R.concat((a, right), axis=1)
            y = R.add(c, b)
        else:
            y = x
        z = R.add(y, x)
        e = R.exp(left)
        return (z, (e, y))


@I.ir_module
class Else:
    """The same in the other branch, with a host and a device operator on either end."""

    @R.function
    def main(
        cond: R.Tensor((), "bool"), x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")
    ):
        R.func_attr({"num_input": 2})
        u = R.exp(x)
        if cond:
            y = x
        else:
            d = R.sqrt(u)
            f = R.multiply(d, w)
            y = R.negative(f)
        return R.add(y, u)


@I.ir_module
class Entries:
    """Two entry functions that share units and weights."""

    @R.function
    def main(x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        y = R.add(x, w)
        return R.exp(y)

    @R.function
    def other(x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        y = R.exp(x)
        z = R.add(y, w)
        return (R.sqrt(z), w)


@I.ir_module
class Tuples:
    """An item of a tuple is read before another item of it is there."""

    @R.function(pure=False)
    def main(x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        _ = R.assert_op(R.const(True))
        a = R.negative(x)
        b = R.exp(x)
        t = (a, (b, w))
        first = t[0]
        c = R.sqrt(first)
        rest = t[1]
        weight = rest[1]
        d = R.add(c, weight)
        e = rest[0]
        return (R.sin(e), d, t)


@I.ir_module
class Dimensions:
    """Dimensions that no argument of a unit or region defines by itself."""

    @R.function
    def main(x: R.Tensor(("n", 4), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        n = T.int64()
        y = R.concat((x, x), axis=0)
        z = R.cumsum(y, axis=0)
        f = R.full(R.shape([n + 1, 4]), R.const(2.0, "float32"), dtype="float32")
        return (R.exp(z), R.add(f, w))


@I.ir_module
class Shapes:
    """A shape that is computed is used on both sides."""

    @R.function
    def main(x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        y = R.add(x, w)
        u = R.unique(y, sorted=True)
        m = T.int64()
        v = R.match_cast(u, R.Tensor((m,), "float32"))
        z = R.exp(v)
        return R.sqrt(z)


@tvm.register_global_func("relax_tapml.test_law.double")
def double(*tensors):
    """Double tensors in place."""
    for tensor in tensors:
        tensor.copyfrom(tensor.numpy() * 2)


@I.ir_module
class Written:
    """A host call writes to an input, a weight and a value that the device may have computed."""

    @R.function(pure=False)
    def main(x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        a = R.sqrt(x)
        halves = R.split(a, 2, axis=1)
        left = halves[0]
        v = w
        b = R.add(x, v)
        _ = R.call_packed("relax_tapml.test_law.double", x, a, left, v, ty_args=R.Tuple([]))
        c = R.add(x, w)
        d = R.exp(left)
        return (R.multiply(a, c), d, b)


@I.ir_module
class Cached:
    """A cache goes through a call, a tuple and a branch, and lives in the runtime."""

    @R.function(pure=False, private=True)
    def remember(cache: R.Object, x: R.Tensor((3, 4), "float32")) -> R.Tensor((3, 4), "float32"):
        y = R.exp(x)
        held = (cache, y)
        again = held[0]
        grown = R.call_packed("vm.builtin.attention_kv_cache_append", again, y, ty_args=R.Object)
        rows = R.call_packed(
            "vm.builtin.attention_kv_cache_view",
            grown,
            R.shape([6, 4]),
            ty_args=R.Tensor((6, 4), "float32"),
        )
        z = R.sum(rows, axis=[0])
        return R.add(y, z)

    @R.function(pure=False)
    def main(
        cond: R.Tensor((), "bool"), x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")
    ):
        R.func_attr({"num_input": 2})
        cls = Cached
        first = R.add(x, w)
        cache = R.call_packed(
            "vm.builtin.attention_kv_cache_create",
            first,
            R.shape([8, 4]),
            R.prim_value(3),
            ty_args=R.Object,
        )
        if cond:
            kept = cls.remember(cache, first)
            y = R.multiply(kept, w)
        else:
            y = x
        return R.negative(y)


# No operator of ``main`` takes what a closure returns: TVM 0.27 forgets its type
# (LowerRuntimeBuiltin, seen with plain tvm.compile).
@I.ir_module
class Closure:
    """A nested function keeps a value that the device may have computed."""

    @R.function
    def main(x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        a = R.exp(x)

        @R.function
        def shifted(y: R.Tensor((3, 4), "float32")) -> R.Tensor((3, 4), "float32"):
            b = R.add(y, a)
            return R.negative(b)

        c = shifted(x)
        d = R.multiply(x, w)
        e = shifted(c)
        return (e, d)


@I.ir_module
class Recursion:
    """A function calls itself as often as a value that the device may have computed."""

    @R.function(private=True)
    def repeat(
        n: R.Tensor((), "int32"), x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")
    ) -> R.Tensor((3, 4), "float32"):
        cls = Recursion
        go = R.greater(n, R.const(0, "int32"))
        if go:
            less = R.subtract(n, R.const(1, "int32"))
            y = R.multiply(x, w)
            z = R.negative(y)
            r = cls.repeat(less, z, w)
        else:
            r = x
        return r

    @R.function
    def main(
        n: R.Tensor((), "int32"), x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")
    ):
        R.func_attr({"num_input": 2})
        cls = Recursion
        y = R.exp(x)
        z = cls.repeat(n, y, w)
        return R.negative(z)


@I.ir_module
class Derived:
    """A derived weight crosses into a branch and out of the function; one is written to."""

    @R.function
    def main(
        cond: R.Tensor((), "bool"), x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")
    ):
        R.func_attr({"num_input": 2})
        a = R.sqrt(w)
        b = R.negative(a)
        if cond:  # noqa: SIM108
            y = R.add(x, a)
        else:
            y = x
        z = R.add(y, w)
        return (R.add(z, b), a)

    @R.function(pure=False)
    def other(x: R.Tensor((3, 4), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        a = R.sqrt(w)
        halves = R.split(a, 2, axis=0)
        left = halves[0]
        b = R.negative(w)
        _ = R.call_packed("relax_tapml.test_law.double", b, ty_args=R.Tuple([]))
        c = R.add(x, b)
        return (R.add(c, a), left, w)


ROW = np.arange(12, dtype="float32").reshape(3, 4)


SPECIAL = {
    "then": (Then, "main", [np.array(True), ROW]),
    "else": (Else, "main", [np.array(False), ROW]),
    "entry": (Entries, "main", [ROW]),
    "other entry": (Entries, "other", [ROW]),
    "tuples": (Tuples, "main", [ROW]),
    "dims": (Dimensions, "main", [ROW]),
    "shapes": (Shapes, "main", [ROW]),
    "written": (Written, "main", [ROW]),
    "cache": (Cached, "main", [np.array(True), ROW]),
    "closure": (Closure, "main", [ROW]),
    "derived": (Derived, "main", [np.array(True), ROW]),
    "derived otherwise": (Derived, "other", [ROW]),
    "recursion": (Recursion, "main", [np.array(3, "int32"), ROW]),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_every_boundary_equals_the_whole_module(name, library) -> None:
    """The law for what random modules lack: every set of units of a few special modules.

    One is merged and poisoned, the next is neither.
    """
    module, entry, inputs = SPECIAL[name]
    lifted = relax.transform.LambdaLift()(relax.transform.LegalizeOps()(module))
    lowered = AnnotateSites()(OutlineDispatchedOps()(lifted))
    program = Program(
        module=lowered, input_count=len(inputs), weights={"w": np.arange(4, dtype="float32")}
    )
    expected = run_whole(program, library, inputs, entry)
    units = sorted({site.unit for site, _ in annotated_calls(lowered)})
    sets = chain.from_iterable(combinations(units, k) for k in range(len(units) + 1))
    for boundary, is_merged in zip(sets, cycle([True, False]), strict=False):
        hybrid = hybrid_of(
            program,
            library,
            Boundary(units=boundary),
            is_merged=is_merged,
            is_poisoned=is_merged,
        )
        outputs = hybrid[entry](*inputs)
        assert [array.tobytes() for array in outputs] == expected, (boundary, is_merged)


@pytest.mark.parametrize("module", [Cached, Closure])
def test_objects_stay_on_the_host(module) -> None:
    """With every operator on the device that can be, no cache and no closure is there."""
    lifted = relax.transform.LambdaLift()(relax.transform.LegalizeOps()(module))
    lowered = AnnotateSites()(lifted)
    units = lower_for_target(lowered, LLVM)
    chosen = AssignSides(units={site.unit for site, _ in annotated_calls(lowered)})(lowered)
    sides = split_module(OutlineRegions()(chosen), units, units)
    assert _objects(sides.host)
    assert sides.device is not None
    assert not _objects(sides.device)


def _objects(module: tvm.IRModule) -> list[relax.Expr]:
    """Return the values of a module that are neither tensors, shapes, numbers nor tuples."""
    found: list[relax.Expr] = []
    for function in module.functions.values():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(
                function,
                lambda e: found.append(e) if isinstance(e, relax.Var) and _is_object(e) else None,
            )
    return found


def _is_object(value: relax.Var) -> bool:
    """Whether a value is, or has, one of no known type."""
    return any(isinstance(ty, relax.AnyType) for ty in leaf_types(value.ty))
