"""Models from a config of MLC-LLM, ``mlc:CONFIG``. MLC compiles them up to fusion."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.contrib import tvmjs

from relax_tapml.arrays import Array
from relax_tapml.errors import LoweringError, StoreError, TapmlError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.files.read import read_bytes
from relax_tapml.frontend._texts import silent, text_start
from relax_tapml.frontend._thread_bound import thread_bound_kernels, without_functions
from relax_tapml.frontend._uncompiled import uncompiled_functions
from relax_tapml.frontend.inputs import load_samples
from relax_tapml.frontend.mlc_compat import FITTING, tvm_for_mlc
from relax_tapml.frontend.mlc_drive import for_batches, mlc_drive
from relax_tapml.frontend.mlc_model import SEED, mlc_model, prompt_sample
from relax_tapml.frontend.mlc_pipeline import INSTALL, Metadata, Taken, each_module
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.frontend.paged_drive import PagedDrive
from relax_tapml.frontend.signature import Signature, check_model
from relax_tapml.printable import error_line, error_text, names_text
from relax_tapml.targets.platforms.parse_target import parse_target

_CONFIGS = ("mlc-chat-config.json", "config.json")
_WEIGHTS = ("tensor-cache.json", "ndarray-cache.json")
_DRAWN = (67, 8)
"""The number of tokens of each random prompt, where the context of the model is as long."""
_DECODED = 3
"""Tokens at the end of a sample that are decoded one by one; those before are prefilled."""


def load_mlc(
    config: str,
    *,
    inputs: Sequence[Path] = (),
    texts: Sequence[str] = (),
    quantization: str | None = None,
    source: str = "llvm",
) -> Model:
    """Return the model that MLC-LLM makes of a config, with fused and unscheduled kernels.

    MLC compiles it for the source, and the compilation is ended when it has fused the module. The
    weights are those that MLC has converted, in the folder of the config. Without such weights,
    random ones are used.

    Parameters
    ----------
    config
        ``config.json`` as on Hugging Face, ``mlc-chat-config.json``, or a folder with one.
    inputs
        Files of token ids, one array ``tokens`` in each.
    texts
        Sentences, for the tokenizer in the folder. Without texts and inputs, tokens are random.
    quantization
        Name of one of MLC's quantizations; by default that of the config.
    source
        The TVM target that MLC compiles for. Functions that it cannot run and that the drive does
        not call are left out, which the name of the model notes.

    Raises
    ------
    UsageError
        No such config, quantization or type of model; MLC-LLM cannot be imported; the model is not
        a decoder with a paged KV cache, or not one that the source can run; inputs are not token
        ids, or too many.
    LoweringError
        MLC-LLM fails with this TVM.
    StoreError
        The weights cannot be read.
    """
    file = _config_file(Path(config))
    target = parse_target(source)
    compiled = _compile(file, quantization, target)
    samples = _samples(file.parent, inputs, texts, compiled)
    drive = mlc_drive(compiled.module, compiled.metadata, samples, target)
    left_out = _left_out(compiled, drive, target)
    if left_out:
        left = without_functions(compiled.module, left_out)
        drive = mlc_drive(left, compiled.metadata, samples, target)
    weights = next((file.parent / n for n in _WEIGHTS if (file.parent / n).is_file()), None)
    random = [*(["weights"] if weights is None else []), *([] if inputs or texts else ["tokens"])]
    drawn = f" with random {' and '.join(random)} (seed {SEED})" if random else ""
    name = f"{compiled.metadata['model_type']} {compiled.metadata['quantization']}"
    without = f" without {', '.join(left_out)}" if left_out else ""
    make = partial(
        mlc_model,
        compiled.taken,
        name=f"{name}{without}{drawn}",
        samples=samples,
        drive=drive,
        dims=compiled.extents,
        without=left_out,
    )
    if weights is None:
        return make()
    try:
        model = make(params=_read_weights(weights))
        check_model(model)
    except UsageError as error:
        raise UsageError(f"{weights} does not have the weights of {name}: {error}") from error
    return model


@dataclass(frozen=True, kw_only=True)
class _Compiled:
    """What MLC has compiled; ``extents`` are the numbers of its config, by name."""

    taken: Taken
    extents: Mapping[str, int]

    @property
    def module(self) -> tvm.IRModule:
        return self.taken.module

    @property
    def metadata(self) -> Metadata:
        return self.taken.metadata


_MAX_BYTES = 64 << 20


class _Enough(Exception):  # noqa: N818 - it is not an error
    """Ends a compilation after its module was taken."""


def _config_file(path: Path) -> Path:
    candidates = [path / name for name in _CONFIGS] if path.is_dir() else [path]
    for file in candidates:
        if file.is_file():
            return file
    raise UsageError(
        f"model mlc:{path}: no file {' or '.join(map(str, candidates))}. Give the config.json "
        "or mlc-chat-config.json of a model, or the folder it is in."
    )


def _compile(file: Path, quantization: str | None, target: Any) -> _Compiled:
    try:
        # Some programs write NaN and Infinity into such files.
        config = dict(json.loads(read_bytes(file, fix="Name another", max_bytes=_MAX_BYTES)))
    except (StoreError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{file} is not a config of a model: {error}") from error
    config = for_batches(config)
    found: list[_Compiled] = []
    extents: dict[str, int] = {}

    def build(module: tvm.IRModule, args: Any, pipeline: Callable[..., Any]) -> None:
        extents.update((k, v) for k, v in vars(args.config).items() if isinstance(v, int))
        with args.target:
            pipeline(module)

    def keep(taken: Taken) -> None:
        found.append(_Compiled(taken=taken, extents=extents))
        raise _Enough

    with tvm_for_mlc():
        compile_, arguments = _mlc(file, quantization or config.get("quantization"))
    try:
        # Stdout is for results; MLC prints its arguments there.
        with each_module(keep), contextlib.redirect_stdout(io.StringIO()):
            compile_(
                config=config,
                target=target,
                build_func=build,
                system_lib_prefix="",
                output=Path("unused"),
                **arguments,
            )
    except _Enough:
        return found[0]
    except TapmlError:
        raise
    except Exception as error:
        raise_machine_error(error, f"compiling {file} with mlc_llm")
        raise LoweringError(
            f"mlc_llm fails on {file} with TVM {tvm.__version__}: {error_text(error)}\n"
            f"Either the config is incomplete, or MLC does not support the model on "
            f"{target.kind.name}, or this mlc_llm is for another version of TVM: use {FITTING}"
        ) from error
    raise LoweringError(f"mlc_llm compiled {file} without calling its pipeline. {INSTALL}")


def _mlc(file: Path, quantization: str | None) -> tuple[Callable[..., None], dict[str, Any]]:
    """Return MLC's function ``compile`` and those of its arguments that are made by MLC."""
    try:
        from mlc_llm.interface.compile import compile as compile_
        from mlc_llm.interface.compiler_flags import ModelConfigOverride, OptimizationFlags
        from mlc_llm.quantization import QUANTIZATION
        from mlc_llm.support.auto_config import detect_model_type
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "mlc_llm":
            raise UsageError(
                "models of MLC-LLM need its Python package mlc_llm, which is not installed. "
                f"{INSTALL}."
            ) from error
        raise UsageError(
            f"mlc_llm is installed, but cannot be imported with TVM {tvm.__version__}: "
            f"{error_text(error)}\nEither it is incomplete, or it is for another version of TVM. "
            f"{INSTALL}."
        ) from error
    if quantization not in QUANTIZATION:
        raise UsageError(
            f"{file}: expected a quantization of MLC-LLM, got {quantization or 'none'}. Give one "
            f"with --quantization: {', '.join(QUANTIZATION)}"
        )
    try:
        model_type = detect_model_type("auto", file)
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from error
    kinds = model_type.quantize
    if QUANTIZATION[quantization].kind not in kinds:
        fitting = [name for name, known in QUANTIZATION.items() if known.kind in kinds]
        raise UsageError(
            f"{file}: MLC-LLM has no {model_type.name} in {quantization}. Give one of its "
            f"quantizations with --quantization: {', '.join(fitting)}"
        )
    return compile_, {
        "quantization": QUANTIZATION[quantization],
        "model_type": model_type,
        "opt": OptimizationFlags(),
        "overrides": ModelConfigOverride(),
    }


