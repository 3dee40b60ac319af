"""A model from a TVM ``relax.frontend.nn.Module``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.mapped import map_file
from relax_tapml.files.read import MAX_WEIGHTS_BYTES
from relax_tapml.frontend._callable import from_module
from relax_tapml.frontend._unpack_params import UnpackParams
from relax_tapml.frontend.inputs import as_samples
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.frontend.signature import check_model
from relax_tapml.tensor_file import parse_tensors


def from_nn_module(
    module: Any,
    spec: Any,
    *,
    params: Mapping[str, Any] | Path | None = None,
    samples: Sequence[Sample | Sequence[Any]] = (),
    name: str | None = None,
    entry: str = "forward",
) -> Model:
    """Export an ``nn.Module`` and give it parameters by name.

    Parameters
    ----------
    module
        A ``tvm.relax.frontend.nn.Module``.
    spec
        What its ``export_tvm`` takes: method name to input specifications.
    params
        Parameter name to tensor, or a safetensors file of them, under the names of
        ``module.named_parameters()``. Where a name is missing, a parameter's own ``data`` is used.
    samples
        Real inputs; without any, the command line needs ``--inputs``.
    name
        For people; the class name by default.
    entry
        The method to run.

    Raises
    ------
    UsageError
        A parameter has no value, or values or samples do not fit the method.
    """
    exported, parameters = module.export_tvm(spec)
    given = _read(params) if isinstance(params, Path) else dict(params or {})
    own = {key: value.data for key, value in module.named_parameters() if value.data is not None}
    names = [key for key, _ in parameters]
    missing = [key for key in names if key not in given and key not in own]
    if missing:
        raise UsageError(
            f"no value for {len(missing)} of {len(names)} parameters of "
            f"{type(module).__name__}: {', '.join(missing)}. Give them with params=, a dict or a "
            "safetensors file."
        )
    exported = UnpackParams(entry, names)(exported)
    values = {**{key: own[key] for key in names if key in own}, **given}
    model = from_module(exported, values, name=name or type(module).__name__, entry=entry)
    if samples:
        model = dataclasses.replace(model, samples=as_samples(samples))
        check_model(model)
    return model


def _read(file: Path) -> dict[str, Any]:
    try:
        data = map_file(file, fix="Name another file", max_bytes=MAX_WEIGHTS_BYTES)
        return dict(parse_tensors(data))
    except (ValueError, StoreError) as error:
        raise UsageError(f"parameters {file}: cannot be read: {error}.") from error
