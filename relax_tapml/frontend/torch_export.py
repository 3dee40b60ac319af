"""A model from PyTorch, through ``torch.export``."""

from __future__ import annotations

import contextlib
import logging
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tvm import relax

from relax_tapml.arrays import Array
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.foreign.module import TRUST
from relax_tapml.frontend._archive import check_sizes
from relax_tapml.frontend._arrays import to_array, to_torch
from relax_tapml.frontend._params import named_params
from relax_tapml.frontend._plain_dims import with_plain_dims
from relax_tapml.frontend._program_file import check_program_file, weights_only
from relax_tapml.frontend.inputs import as_samples
from relax_tapml.frontend.model import FrameworkGraph, Meaning, Model, Sample
from relax_tapml.frontend.signature import check_model, signature_of
from relax_tapml.printable import error_line

_ENTRY = "main"
_LOGGERS = ("torch.export", "torch._export")


def from_torch(
    module: Any,
    example_inputs: Sequence[Any] | Mapping[str, Any] = (),
    *,
    samples: Sequence[Sample | Sequence[Any]] | None = None,
    name: str | None = None,
    dynamic_shapes: Any = None,
    convert_map: Mapping[str, Callable[..., Any]] | None = None,
    meaning: Meaning | None = None,
) -> Model:
    """Import a torch module, in inference mode, with its parameters and its own outputs.

    Parameters
    ----------
    module
        A ``torch.nn.Module``, which is put into ``eval`` mode, or a
        ``torch.export.ExportedProgram``.
    example_inputs
        Positional or keyword arguments for the export; an exported program has its own.
    samples
        Real inputs: samples, or sequences of the arguments' tensors, flattened in order. By default
        the example inputs are the one sample.
    name
        For people; the class name by default.
    dynamic_shapes
        As for ``torch.export.export``.
    convert_map
        Converters by operator name, ``"cumsum.default"``, in place of those of TVM's importer: the
        ``custom_convert_map`` of ``from_exported_program``.
    meaning
        What the last axis of the outputs is.

    Returns
    -------
    Model
        Parameters carry the names of the Relax parameters, ``p_layer_weight``. Buffers are
        constants of the module.

    Raises
    ------
    UsageError
        torch is not installed, the module cannot be exported, it writes to its buffers, or it
        takes something other than tensors.
    LoweringError
        TVM cannot import an operator, or gives it another dtype or shape than PyTorch.
    """
    torch = import_torch()
    from relax_tapml.frontend._torch_import import import_program

    label = name or type(module).__name__
    with _quiet():
        if isinstance(module, torch.export.ExportedProgram):
            program, run = module, module.module()
        else:
            run = module.eval()
            program = _export(torch, module, example_inputs, dynamic_shapes, label)
        imported = import_program(program, dict(convert_map or {}), label).module
    imported, detached = relax.frontend.detach_params(imported)
    entry = imported.get_global_var(_ENTRY)
    imported.update_func(entry, with_plain_dims(imported[entry]))
    signature = signature_of(imported, _ENTRY, 0)
    model = Model(
        name=label,
        module=imported,
        params=named_params(detached, signature.param_names, _ENTRY),
        samples=_examples(torch, program) if samples is None else as_samples(samples),
        entry=_ENTRY,
        reference=lambda sample: _outputs(torch, program, run, sample),
        accurate=lambda sample: _accurate(torch, program, run, sample),
        meaning=meaning,
        graphs=lambda sample: [_graph(program, dict(convert_map or {}), label, sample)],
    )
    if model.samples:
        check_model(model)
    return model


def _graph(
    program: Any, convert_map: dict[str, Callable[..., Any]], label: str, sample: Sample
) -> FrameworkGraph:
    from relax_tapml.frontend._torch_graph import TorchGraph
    from relax_tapml.frontend._torch_import import import_program

    with _quiet():
        return TorchGraph(import_program(program, convert_map, label), sample)


