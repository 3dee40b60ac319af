"""Poolings and resized images, right or refused."""

from __future__ import annotations

import pytest
from refusals import refused
from torch_functions import agrees, module_of

from relax_tapml.errors import LoweringError
from relax_tapml.frontend.torch_export import from_torch

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")


@pytest.mark.parametrize("size", [(8, 7), (2, 3), None])
def test_nearest_neighbours_are_those_of_pytorch(size, run_on_llvm):
    """For sizes that are no multiples, and for scales that no whole size has."""
    image = torch.arange(40.0).reshape(1, 2, 4, 5)
    scale = None if size else (1.3, 1.7)

    def resize(x):
        return torch.nn.functional.interpolate(x, size, scale, mode="nearest")

    agrees(from_torch(module_of(resize), (image,)), run_on_llvm)


def test_a_scale_that_no_size_has_is_refused():
    """TVM would use the ratio of the sizes, and PyTorch does not."""

    def resize(x):
        return torch.nn.functional.interpolate(x, scale_factor=1.3, mode="bilinear")

    with refused(LoweringError, "upsample_bilinear2d", "a scale of 1.3 for a dimension of 4"):
        from_torch(module_of(resize), (torch.ones(1, 1, 4, 5),))


def test_the_maxima_of_a_pooling_are_right_and_their_places_refused(run_on_llvm):
    """TVM's converter returns zeros for the places."""
    pool = torch.nn.functional.max_pool2d_with_indices
    image = torch.arange(32).reshape(1, 2, 4, 4) - 9
    agrees(from_torch(module_of(lambda x: pool(x, 2)[0]), (image,)), run_on_llvm)
    with refused(LoweringError, "getitem", "aten.max_pool2d_with_indices.default has no result 1"):
        from_torch(module_of(lambda x: pool(x, 2)[1]), (image,))


@pytest.mark.parametrize("padding", [0, 1])
def test_a_pooling_has_its_divisor(padding, run_on_llvm):
    image = torch.linspace(-1, 1, 96).reshape(1, 2, 6, 8).cos()

    def pool(x):
        return torch.nn.functional.avg_pool2d(x, (2, 3), 1, padding, False, False, 4)

    agrees(from_torch(module_of(pool), (image,)), run_on_llvm, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (torch.arange(16).reshape(1, 1, 4, 4), "averages of integers"),
        (torch.ones(1, 1, 5, 5), "divisor_override with ceil_mode"),
    ],
)
def test_poolings_that_would_be_wrong_are_refused(image, named):
    is_ceiled = image.is_floating_point()
    divisor = 3 if is_ceiled else None
    pooling = torch.nn.AvgPool2d((2, 2), ceil_mode=is_ceiled, divisor_override=divisor)
    with refused(LoweringError, "avg_pool2d.default", named):
        from_torch(pooling, (image,))
