"""The shadow kernel of a PrimFunc: it computes in float64, with an error bound for each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm import tirx

from relax_tapml.derive._functions import FUNCTIONS, Function
from relax_tapml.derive._rewriter import Rewriter, ShadowKernel
from relax_tapml.kernel_flow.plain_kernel import plain_kernel


def shadow_kernel_of(
    function: tirx.PrimFunc,
    results: Sequence[int],
    functions: Mapping[str, Function] = FUNCTIONS,
    *,
    is_exact: bool = False,
    is_perturbed: bool = False,
    wide: frozenset[int] = frozenset(),
    kept: frozenset[int] = frozenset(),
) -> ShadowKernel:
    """Rewrite a PrimFunc to float64, with an error bound beside each value.

    Every rounding that the kernel does adds to the error of what it rounds, and every operation
    carries the errors of its operands. So the bound holds for whatever kernel does the same
    operations, with intermediate results in the same precision or a wider one, with sums in any
    order, and with elementary functions as accurate as ``derive._functions`` says. ::

        B[i] = B[i] + A[i, k] * W[k]
        # becomes, with v the product and e its error
        B64[i] = B64[i] + v
        carried[i] = carried[i] + e
        # and, when all of them are there
        B_error[i] = carried[i] + the error that PartialSum estimates from the partial sums

    Parameters
    ----------
    function
        As Relax lowers operators: loops and blocks, no threads. Not changed.
    results
        Numbers of the parameters that it stores results in.
    functions
        How accurate elementary functions are, by the name of the TIR operator.
    is_exact
        For inputs that are the same bits everywhere, such as small whole numbers: inputs are not
        perturbed, and a value that no order of the operations rounds has no error.
    is_perturbed
        Whether inputs are perturbed also where nothing rounds, because they are themselves results
        with errors.
    wide
        Numbers of the float inputs that are values of a shadow kernel themselves: float64, with
        errors in float64.
    kept
        Numbers of the results that another part of the kernel reads: these are rounded to their
        dtype.

    Raises
    ------
    NotDerivableError
        The kernel calls external code, runs in threads, or does something else whose errors cannot
        be followed; or rounding may change which element it stores.
    """
    plain = plain_kernel(function)
    uncertain: set[Any] = set()
    while True:
        # A tensor has errors if a value stored in it has one, which may depend on other tensors.
        rewriter = Rewriter(
            plain, frozenset(results), uncertain, functions, is_exact=is_exact, wide=wide, kept=kept
        )
        shadow = rewriter.shadow()
        if rewriter.found <= uncertain:
            break
        uncertain |= rewriter.found
    if shadow.rounds or is_exact or is_perturbed or wide:
        return shadow
    # Without a rounding, the same input bits give the same output bits: no perturbation is needed.
    return Rewriter(plain, frozenset(results), set(), functions, has_perturbations=False).shadow()