def load_pt2(file: Path, *, trust: bool = False) -> Model:
    """Import a program written by ``torch.export.save``.

    If the file has the inputs of the export, these are the model's one sample.

    Parameters
    ----------
    file
        Written by ``torch.export.save``.
    trust
        Whether its author may run any code here: it may then hold pickled Python objects and
        libraries, which PyTorch runs when it loads them.

    Raises
    ------
    StoreError
        The file is not a whole exported program, or holds more than tensors and operators and
        ``trust`` is false.
    UsageError, LoweringError
        As for ``from_torch``.
    """
    torch = import_torch()
    _check_file(file, trust=trust)
    try:
        with _quiet(), contextlib.nullcontext() if trust else weights_only():
            program = torch.export.load(file)
    except pickle.UnpicklingError as error:
        raise StoreError(_refusal(file, "pickled objects that are no tensors")) from error
    except Exception as error:
        raise_machine_error(error, f"loading {file}")
        raise StoreError(
            f"{file} is not a program this PyTorch can load: {error_line(error)}. Save it again "
            f"with torch.export.save of PyTorch {torch.__version__}."
        ) from error
    return from_torch(program, name=file.stem)


def _check_file(file: Path, *, trust: bool) -> None:
    try:
        check_sizes(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StoreError(
            f"{file} is not a program this PyTorch can load: {type(error).__name__}: {error}. Save "
            f"it again with torch.export.save of PyTorch {import_torch().__version__}."
        ) from error
    if trust:
        return
    try:
        check_program_file(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StoreError(_refusal(file, str(error))) from error


def _refusal(file: Path, what: str) -> str:
    return (
        f"{file} holds more than tensors and operators: {what}. Loading it could run any code with "
        f"your rights. If you trust the author of the file, pass {TRUST}"
    )


def import_torch() -> Any:
    """Return the torch package.

    Raises
    ------
    UsageError
        It is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UsageError(
            "models from PyTorch need the torch package: pip install 'relax-tapml[torch]'"
        ) from error
    return torch


def _export(torch: Any, module: Any, inputs: Any, dynamic_shapes: Any, label: str) -> Any:
    args, kwargs = ((), dict(inputs)) if isinstance(inputs, Mapping) else (tuple(inputs), {})
    try:
        with torch.no_grad():
            return torch.export.export(module, args, kwargs, dynamic_shapes=dynamic_shapes)
    except Exception as error:
        raise_machine_error(error, f"exporting {label}")
        raise UsageError(
            f"torch.export of {label} failed: {error_line(error)}. Export it yourself and give the "
            "exported program."
        ) from error


def _examples(torch: Any, program: Any) -> tuple[Sample, ...]:
    if program.example_inputs is None:
        return ()
    leaves = torch.utils._pytree.tree_leaves(program.example_inputs)
    return (Sample(name="example", arrays=tuple(to_array(leaf) for leaf in leaves)),)


def _outputs(
    torch: Any, program: Any, run: Callable[..., Any], sample: Sample, dtype: Any = None
) -> list[Array]:
    """Run the module on a sample; with a dtype, in that dtype (see ``run_wide``)."""
    leaves = [to_torch(array) for array in sample.arrays]
    if dtype is not None:  # Also where no operator widens them: a module may write to its inputs.
        leaves = [leaf.to(dtype) if leaf.is_floating_point() else leaf for leaf in leaves]
    args, kwargs = torch.utils._pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    if dtype is None:
        with torch.no_grad():
            found = run(*args, **kwargs)
    else:
        from relax_tapml.frontend import _wide_run

        found = _wide_run.run_wide(lambda: run(*args, **kwargs), dtype)
    return [to_array(leaf) for leaf in torch.utils._pytree.tree_leaves(found)]


def _accurate(torch: Any, program: Any, run: Callable[..., Any], sample: Sample) -> list[Array]:
    """Run the module in float64, or in float32 if PyTorch has no float64 kernel for it."""
    try:
        return _outputs(torch, program, run, sample, torch.float64)
    except Exception as error:
        if all(dtype.itemsize > 2 for dtype in _float_dtypes(torch, run)):
            raise RuntimeError(f"in float64: {error_line(error)}") from error
        return _outputs(torch, program, run, sample, torch.float32)


def _float_dtypes(torch: Any, run: Any) -> set[Any]:
    tensors = [*run.parameters(), *run.buffers()] if isinstance(run, torch.nn.Module) else []
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence PyTorch's messages about its own code, and about files that it cannot load."""
    names = {*_LOGGERS, *logging.root.manager.loggerDict}
    loggers = [logging.getLogger(name) for name in names if name.startswith(_LOGGERS)]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        for logger, was_disabled in zip(loggers, before, strict=True):
            logger.disabled = was_disabled
