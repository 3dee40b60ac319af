"""A module of MLC-LLM as a model: weights by name, prompts, and a drive like MLC's runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm import relax

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.frontend._thread_bound import without_functions
from relax_tapml.frontend._unpack_params import UnpackParams
from relax_tapml.frontend.mlc_pipeline import Taken
from relax_tapml.frontend.model import Meaning, Model, Sample
from relax_tapml.frontend.paged_drive import PagedDrive
from relax_tapml.partition.lower import NAMING
from relax_tapml.passes.call_loose_kernels import CallLooseKernels

SEED = 0
"""The seed of random weights and tokens."""


def mlc_model(
    taken: Taken,
    *,
    name: str,
    samples: Sequence[Sample],
    drive: PagedDrive,
    params: Mapping[str, Array] | None = None,
    dims: Mapping[str, int] | None = None,
    without: Sequence[str] = (),
) -> Model:
    """Return a model of a fused module of MLC, which takes its weights as one tuple.

    Its units are the kernels that MLC's passes have fused: they are not fused again. For another
    target, MLC's passes run again.

    Parameters
    ----------
    taken
        From ``each_module``.
    name
        For people.
    samples
        Of ``prompt_sample``.
    drive
        How a sample is run.
    params
        Weights by MLC's names; without them, random ones of ``drawn`` are used.
    dims
        Extents of dimensions that MLC leaves open, such as ``vocab_size``, for random weights.
    without
        Functions to leave out.

    Raises
    ------
    UsageError
        A weight is missing, or ``dims`` lacks a dimension.
    """
    declared = taken.metadata.get("params", ())
    given = drawn(declared, dims or {}) if params is None else params
    names = [str(parameter["name"]) for parameter in declared]
    missing = [name for name in names if name not in given]
    if missing:
        raise UsageError(
            f"no value for {len(missing)} of {len(names)} weights: {', '.join(missing[:5])}. Give "
            "them by MLC's names, converted with the same quantization"
        )
    return Model(
        name=name,
        module=_lowered(taken.module, names, without),
        params={name: given[name] for name in names},
        samples=tuple(samples),
        entry=drive.prefill,
        meaning=Meaning.TOKENS,
        drive=drive,
        for_target=partial(_for_target, taken, names, without),
    )


def _for_target(
    taken: Taken, names: Sequence[str], without: Sequence[str], target: Any
) -> tvm.IRModule:
    return _lowered(taken.for_target(target), names, without)


def _lowered(module: tvm.IRModule, names: Sequence[str], without: Sequence[str]) -> tvm.IRModule:
    """Return a module whose weights are parameters of these names, and whose sites are named."""
    module = without_functions(module, without)
    for gvar, function in module.functions.items():
        if isinstance(function, relax.Function) and "num_input" in (function.attrs or {}):
            module = UnpackParams(gvar.name_hint, names)(module)
    passes = [CallLooseKernels(), relax.transform.LambdaLift(), *NAMING]
    return tvm.transform.Sequential(passes)(module)


def prompt_sample(name: str, prompt: Sequence[int], following: Sequence[int]) -> Sample:
    """Return a sample of token ids: those that are prefilled, and those decoded one by one."""
    return Sample(name=name, arrays=(np.array([prompt], "int32"), np.array([following], "int32")))


def drawn(parameters: Sequence[Mapping[str, Any]], dims: Mapping[str, int]) -> dict[str, Array]:
    """Return random weights with finite activations: noise, norms around 1, any bits for integers.

    Raises
    ------
    UsageError
        ``dims`` lacks a dimension.
    """
    rng = np.random.default_rng(SEED)
    arrays: dict[str, Array] = {}
    for parameter in parameters:
        name, dtype = str(parameter["name"]), np.dtype(str(parameter["dtype"]))
        unknown = [d for d in parameter["shape"] if isinstance(d, str) and d not in dims]
        if unknown:
            raise UsageError(
                f"weight {name}: no extent for dimension {', '.join(unknown)}. Give it with dims="
            )
        shape = [dims[d] if isinstance(d, str) else int(d) for d in parameter["shape"]]
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            arrays[name] = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
            continue
        noise = rng.standard_normal(shape) * 0.08
        if "norm" in name:
            noise += 1
        elif "scale" in name:
            noise = 0.01 + abs(noise) * 0.1
        arrays[name] = noise.astype(dtype)
    return arrays
