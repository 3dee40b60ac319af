"""Symbolic dimensions."""

from __future__ import annotations

import pytest
from torch_functions import agrees, module_of

from relax_tapml._compat import IS_TVM_026
from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

IMAGE = torch.linspace(-2, 5, 288).sin().reshape(2, 3, 6, 8)
B = torch.export.Dim("b", min=1, max=40)
N, M = torch.export.Dim("n", min=4, max=40), torch.export.Dim("m", min=6, max=40)

NO_ARITHMETIC = pytest.mark.skipif(
    IS_TVM_026, reason="the importer of TVM 0.26 has no arithmetic of dimensions"
)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.reshape(x.shape[0], x.shape[1]),
        lambda x: x.reshape(x.shape[1], x.shape[0]),
        pytest.param(lambda x: x[:, : x.shape[0] // 2], marks=NO_ARITHMETIC),
        lambda x: torch.arange(50)[: x.shape[1]] + x,
        pytest.param(lambda x: torch.arange(50)[1 : x.shape[1] + 1] + x, marks=NO_ARITHMETIC),
        pytest.param(
            lambda x: x[..., -1:],
            marks=pytest.mark.skipif(
                IS_TVM_026, reason="strided_slice of TVM 0.26 takes -1 of an open extent for 0"
            ),
        ),
        lambda x: x[:, 1:],
        lambda x: x[:, :-1],
        lambda x: x[:, :-1] + x[:, 1:],
        lambda x: x[:, 2:-1] * 2,
        lambda x: x[:, :-2:2],
        lambda x: x[:, -3:],
        lambda x: x[0, :1].repeat(x.shape[0], 1),
        lambda x: x[None].repeat(x.shape[1], 2, 1),
        lambda x: x[:1].repeat(x.shape[0], x.shape[1]),
        lambda x: torch.empty(x.shape[0], 2).fill_(3) + x[0, 0],
        lambda x: torch.zeros(x.shape[1]) + x.sum(),
        lambda x: torch.cat([x, torch.ones(x.shape[0], 3)], 1).flip(0),
    ],
)
def test_dimensions_may_be_symbolic(function, run_on_llvm):
    """For other extents than those it was exported with."""
    samples = [[torch.arange(n * m).reshape(n, m).float()] for n, m in ((4, 6), (5, 9), (12, 7))]
    model = from_torch(
        module_of(function), samples[0], samples=samples, dynamic_shapes=(({0: N, 1: M},),)
    )
    agrees(model, run_on_llvm)


def test_windows_of_an_axis(run_on_llvm):
    """That overlap, touch, or leave elements out; of a symbolic axis, too."""

    def function(x):
        return (
            x.unfold(1, 2, 1),
            x.bfloat16().unfold(-1, 3, 2),
            x.int().unfold(2, 4, 9),
            (x > 0).unfold(0, 3, 2),
        )

    samples = [(IMAGE.repeat(times, 1, 1, 1) * 9,) for times in (3, 5)]
    shapes = (({0: torch.export.Dim("rows", min=6, max=40)},),)
    model = from_torch(module_of(function), samples[0], samples=samples, dynamic_shapes=shapes)
    agrees(model, run_on_llvm)


def test_patches_of_images_are_cut_and_put_together(run_on_llvm):
    """With every argument of both."""
    how = {"dilation": (1, 2), "padding": (1, 0), "stride": (2, 1)}

    def function(x):
        patches = torch.nn.functional.unfold(x, (2, 3), **how)
        halves = torch.nn.functional.unfold(x.half(), (2, 3), **how)
        return torch.nn.functional.fold(patches * 2, (6, 8), (2, 3), **how), halves

    samples = [(IMAGE,), (torch.cat([IMAGE, IMAGE]),)]
    model = from_torch(
        module_of(function), samples[0], samples=samples, dynamic_shapes=(({0: B},),)
    )
    agrees(model, run_on_llvm, rtol=1e-5, atol=1e-5)