def _left_out(compiled: _Compiled, drive: PagedDrive, target: Any) -> list[str]:
    """Return the functions that the source cannot run and that not every drive needs.

    Raises
    ------
    UsageError
        The drive needs one.
    """
    called = {drive.embed, drive.prefill, drive.decode, drive.create}
    refused = list(uncompiled_functions(compiled.module, called))
    if "cpu" not in target.keys:
        return refused
    found = thread_bound_kernels(compiled.module)
    for name in sorted(called & found.keys()):
        raise UsageError(
            f"{name} of {compiled.metadata['model_type']} calls {names_text(found[name])}, which "
            "MLC binds to threads of a GPU whatever it compiles for. Give a GPU as the source, "
            "e.g. --source cuda or --source opencl"
        )
    return [*found, *(name for name in refused if name not in found)]


def _samples(
    folder: Path, inputs: Sequence[Path], texts: Sequence[str], compiled: _Compiled
) -> list[Sample]:
    if inputs and texts:
        raise UsageError("give --inputs or --text, not both")
    limit = int(compiled.metadata.get("context_window_size", -1))
    vocabulary = compiled.extents.get("vocab_size", 0)
    if vocabulary < 1:
        raise UsageError(
            f"the config of {compiled.metadata['model_type']} has no vocab_size: mlc:CONFIG runs "
            "only decoders. For others, use relax_tapml.mlc.carving(drive=...) in a build script "
            "of MLC"
        )
    if inputs:
        signature = Signature(entry="embed", inputs=(relax.Var("tokens"),), params=())
        given = [(s.name, s.arrays[0]) for s in load_samples(inputs, signature)]
    elif texts:
        given = _tokenized(folder, texts)
    else:
        rng = np.random.default_rng(SEED)
        counts = dict.fromkeys(min(count, limit) if limit > 0 else count for count in _DRAWN)
        given = [(f"{count} random tokens", rng.integers(0, vocabulary, count)) for count in counts]
    return [_sample(name, tokens, vocabulary, limit) for name, tokens in given]


