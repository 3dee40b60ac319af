"""A checkpoint folder as a module of PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.files.read import read_json
from relax_tapml.foreign.module import TRUST
from relax_tapml.frontend._texts import silent
from relax_tapml.frontend.torch_export import import_torch
from relax_tapml.printable import error_line, names_text

INSTALL = "pip install 'relax-tapml[hf]'"
_CONFIG = "config.json"
_WEIGHTS, _PICKLED = ("*.safetensors",), ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.*")
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder that was read.

    Parameters
    ----------
    folder
        Where it is.
    model
        A ``PreTrainedModel`` of transformers, in inference mode, with eager attention: the other
        kinds are kernels that cannot be exported.
    is_drawn
        Whether the folder has no weights, so that they were drawn.
    tokenizer
        Of the folder; None if it has none.
    """

    folder: Path
    model: Any
    is_drawn: bool
    tokenizer: Any

    @property
    def kind(self) -> str:
        """The name of the model's class: ``LlamaForCausalLM``."""
        return type(self.model).__name__


def read_checkpoint(folder: Path, *, trust: bool = False) -> Checkpoint:
    """Read a folder; no code of it is run, and nothing is fetched.

    The task is that of ``architectures`` in ``config.json``, or the model without a head. Weights
    have the dtype of the checkpoint. Without any they are drawn, the same every time, and of a size
    that keeps activations around 1.

    Parameters
    ----------
    folder
        With ``config.json``.
    trust
        Whether pickled weights may be loaded.

    Raises
    ------
    UsageError
        transformers is not installed, it is no such folder, transformers does not know the
        architecture, or weights are missing.
    StoreError
        A file cannot be read, or weights are pickled and ``trust`` is false.
    """
    torch, transformers = import_torch(), _import_transformers()
    named = _named_architecture(folder)
    has_weights = _has_weights(folder, trust=trust)
    with silent(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            cls = _class_of(transformers, named)
            load = _loaded if has_weights else _drawn
            model = load(torch, cls, config, folder)
            tokenizer = _tokenizer(transformers, folder)
        except (UsageError, StoreError):
            raise
        except Exception as error:  # Whatever transformers raises about a folder.
            raise_machine_error(error, f"loading {folder}")
            raise UsageError(
                f"hf:{folder}: transformers {transformers.__version__} cannot load it: "
                f"{error_line(error)}"
            ) from error
    for part in model.modules():
        if hasattr(part, "config"):
            # The others loop over experts in Python, or call kernels of their own.
            part.config._experts_implementation = "batched_mm"
    return Checkpoint(
        folder=folder, model=model.eval(), is_drawn=not has_weights, tokenizer=tokenizer
    )


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UsageError(f"hf:FOLDER needs the transformers package: {INSTALL}") from error
    return transformers


def _named_architecture(folder: Path) -> str | None:
    """Return the class that ``config.json`` names, if it names one, after checking the file."""
    path = folder / _CONFIG
    if not path.is_file():
        what = "the folder has no" if folder.is_dir() else "there is no such folder with a"
        raise UsageError(
            f"hf:{folder}: {what} {_CONFIG}. Give the folder of a checkpoint: {_CONFIG}, "
            "safetensors, and a tokenizer"
        )
    config = read_json(path, fix="Write it again")
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UsageError(f"{path}: 'model_type' is missing, which names the architecture")
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else None


def _has_weights(folder: Path, *, trust: bool) -> bool:
    if any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        return True
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled and not trust:
        raise StoreError(
            f"hf:{folder}: its weights are pickled ({names_text(pickled)}). Loading "
            "them could run any code with your rights. Save them as safetensors with "
            f"model.save_pretrained, or, if you trust their author, pass {TRUST}"
        )
    return bool(pickled)


def _class_of(transformers: Any, named: str | None) -> Any:
    if named is None:
        return transformers.AutoModel
    cls = getattr(transformers, named, None)
    if cls is None:
        raise UsageError(
            f"{_CONFIG} names {named}, which transformers {transformers.__version__} does not "
            "have. Code that lies in the folder is never run: load such a model in a function of "
            "your own and give package.module:function"
        )
    return cls


def _loaded(torch: Any, cls: Any, config: Any, folder: Path) -> Any:
    del torch
    model, found = cls.from_pretrained(
        folder,
        config=config,
        dtype="auto",
        attn_implementation="eager",
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    lacking = sorted({*found["missing_keys"], *(str(key) for key in found["mismatched_keys"])})
    if lacking:
        raise UsageError(
            f"hf:{folder}: the checkpoint has no weight that fits for {len(lacking)} parameters of "
            f"{type(model).__name__}: {names_text(lacking)}. Name the class that "
            f"it was saved from in 'architectures' of {_CONFIG}"
        )
    return model


def _drawn(torch: Any, cls: Any, config: Any, folder: Path) -> Any:
    del folder
    config._attn_implementation = "eager"
    torch.manual_seed(_SEED)
    make = cls._from_config if hasattr(cls, "_from_config") else cls.from_config
    model = make(config, dtype=config.dtype or torch.float32)
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.add_((noise * 0.05).to(parameter.dtype))
    return model


def _tokenizer(transformers: Any, folder: Path) -> Any:
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZER):
        return None
    return transformers.AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
