"""Converts parameters from any framework's form to arrays by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.frontend._arrays import to_array
from relax_tapml.printable import names_text


def named_params(given: Any, names: Sequence[str], entry: str) -> dict[str, Array]:
    """Return parameters by name, in the order of the entry function.

    Parameters
    ----------
    given
        Name to tensor in any order; or tensors in the entry function's order; or what
        ``relax.frontend.detach_params`` returns: function name to tensors.
    names
        Names of the entry function's model parameters, in its order.
    entry
        Its name.

    Raises
    ------
    UsageError
        A parameter is missing or left over, or is not a tensor.
    """
    if isinstance(given, Mapping) and isinstance(given.get(entry), Sequence):
        given = given[entry]
    if not isinstance(given, Mapping):
        values = list(given)
        if len(values) != len(names):
            raise UsageError(
                f"'{entry}' takes {len(names)} model parameters, got {len(values)}. "
                "Give one for each, in the function's order, or name them."
            )
        given = dict(zip(names, values, strict=True))
    check_names(given, names, entry)
    arrays = {}
    for name in names:
        try:
            arrays[name] = to_array(given[name])
        except TypeError as error:
            raise UsageError(f"parameter '{name}' of '{entry}': {error}.") from error
    return arrays


def check_names(given: Iterable[str], names: Sequence[str], entry: str) -> None:
    """Check that parameters are given for exactly ``names``, in any order.

    Raises
    ------
    UsageError
        A name is missing or left over.
    """
    given = list(given)
    missing = [name for name in names if name not in given]
    extra = [str(name) for name in given if name not in names]
    if missing or extra:
        raise UsageError(
            f"the parameters given do not match those of '{entry}': "
            f"missing: {names_text(missing, 5) or 'none'}; "
            f"not taken by it: {names_text(extra, 5) or 'none'}. "
            "Name them as the Relax function's parameters."
        )


def param_count(given: Any, entry: str) -> int:
    """Return how many parameters of ``entry`` are in ``given``; see ``named_params``."""
    if isinstance(given, Mapping) and isinstance(given.get(entry), Sequence):
        given = given[entry]
    return len(given)