def _sample(name: str, tokens: Array, vocabulary: int, limit: int) -> Sample:
    """Check token ids and split them into those that are prefilled and those that are decoded."""
    ids = tokens[0] if tokens.ndim == 2 and len(tokens) == 1 else tokens
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not ids.size:
        raise UsageError(
            f"{name}: expected token ids, integers of shape [n] or [1, n], got {tokens.dtype} of "
            f"shape {list(tokens.shape)}"
        )
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise UsageError(
            f"{name}: token ids are from 0 to {vocabulary - 1}, got {ids.min()} to {ids.max()}"
        )
    if 0 < limit < ids.size:
        raise UsageError(f"{name}: expected at most {limit} tokens, got {ids.size}. Shorten it")
    split = max(1, ids.size - _DECODED)
    return prompt_sample(name, ids[:split].tolist(), ids[split:].tolist())


def _tokenized(folder: Path, texts: Sequence[str]) -> list[tuple[str, Array]]:
    try:
        import transformers
    except ImportError as error:
        raise UsageError(
            "--text needs the package transformers for the model's tokenizer. Install it, or give "
            "token ids with --inputs."
        ) from error
    try:
        with silent(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            ids = [np.array(tokenizer(text)["input_ids"], "int64") for text in texts]
    except Exception as error:
        raise_machine_error(error, f"reading the tokenizer of {folder}")
        raise UsageError(
            f"--text needs a tokenizer that transformers can read in {folder}: "
            f"{error_line(error)}. Give token ids with --inputs instead."
        ) from error
    return list(zip(map(text_start, texts), ids, strict=True))


def _read_weights(file: Path) -> dict[str, Array]:
    try:
        tensors, _ = tvmjs.load_tensor_cache(str(file), tvm.cpu())
    except Exception as error:
        raise_machine_error(error, f"reading the weights {file}")
        raise StoreError(
            f"weights {file} cannot be read: {error_line(error)}. Convert them again with mlc_llm "
            "convert_weight"
        ) from error
    return {name: tensor.numpy() for name, tensor in tensors.items()}
