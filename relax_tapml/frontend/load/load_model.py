"""A model by its name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from relax_tapml.errors import UsageError
from relax_tapml.frontend.inputs import check_files, load_samples
from relax_tapml.frontend.load.frontend import Frontend, Request
from relax_tapml.frontend.load.registry import FRONTENDS
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.signature import check_model, signature_of


def load_model(
    spec: str,
    *,
    inputs: Sequence[Path] = (),
    texts: Sequence[str] = (),
    quantization: str | None = None,
    dims: Mapping[str, Sequence[int]] | None = None,
    source: str = "llvm",
    trust: bool = False,
) -> Model:
    """Return the model ``spec`` names, with its parameters and samples checked.

    Parameters
    ----------
    spec
        A name of one of ``FRONTENDS``: a built-in example, ``package.module:callable``, a folder
        written by ``save_model``, a Relax module ``.json``, a torch ``.pt2``, an ``.onnx``, a
        ``.tflite``, ``hf:FOLDER``, or ``mlc:CONFIG``.
    inputs
        ``.npz`` and ``.safetensors`` files, or folders of them, one sample per file. They replace
        the samples that come with the model.
    texts
        Sentences for a text model, one sample each; they replace its own. A model of another kind
        needs ``Model.from_texts``.
    quantization
        For ``mlc:CONFIG`` only; by default that of the config.
    dims
        For ``model.onnx`` and ``model.tflite`` only: sizes of dimensions by name; see
        ``from_onnx`` and ``from_tflite``.
    source
        The TVM target that MLC-LLM compiles ``mlc:CONFIG`` for.
    trust
        Whether the author of a file may run any code here: a ``.pt2`` may then hold pickled Python
        objects, and a module may call functions that are not on the list of harmless ones. A Python
        name, ``package.module:callable``, is the user's own code and always runs.

    Raises
    ------
    UsageError
        Nothing of that name, or inputs that do not fit the entry function.
    StoreError
        A saved model cannot be trusted.
    LoweringError
        MLC-LLM fails with this TVM.
    """
    frontend = next((one for one in FRONTENDS if one.matches(spec)), None)
    if quantization is not None and (frontend is None or not frontend.takes_quantization):
        named = _named([one for one in FRONTENDS if one.takes_quantization])
        raise UsageError(
            f"--quantization {quantization} is for {named}, not for model {spec}. {_accepted()}"
        )
    if dims and (frontend is None or not frontend.takes_dims):
        named = _named([one for one in FRONTENDS if one.takes_dims])
        raise UsageError(
            f"--dim {next(iter(dims))} is for {named}, not for model {spec}. {_accepted()}"
        )
    if frontend is None:
        close = difflib.get_close_matches(spec.lower(), [one.usage for one in FRONTENDS], n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f"no model '{spec}'.{hint} {_accepted()}")
    if texts and not (frontend.takes_texts or frontend.may_take_texts):
        raise UsageError(_takes_no_texts(spec))
    if not frontend.takes_texts:  # Those read the files themselves.
        check_files(inputs)
    model = frontend.load(
        Request(
            spec=spec,
            inputs=inputs,
            texts=texts,
            quantization=quantization,
            dims=dims or {},
            source=source,
            trust=trust,
        )
    )
    if texts and not frontend.takes_texts:
        model = _with_texts(model, spec, texts)
    if inputs and not (frontend.takes_texts or frontend.takes_dims):
        model = _with_inputs(model, spec, inputs)
    check_model(model)
    return model


def _with_texts(model: Model, spec: str, texts: Sequence[str]) -> Model:
    if model.from_texts is None:
        raise UsageError(_takes_no_texts(spec))
    return dataclasses.replace(model, samples=tuple(model.from_texts(texts)))


def _takes_no_texts(spec: str) -> str:
    named = _named([one for one in FRONTENDS if one.takes_texts])
    return (
        f"model {spec} takes arrays, not texts. Give --inputs; --text is for {named}, and for a "
        "Model with from_texts."
    )


def _with_inputs(model: Model, spec: str, inputs: Sequence[Path]) -> Model:
    if model.drive is not None:
        raise UsageError(
            f"model {spec} runs its samples with its own code (Model.drive), which also makes "
            "them. Leave out --inputs."
        )
    signature = signature_of(model.module, model.entry, len(model.params))
    return dataclasses.replace(model, samples=load_samples(inputs, signature))


def _accepted() -> str:
    return "MODEL is one of:\n" + "\n".join(f"  {frontend.summary}" for frontend in FRONTENDS)


def _named(frontends: Sequence[Frontend]) -> str:
    *first, last = (frontend.usage for frontend in frontends)
    return f"{', '.join(first)} and {last}" if first else last
