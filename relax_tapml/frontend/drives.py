"""A model with another drive, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from relax_tapml.errors import UsageError
from relax_tapml.frontend._callable import import_callable
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.paged_drive import PagedDrive, scenario_named


def with_drive(model: Model, names: Sequence[str]) -> Model:
    """Return a model that is run by scenarios, or by a function of the user's own.

    Parameters
    ----------
    model
        Without names it is returned as it is.
    names
        Names of scenarios, for a model with a ``PagedDrive``; or one ``package.module:function``
        that takes functions and sample as ``Model.drive`` does. The current directory can be
        imported from.

    Raises
    ------
    UsageError
        There is nothing of that name, a function has others beside it, or scenarios are for another
        model.
    """
    if not names:
        return model
    functions = [name for name in names if ":" in name]
    if functions:
        if len(names) > 1:
            raise UsageError(
                f"--drive {', '.join(names)}: a function runs the whole sample. Give it alone, or "
                "names of scenarios"
            )
        return dataclasses.replace(model, drive=import_callable(functions[0], "drive"))
    scenarios = tuple(scenario_named(name) for name in names)
    if not isinstance(model.drive, PagedDrive):
        raise UsageError(
            f"--drive {', '.join(names)}: scenarios are for decoders with a paged KV cache, and "
            f"{model.name} is run in another way. Give a function, package.module:function"
        )
    return dataclasses.replace(model, drive=dataclasses.replace(model.drive, scenarios=scenarios))
