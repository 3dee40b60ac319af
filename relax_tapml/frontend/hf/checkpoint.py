"""A checkpoint folder as a module of PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
_SAFE, _INDEX = ".safetensors", ".safetensors.index.json"
# What transformers loads, the first that is there, unless the config names a file.
_WEIGHTS = (f"model{_SAFE}", f"model{_INDEX}")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
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
    notes
        What was done to the weights and should be known, sentences.
    """

    folder: Path
    model: Any
    is_drawn: bool
    tokenizer: Any
    notes: tuple[str, ...] = ()

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
        A file cannot be read, weights are pickled and ``trust`` is false, or the index of the
        weights names a file outside of the folder.
    """
    torch, transformers = import_torch(), _import_transformers()
    raw = _read_config(folder)
    named = _named_architecture(raw)
    is_safe = _has_safe_weights(folder, raw)
    has_weights = is_safe or _has_pickled_weights(folder, trust=trust)
    notes: tuple[str, ...] = ()
    with silent(transformers), _offline():
        try:
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            cls = _class_of(transformers, named)
            if has_weights:
                model, notes = _loaded(cls, config, folder, is_safe=is_safe)
            else:
                model = _drawn(torch, cls, config)
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
        folder=folder,
        model=model.eval(),
        is_drawn=not has_weights,
        tokenizer=tokenizer,
        notes=notes,
    )


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Refuse every request to the hub within the block.

    ``local_files_only`` is about the folder alone: a config can name other repositories.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _import_transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UsageError(f"hf:FOLDER needs the transformers package: {INSTALL}") from error
    return transformers


def _read_config(folder: Path) -> dict[str, Any]:
    """Return ``config.json`` after checking it."""
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
    return config


def _named_architecture(config: dict[str, Any]) -> str | None:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else None


def _has_safe_weights(folder: Path, config: dict[str, Any]) -> bool:
    """Whether transformers finds weights that are not pickled, after checking their names."""
    fix = "Save them again with model.save_pretrained"
    chosen = config.get("transformers_weights")
    names = _WEIGHTS if chosen is None else (chosen,)
    for name in names:
        if not _is_plain(name) or not name.endswith((_SAFE, _INDEX)):
            raise StoreError(
                f"{folder / _CONFIG}: 'transformers_weights' is {name!r}, which is no safetensors "
                f"file of the folder. {fix}"
            )
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        return False
    if path.name.endswith(_INDEX):
        index = read_json(path, fix=fix)
        shards = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(shards, dict):
            raise StoreError(f"{path} is damaged: it has no 'weight_map'. {fix}")
        for name in shards.values():
            # A link is followed: the hub's own cache is one of links.
            if not _is_plain(name) or not name.endswith(_SAFE) or not (folder / name).is_file():
                raise StoreError(
                    f"{path} names {name!r}, which is no safetensors file of the folder. {fix}"
                )
    return True


def _is_plain(name: Any) -> bool:
    """Whether it is the name of a file without a folder."""
    return isinstance(name, str) and not set(name) & set("/\\\0") and name not in ("", ".", "..")


def _has_pickled_weights(folder: Path, *, trust: bool) -> bool:
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled and not trust:
        raise StoreError(
            f"hf:{folder}: its weights are pickled ({names_text(pickled)}). Loading "
            "them could run any code with your rights. Save them as safetensors with "
            f"model.save_pretrained, or, if you trust their author, pass {TRUST}"
        )
    others = sorted(path.name for path in folder.glob(f"*{_SAFE}"))
    if others and not pickled:
        raise UsageError(
            f"hf:{folder}: {names_text(others)} is not named as transformers loads weights: "
            f"{' or '.join(_WEIGHTS)}. Save them with model.save_pretrained"
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


def _loaded(cls: Any, config: Any, folder: Path, *, is_safe: bool) -> tuple[Any, tuple[str, ...]]:
    """Return a model with the weights of a folder, and notes on them."""
    model, found = cls.from_pretrained(
        folder,
        config=config,
        dtype="auto",
        attn_implementation="eager",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=is_safe,
        output_loading_info=True,
    )
    lacking = sorted({*found["missing_keys"], *(str(key) for key in found["mismatched_keys"])})
    if lacking:
        raise UsageError(
            f"hf:{folder}: the checkpoint has no weight that fits for {len(lacking)} parameters of "
            f"{type(model).__name__}: {names_text(lacking)}. Name the class that "
            f"it was saved from in 'architectures' of {_CONFIG}"
        )
    unused = sorted(map(str, found["unexpected_keys"]))
    if not unused:
        return model, ()
    return model, (
        f"{len(unused)} weights of the checkpoint are not used by {type(model).__name__}: "
        f"{names_text(unused)}",
    )


def _drawn(torch: Any, cls: Any, config: Any) -> Any:
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
