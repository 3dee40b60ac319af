"""Writes at indices and masks, and the places of what is not zero."""

from __future__ import annotations

import pytest
from refusals import refused
from torch_functions import agrees, module_of

from relax_tapml.errors import LoweringError
from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

X = torch.linspace(-3, 9, 60).sin().reshape(3, 4, 5)
ROWS, COLUMNS = torch.tensor([[0], [-1]]), torch.tensor([1, -2, 1])
B, L = torch.export.Dim("b", min=2, max=40), torch.export.Dim("l", min=2, max=40)


def written(x, place, value):
    new = x.clone()
    new[place] = value
    return new


def test_values_are_written_and_read_at_any_axes(run_on_llvm):
    """Of axes that are neighbours or not; negative ones count from the end."""

    def function(x, a, b):
        places = ((slice(None), a, b), (a, slice(None), b), (a[:, 0],))
        return (
            *(written(x, place, x[place] + 2) for place in places),
            written((x * 9).long(), places[0], 7),
            written(x > 0, places[1], False),
        )

    agrees(from_torch(module_of(function), (X, ROWS, COLUMNS)), run_on_llvm)


def test_values_are_added_where_an_index_repeats(run_on_llvm):
    put = torch.ops.aten.index_put.default

    def function(x, at, values):
        return (
            put(x, [None, at], values, True),
            put((x * 9).int(), [None, at], values.int(), True),
            put(x.bfloat16(), [None, at], values.bfloat16(), True),
        )

    model = from_torch(module_of(function), (X, COLUMNS, torch.ones(3, 5)))
    agrees(model, run_on_llvm, rtol=2e-2)


def test_a_mask_says_where_one_value_is_written(run_on_llvm):
    def function(x):
        row = torch.arange(5.0)
        return (
            written(x, x > 0, 7.0),
            written(x, x[:, :, 0] > 0, row),
            written(x, (slice(None), x[0, :, 0] > 0), row[None]),
            torch.ops.aten.index_put(x, [x > 0], torch.tensor(2.0), True),
        )

    agrees(from_torch(module_of(function), (X,)), run_on_llvm)


def test_a_negative_index_counts_from_a_symbolic_end(run_on_llvm):
    """When it is written and when it is read."""
    samples = [(X, torch.tensor([0, -1])), (torch.cat([X, X]), torch.tensor([0, -1, 2]))]
    model = from_torch(
        module_of(lambda x, at: written(x, (at,), x[at] + 3)),
        samples[0],
        samples=samples,
        dynamic_shapes=(({0: B}, {0: L}),),
    )
    agrees(model, run_on_llvm)


def test_places_of_what_is_not_zero(run_on_llvm):
    """Fewer and more than there are, for two numbers of rows."""

    def function(x):
        return tuple(
            torch.nonzero_static(x * (x > 0), size=size, fill_value=-7) for size in (1, 9, 150)
        )

    samples = [(X,), (torch.cat([X, X]),)]
    model = from_torch(
        module_of(function), samples[0], samples=samples, dynamic_shapes=(({0: B},),)
    )
    agrees(model, run_on_llvm)


class Picks(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (torch.nonzero, "nonzero.default"),
        (lambda x: x[x > 0] * 2, "index.Tensor"),
        (lambda x: x.unique(), "_unique2.default"),
    ],
)
def test_a_shape_that_depends_on_values_is_refused(function, operator):
    """With the module, the line, and what has a fixed shape."""
    module = torch.nn.Sequential(torch.nn.ReLU(), Picks(function))
    with refused(LoweringError, operator, " in 1", "test_scatters.py", "nonzero_static"):
        from_torch(module, (X,))


def test_values_for_each_true_of_a_mask_are_refused():
    def forward(x, values):
        return torch.ops.aten.index_put(x, [torch.tensor([True, False, True])], values)

    with refused(LoweringError, "index_put.default", "as many values as a mask has trues"):
        from_torch(module_of(forward), (X, torch.ones(2, 4, 5)))
