# ruff: noqa: N812 - TVMScript
"""Sites that read weights only run in a function of their own."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.passes.annotate_sites import annotated_calls, annotated_calls_in
from relax_tapml.passes.lift_derived_weights import LiftDerivedWeights
from relax_tapml.passes.weights import DERIVED_ATTR


@I.ir_module
class Chain:
    """A weight is read as it is and derived; what is derived is derived from, and returned."""

    @R.function
    def main(
        x: R.Tensor((4,), "float32"),
        w: R.Tensor((4,), "float32"),
        v: R.Tensor((4,), "float32"),
        u: R.Tensor((4,), "float32"),
    ):
        R.func_attr({"num_input": 1})
        a = R.exp(w)
        b = R.add(x, a)
        c = R.multiply(a, v)
        d = R.negative(c)
        e = R.add(b, d)
        f = R.add(e, w)
        g = R.sqrt(u)
        return (f, (a, g))


def params(module: tvm.IRModule, name: str = "main") -> list[str]:
    return [param.name for param in module[name].params]


def sites(module: tvm.IRModule, name: str = "main") -> list[str]:
    return [site.id for site, _ in annotated_calls_in(module[name])]


def test_a_chain_is_lifted(apply, lowered):
    """Only what other sites read, or the function returns, becomes a parameter."""
    module = lowered(Chain)
    lifted = apply(LiftDerivedWeights(), module)
    assert params(lifted) == [
        "x",
        "w",
        "tir_exp(w)",
        "tir_negative(multiply(tir_exp(w), v))",
        "tir_sqrt(u)",
    ]
    assert sites(lifted) == ["main/001/add", "main/004/add", "main/005/add"]
    assert params(lifted, "main_weights") == ["w", "v"]
    assert sites(lifted, "main_weights") == [
        *("main/000/tir_exp", "main/002/multiply", "main/003/tir_negative")
    ]
    attrs = lifted["main_weights"].attrs
    assert (attrs["num_input"], attrs["relax_tapml.weights_of"]) == (0, "main")
    assert list(attrs[DERIVED_ATTR]) == params(lifted)[2:4]
    both = {site.id for site, _ in annotated_calls(lifted)}
    assert both == {site.id for site, _ in annotated_calls(module)}


def test_chains_that_share_no_site_are_functions_of_their_own(apply, lowered):
    """One may be computed without the other; both belong to the function that they were in."""
    lifted = apply(LiftDerivedWeights(), lowered(Chain))
    assert params(lifted, "main_weights2") == ["u"]
    assert sites(lifted, "main_weights2") == ["main/006/tir_sqrt"]
    attrs = lifted["main_weights2"].attrs
    assert (attrs["num_input"], attrs["relax_tapml.weights_of"]) == (0, "main")
    assert list(attrs[DERIVED_ATTR]) == ["tir_sqrt(u)"]


def test_twice_is_once(apply, lowered):
    """What is lifted is a weight, and is not lifted again."""
    lifted = apply(LiftDerivedWeights(), lowered(Chain))
    assert apply(LiftDerivedWeights(), lifted).same_as(lifted)


def test_it_computes_the_same(apply, lowered):
    """The function takes what the other one returns."""
    module = lowered(Chain)
    lifted = apply(LiftDerivedWeights(), module)
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(1, 2, 4).astype("float32") for _ in "xwvu"]
    x, w, v, u = map(tvm.runtime.tensor, arrays)
    plain = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
    parted = relax.VirtualMachine(tvm.compile(lifted, "llvm"), tvm.cpu())
    expected = plain["main"](x, w, v, u)
    derived = [*parted["main_weights"](w, v), *parted["main_weights2"](u)]
    actual = parted["main"](x, w, *derived)
    for one, other in zip(_flat(expected), _flat(actual), strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes()


def _flat(value):
    return (
        [value] if isinstance(value, tvm.runtime.Tensor) else [t for v in value for t in _flat(v)]
    )


@I.ir_module
class Nothing:
    """No site reads weights only, or none that may be lifted."""

    @R.function(private=True)
    def helper(x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        a = R.exp(w)
        return R.add(x, a)

    @R.function
    def inner(x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        a = R.exp(w)
        return R.add(x, a)

    @R.function
    def unmarked(x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")):
        a = R.exp(w)
        return R.add(x, a)

    @R.function(pure=False)
    def main(
        x: R.Tensor((4,), "float32"), cond: R.Tensor((), "bool"), w: R.Tensor((4,), "float32")
    ):
        R.func_attr({"num_input": 2})
        cls = Nothing
        y = R.add(x, w)
        a = R.exp(w)
        _ = R.call_packed("relax_tapml.test_law.double", a, ty_args=R.Tuple([]))
        b = R.negative(a)
        if cond:
            r = R.sqrt(w)
            c = R.negative(r)
        else:
            c = R.exp(w)
        d = cls.inner(b, w)
        e = R.multiply(c, d)
        return R.add(y, e)


def test_what_must_stay_stays(apply, lowered):
    """What is written to and what follows, branches, called functions, unmarked weights."""
    module = lowered(Nothing)
    assert apply(LiftDerivedWeights(), module).same_as(module)


@I.ir_module
class Shared:
    """Two functions derive one weight, and one of them twice; one result is a tuple."""

    @R.function
    def decode(x: R.Tensor((4, 4), "float32"), w: R.Tensor((4, 4), "float32")):
        R.func_attr({"num_input": 1})
        a = R.exp(w)
        return R.add(x, a)

    @R.function
    def decode_weights(x: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        return R.exp(x)

    @R.function
    def prefill(x: R.Tensor((4, 4), "float32"), w: R.Tensor((4, 4), "float32")):
        R.func_attr({"num_input": 1})
        a = R.exp(w)
        b = R.add(x, a)
        c = R.exp(w)
        d = R.add(b, c)
        parts = R.split(a, 2, axis=0)
        left = parts[0]
        return R.add(d, R.concat((left, left), axis=0))


def test_each_result_has_a_name_of_its_own(apply, lowered):
    """The second of one expression is numbered, whichever function it is in."""
    lifted = apply(LiftDerivedWeights(), lowered(Shared))
    assert params(lifted, "decode") == ["x", "tir_exp(w)"]
    assert list(lifted["decode_weights2"].attrs[DERIVED_ATTR]) == ["tir_exp(w)"]
    assert params(lifted, "prefill") == [
        *("x", "tir_exp(w)#2", "tir_exp(w)#3"),
        "concatenate(split(tir_exp(w)#2).0, split(tir_exp(w)#2).0)",
    ]


@I.ir_module
class Pieces:
    """Other sites read one item of a tuple that is derived."""

    @R.function
    def main(x: R.Tensor((2, 4), "float32"), w: R.Tensor((4, 4), "float32")):
        R.func_attr({"num_input": 1})
        parts = R.split(w, 2, axis=0)
        left = parts[0]
        both = (left, x)
        again = both[0]
        return R.add(again, x)


def test_the_items_of_a_tuple_are_weights_of_their_own(apply, lowered):
    """Also where they are renamed and packed on the way."""
    lifted = apply(LiftDerivedWeights(), lowered(Pieces))
    assert params(lifted) == ["x", "split(w).0", "split(w).1"]
    assert params(lifted, "main_weights") == ["w"]


@I.ir_module
class Dimensions:
    """Dimensions of weights, of inputs, and of both."""

    @R.function
    def main(
        x: R.Tensor(("n", "m"), "float32"),
        w: R.Tensor(("m",), "float32"),
        v: R.Tensor(("k",), "float32"),
    ):
        R.func_attr({"num_input": 1})
        n, k = T.int64(), T.int64()
        a = R.exp(w)
        b = R.exp(v)
        c = R.broadcast_to(v, R.shape([n, k]))
        d = R.concat((b, b), axis=0)
        return (R.add(x, a), c, d)


def test_dimensions_of_weights_may_be_symbolic(apply, lowered):
    """A shape that an input decides is known in the run only."""
    lifted = apply(LiftDerivedWeights(), lowered(Dimensions))
    assert params(lifted) == [*("x", "w", "v", "tir_exp(w)", "concatenate(tir_exp(v), tir_exp(v))")]
    assert [site.rpartition("/")[2] for site in sites(lifted)] == ["broadcast_to", "add"]


@pytest.mark.parametrize("count", [3, 40])
def test_a_long_expression_is_shortened(count, apply, lowered):
    """A name has the kernel and the first weight then."""
    builder = relax.BlockBuilder()
    row = relax.TensorType((1,), "float32")
    given = [relax.Var(f"layer_{n}_weight", row) for n in range(count)]
    x = relax.Var("x", relax.TensorType((count,), "float32"))
    with builder.function("main", [x, *given], attrs={"num_input": 1}):
        joined = builder.emit(relax.op.concat(given, axis=0))
        builder.emit_func_output(builder.emit(relax.op.add(x, joined)))
    lifted = apply(LiftDerivedWeights(), lowered(builder.get()))
    every = ", ".join(f"layer_{n}_weight" for n in range(count))
    name = f"concatenate({every})" if count == 3 else "concatenate(layer_0_weight, ...)"
    assert params(lifted) == ["x", name]
