"""Sums of products of two tensors, by a matrix library, with bounds that a sample calibrates.

A shadow kernel follows every partial sum of every element, at some nanoseconds a term. For large
products that is done for a sample only, a grid of rows and columns (``derive._product_sample``).
All elements have the sum, an estimate of its error, and the largest error that any order may have
(``derive._product_sums``). Sums that are to be exact need no sample (``derive._exact_sums``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relax_tapml.arrays import Array
from relax_tapml.derive._exact_sums import exact_sums
from relax_tapml.derive._pieces import Product
from relax_tapml.derive._product_matrices import Factor, Layout, Matrix
from relax_tapml.derive._product_sample import calibrated
from relax_tapml.derive._product_sums import sums_of_products
from relax_tapml.derive._sampled import Sampled


@dataclass(frozen=True, kw_only=True)
class ProductResult:
    """The values and errors of a product, float64, and what was sampled, if anything was."""

    values: Array
    errors: Array
    sampled: Sampled | None


def evaluate_product(
    product: Product,
    factors: tuple[Factor, Factor],
    extents: Mapping[Any, int],
    shape: Sequence[int],
    *,
    is_exact: bool,
) -> ProductResult:
    """Evaluate a product in float64, with a bound of the error of each element.

    Parameters
    ----------
    product
        What is computed.
    factors
        The tensors of its operands.
    extents
        Of its loop variables.
    shape
        Of the result.
    is_exact
        Whether a sum that every order computes without a rounding has no error, and inputs are the
        same bits everywhere. Nothing is sampled then.
    """
    layout = Layout.of(product, extents)
    left = Matrix.of(product.operands[0], factors[0], layout, layout.rows)
    right = Matrix.of(product.operands[1], factors[1], layout, layout.columns)
    sampled = None
    if is_exact:
        values, errors = exact_sums(product, left, right)
    else:
        sums = sums_of_products(product, left, right)
        values = sums.values
        errors, sampled = calibrated(product, left, right, sums)
    return ProductResult(
        values=layout.placed(values, product, shape),
        errors=layout.placed(errors, product, shape),
        sampled=sampled,
    )
