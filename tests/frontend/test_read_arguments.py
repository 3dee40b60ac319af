"""What a converter does not read of its node, it ignores; that is refused, and never silent."""

from __future__ import annotations

import pytest
from refusals import refused

from relax_tapml.errors import LoweringError
from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

from relax_tapml.frontend._read_arguments import WatchedNode  # noqa: E402

X = torch.linspace(-1, 1, 32).reshape(1, 2, 4, 4)


class Inner(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def model_of(function):
    return torch.nn.Sequential(torch.nn.Identity(), Inner(function))


def node_of(function, *examples):
    """The node of the one operator that a function calls."""
    program = torch.export.export(Inner(function), examples).run_decompositions()
    (node,) = (node for node in program.graph.nodes if node.op == "call_function")
    return WatchedNode(node)


def test_arguments_count_as_read_however_they_are_read():
    """By place, all at once, from behind, by name, or as PyTorch orders them."""

    def pool(x):
        return torch.ops.aten.avg_pool2d.default(x, [2, 2], [1, 1], [0, 0], False, True, 3)

    seen = node_of(pool, X)
    assert seen.ignored() == "self=x"
    _ = seen.args[0], seen.args[1:4], seen.args[-2]
    assert seen.ignored() == "divisor_override=3"
    first, *_rest = seen.args
    assert seen.ignored() == ""
    assert first.name == "x"
    seen = node_of(pool, X)
    args, kwargs = seen.normalized_arguments(seen)
    _ = list(args), kwargs.get("divisor_override")
    assert seen.ignored() == ""


def test_what_says_nothing_may_be_ignored():
    """Defaults, False and None; where a tensor lies; what gradients alone need."""
    seen = node_of(lambda x: torch.ops.aten.add.Tensor(x, x, alpha=1), X)
    _ = list(seen.args)
    assert seen.ignored() == ""
    seen = node_of(lambda x: torch.ops.aten.add.Tensor(x, x, alpha=2), X)
    _ = list(seen.args)
    assert seen.ignored() == "alpha=2"
    assert "alpha" in seen.kwargs
    assert seen.ignored() == ""
    table = torch.nn.Embedding(4, 2, padding_idx=1)
    from_torch(table, (torch.tensor([1, 3]),))


def test_an_ignored_argument_is_refused_with_its_node():
    """Here that of a converter which TVM has and this package does not correct."""
    module = model_of(lambda x: torch.ops.aten._softmax.default(x.half(), 1, True))
    with refused(
        LoweringError,
        "node '_softmax' (_softmax.default) in 1 of net",
        "its converter ignores half_to_float=True",
        "convert_map={'_softmax.default': ...}",
    ):
        from_torch(module, (X,), name="net")


def test_an_operator_without_a_converter_is_refused_with_its_place():
    module = model_of(lambda x: torch.cdist(x, x))
    with refused(
        LoweringError,
        "no converter for node '_cdist_forward' (_cdist_forward.default) in 1",
        "convert_map={'_cdist_forward.default': ...}",
    ):
        from_torch(module, (X,), name="net")


def test_a_converter_that_raises_is_reported_with_its_place():
    def fails(node, importer):
        raise ValueError("as it must")

    with refused(
        LoweringError, "cannot import node 'relu' (relu.default) in 1 of net: ValueError: as it"
    ):
        from_torch(model_of(torch.relu), (X,), name="net", convert_map={"relu.default": fails})
