"""One name for every source of models."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path

from relax_tapml.errors import UsageError
from relax_tapml.frontend._callable import load_callable
from relax_tapml.frontend._minilm import minilm
from relax_tapml.frontend._mlc import load_mlc
from relax_tapml.frontend.inputs import load_samples
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.saved import load_ir, load_saved
from relax_tapml.frontend.signature import check_model, signature_of
from relax_tapml.frontend.torch_export import load_pt2

# Built-in examples; each takes texts.
EXAMPLES = {"minilm": minilm}
_MLC = "mlc:"

_ACCEPTED = f"""\
  a built-in example: {", ".join(EXAMPLES)}
  package.module:callable, which returns (IRModule, params) or a Model
  a folder written by relax_tapml.save_model
  a Relax module saved by tvm.ir.save_json: model.json, parameters in model.safetensors
  a torch.export program: model.pt2
  mlc:CONFIG, a config.json or mlc-chat-config.json for MLC-LLM, or the folder of one"""


def load_model(
    spec: str,
    *,
    inputs: Sequence[Path] = (),
    texts: Sequence[str] = (),
    quantization: str | None = None,
    source: str = "llvm",
    trust: bool = False,
) -> Model:
    """Return the model ``spec`` names, with its parameters and samples checked.

    Parameters
    ----------
    spec
        A built-in example, ``package.module:callable``, a folder written by ``save_model``, a
        Relax module ``.json``, a torch ``.pt2``, or ``mlc:CONFIG``.
    inputs
        ``.npz`` and ``.safetensors`` files, or folders of them, one sample per file. They replace
        the samples that come with the model.
    texts
        Sentences for a text model, one sample each; they replace its own.
    quantization
        Of ``mlc:CONFIG`` only; by default what the config says.
    source
        The TVM target that MLC-LLM compiles ``mlc:CONFIG`` for.
    trust
        Whether a file comes from somebody who may run any code here: a ``.pt2`` may then hold
        pickled Python objects, and a module may call functions that are not known to be harmless.
        A name that is Python, ``package.module:callable``, is the user's own code anyway.

    Raises
    ------
    UsageError
        Nothing of that name, or inputs that do not fit the entry function.
    StoreError
        A saved model cannot be trusted.
    LoweringError
        MLC-LLM fails with this TVM.
    """
    if quantization is not None and not spec.startswith(_MLC):
        raise UsageError(
            f"--quantization {quantization} is for mlc:CONFIG, not for model {spec}. MODEL is one "
            f"of:\n{_ACCEPTED}"
        )
    if spec.startswith(_MLC):
        model = load_mlc(
            spec.removeprefix(_MLC),
            inputs=inputs,
            texts=texts,
            quantization=quantization,
            source=source,
        )
    elif spec in EXAMPLES:
        if inputs:
            raise UsageError(f"{spec} makes its inputs from texts. Give --text, not --inputs.")
        model = EXAMPLES[spec](texts)
    elif texts:
        raise UsageError(
            f"model {spec} takes arrays, not texts. Give --inputs; --text is for mlc:CONFIG and "
            f"the built-in examples: {', '.join(EXAMPLES)}."
        )
    else:
        model = _load(spec, trust=trust)
        if inputs and model.drive is not None:
            raise UsageError(
                f"model {spec} runs its samples by itself (Model.drive), so only it can make them. "
                "Leave out --inputs."
            )
        if inputs:
            signature = signature_of(model.module, model.entry, len(model.params))
            model = dataclasses.replace(model, samples=load_samples(inputs, signature))
    check_model(model)
    return model


def _load(spec: str, *, trust: bool) -> Model:
    path = Path(spec)
    if spec and path.is_dir():
        return load_saved(path, trust=trust)
    if path.suffix in (".json", ".pt2"):
        if not path.is_file():
            raise UsageError(f"model {spec}: no such file.{_close_files(path)}")
        load = load_ir if path.suffix == ".json" else load_pt2
        return load(path, trust=trust)
    if ":" in spec:
        return load_callable(spec)
    close = difflib.get_close_matches(spec.lower(), EXAMPLES, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise UsageError(f"no model '{spec}'.{hint} MODEL is one of:\n{_ACCEPTED}")


def _close_files(path: Path) -> str:
    names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""
