"""Models of MLC-LLM, taken out of its own compile flow: after fusion, before target schedules.

One line around a build script's call is all it takes; MLC is neither forked nor patched::

    with relax_tapml.mlc.carving("dist/llama", prompts=[[1, 5, 9, 2]], target="cuda"):
        mlc_llm.interface.compile.compile(...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from relax_tapml.errors import LoweringError, TapmlError, UsageError
from relax_tapml.frontend.model import Array, Meaning, Model, Sample
from relax_tapml.frontend.paged_drive import PagedDrive
from relax_tapml.frontend.unpack_params import UnpackParams
from relax_tapml.migrate.result import Result
from relax_tapml.partition.lower import NAMING
from relax_tapml.run import bring_up

PIPELINE = "mlc_llm"
LAST_BEFORE_SCHEDULES = "CleanUpTIRAttrs"
"""The pass of that pipeline after which kernels are fused and not yet scheduled."""

Parameters = Sequence[Mapping[str, Any]]
"""Of each parameter ``name``, ``shape`` (numbers, or names of dimensions) and ``dtype``."""


@dataclass
class Carved:
    """What a compilation within ``carving`` left.

    Parameters
    ----------
    model
        The model as it was run; None before a compilation.
    result
        Of ``bring_up``.
    """

    model: Model | None = None
    result: Result | None = None


@contextmanager
def carving(
    out: Path | str,
    *,
    prompts: Sequence[Sequence[int]],
    following: Sequence[int] = (),
    params: Mapping[str, Array] | None = None,
    dims: Mapping[str, int] | None = None,
    drive: PagedDrive | None = None,
    pipeline: str = PIPELINE,
    after: str = LAST_BEFORE_SCHEDULES,
    **options: Any,
) -> Iterator[Carved]:
    """Bring up every model that is compiled within the block, then let its compilation go on.

    Parameters
    ----------
    out
        The output folder of the run.
    prompts
        Token ids of each sample.
    following
        Token ids that are decoded after each prompt.
    params
        Weights by MLC's names; without them they are drawn at random.
    dims
        Extents of dimensions that MLC leaves open, such as ``vocab_size``, where weights are drawn.
    drive
        How a sample is run; by default as MLC's runtime does.
    pipeline, after
        Name of the registered pipeline, and of the pass in it after which the module is taken.
    options
        Of ``relax_tapml.bring_up``: ``target``, ``session``, ``strategy``, ``device_pipeline``, ...

    Raises
    ------
    UsageError
        No such pipeline is registered: MLC-LLM is not imported, or of another version.
    LoweringError
        The pipeline ended without that pass.
    """
    registered = relax.pipeline.PIPELINE_MAP
    if pipeline not in registered:
        raise UsageError(
            f"no Relax pipeline '{pipeline}' is registered; there are: "
            f"{', '.join(sorted(registered))}. Import mlc_llm first; it is not on the package "
            "registry, see https://llm.mlc.ai/docs/install/mlc_llm.html"
        )
    carved = Carved()
    drive = drive or PagedDrive(is_flat=True)

    def bring(module: tvm.IRModule, parameters: Parameters) -> None:
        given = drawn(parameters, dims or {}) if params is None else dict(params)
        samples = tuple(
            Sample(name=f"prompt {number}", arrays=(_ids(prompt), _ids(following)))
            for number, prompt in enumerate(prompts)
        )
        carved.model = mlc_model(module, parameters, given, samples, drive)
        carved.result = bring_up(carved.model, out=Path(out), **options)

    original = registered[pipeline]
    ours: list[TapmlError] = []
    registered[pipeline] = _wrapped(original, after, bring, ours)
    try:
        yield carved
    except Exception as error:
        # An error loses its class on its way through TVM.
        if ours and not isinstance(error, TapmlError):
            raise ours[0] from error
        raise
    finally:
        registered[pipeline] = original


def mlc_model(
    module: tvm.IRModule,
    parameters: Parameters,
    params: Mapping[str, Array],
    samples: Sequence[Sample],
    drive: PagedDrive,
) -> Model:
    """Return a model of a fused module as MLC hands its weights over, as one tuple.

    Its units are the kernels that MLC's passes have fused: they are not fused again.

    Raises
    ------
    UsageError
        A weight is missing.
    """
    names = [str(parameter["name"]) for parameter in parameters]
    missing = [name for name in names if name not in params]
    if missing:
        raise UsageError(
            f"no value for {len(missing)} of {len(names)} weights: {', '.join(missing[:5])}. Give "
            "them under MLC's names"
        )
    for gvar, function in module.functions.items():
        if isinstance(function, relax.Function) and "num_input" in (function.attrs or {}):
            module = UnpackParams(gvar.name_hint, names)(module)
    lowered = tvm.transform.Sequential([relax.transform.LambdaLift(), *NAMING])(module)
    return Model(
        name="MLC model",
        module=lowered,
        params={name: params[name] for name in names},
        samples=tuple(samples),
        entry=drive.prefill,
        meaning=Meaning.TOKENS,
        drive=drive,
    )


def drawn(parameters: Parameters, dims: Mapping[str, int]) -> dict[str, Array]:
    """Draw weights that leave activations finite: noise, norms around 1, any bits for integers.

    Raises
    ------
    UsageError
        The extent of a dimension is not known.
    """
    rng = np.random.default_rng(0)
    arrays: dict[str, Array] = {}
    for parameter in parameters:
        name, dtype = str(parameter["name"]), np.dtype(str(parameter["dtype"]))
        unknown = [d for d in parameter["shape"] if isinstance(d, str) and d not in dims]
        if unknown:
            raise UsageError(f"weight {name}: the extent of {', '.join(unknown)} is not known")
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


def _ids(tokens: Sequence[int]) -> Array:
    return np.array([list(tokens)], "int32")


def _wrapped(
    original: Callable[..., Any],
    after: str,
    bring: Callable[[tvm.IRModule, Parameters], None],
    errors: list[TapmlError],
) -> Callable[..., Any]:
    """Return a factory of pipelines that call ``bring`` in the middle of what they do.

    An error of ours is also added to ``errors``.
    """

    def factory(**arguments: Any) -> tvm.transform.Pass:
        inner = original(**arguments)
        parameters = (arguments.get("metadata") or {}).get("params", ())

        @tvm.transform.module_pass(opt_level=0, name="Carving")  # type: ignore[untyped-decorator]
        def outer(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
            try:
                taken = _taken(inner, module, after)
                # Not in the compilation's own context, whose options are for its target.
                with tvm.transform.PassContext():
                    bring(taken, parameters)
            except TapmlError as error:
                errors.append(error)
                raise
            return inner(module)

        return outer

    return factory


class _Taken(Exception):  # noqa: N818 - it is no error
    """Ends a pipeline once its module is taken."""


def _taken(inner: tvm.transform.Pass, module: tvm.IRModule, after: str) -> tvm.IRModule:
    """Run a pipeline up to and with a pass, and return the module."""
    found: list[tvm.IRModule] = []

    @tvm.instrument.pass_instrument
    class Take:
        def run_after_pass(self, taken: tvm.IRModule, info: Any) -> None:
            if info.name == after and not found:
                found.append(taken)
                raise _Taken

    context = tvm.transform.PassContext.current()
    try:
        with tvm.transform.PassContext(
            opt_level=context.opt_level, config=dict(context.config), instruments=[Take()]
        ):
            inner(module)
    except Exception:
        if not found:
            raise
    if not found:
        raise LoweringError(f"the pipeline has no pass '{after}' to take the module after")
    return found[0]
