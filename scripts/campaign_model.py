"""A model so small that a whole run of it takes a second, and everything that a run of it leaves.

Its units are of three kinds: a matrix product with a weight, a softmax, and a cumulative sum, which
each target lowers by itself.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

import relax_tapml
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.frontend.saved import save_model
from relax_tapml.tensor_file import dump_tensors

UNITS = ("matmul", "softmax", "cumsum")
_ROWS, _COLUMNS = 4, 8


def _module() -> tvm.IRModule:
    x = relax.Var("x", relax.TensorType((_ROWS, _COLUMNS), "float32"))
    w = relax.Var("w", relax.TensorType((_COLUMNS, _COLUMNS), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(x, w))
            probabilities = builder.emit(relax.op.nn.softmax(product, axis=-1))
            sums = builder.emit_output(relax.op.cumsum(probabilities, axis=1))
        builder.emit_func_output(sums)
    return builder.get()


def tiny_model() -> Model:
    """Return the model, with two samples that are the same every time."""
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((_COLUMNS, _COLUMNS)).astype("float32")
    samples = [draw.standard_normal((_ROWS, _COLUMNS)).astype("float32") for _ in range(2)]
    return Model(
        name="tiny",
        module=_module(),
        params={"w": weight},
        samples=tuple(Sample(name=f"s{i}", arrays=(one,)) for i, one in enumerate(samples)),
    )


def an_input() -> np.ndarray:
    """Return what the model takes."""
    return np.ones((_ROWS, _COLUMNS), "float32")


def make_originals(folder: Path, *, has_torch: bool = False) -> None:
    """Make artefacts of every kind, all of them right, in a folder.

    What runs kernels does so in a fork: this process is to be forked.

    - ``saved``: a folder of ``save_model``.
    - ``ir``: the same as ``model.json`` and ``model.safetensors``.
    - ``inputs``: ``one.npz`` and ``one.safetensors``.
    - ``run``: the output folder of a whole run of ``saved``, with an inline session.
    - ``model.pt2``: a program of ``torch.export.save``, where torch is installed.
    """
    model = tiny_model()
    save_model(model, folder / "saved")
    for name in ("ir", "inputs"):
        (folder / name).mkdir()
    (folder / "ir" / "model.json").write_text(tvm.ir.save_json(model.module))
    (folder / "ir" / "model.safetensors").write_bytes(dump_tensors(model.params))
    (folder / "inputs" / "one.safetensors").write_bytes(dump_tensors({"x": an_input()}))
    np.savez(folder / "inputs" / "one.npz", x=an_input())
    in_fork(lambda: _build(folder / "saved", folder / "run"))
    if has_torch:
        in_fork(lambda: _export(folder / "model.pt2"))


def import_everything(*, has_torch: bool = False) -> None:
    """Import all of the package, so that no fork has to."""
    for module in pkgutil.walk_packages(relax_tapml.__path__, "relax_tapml."):
        if not module.name.startswith(("relax_tapml.testing", "relax_tapml.passes")):
            importlib.import_module(module.name)
    if has_torch:
        import torch.export  # noqa: F401


def in_fork(work: Callable[[], None]) -> None:
    """Do work in a fork. Raises ``RuntimeError`` if it does not end well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise RuntimeError(f"making the artefacts failed: status {status}")


def _build(saved: Path, run: Path) -> None:
    from relax_tapml.bringup.main_job import bring_up
    from relax_tapml.replays.replay import replay

    result = bring_up(str(saved), session="inline", out=run)
    assert result.exit_code == 0, result.document
    # Replaying alone builds kernels of its own, which are kept too.
    assert replay(run, target="llvm", session="inline").exit_code == 0


def _export(file: Path) -> None:
    import torch

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.inner(x))

    torch.export.save(torch.export.export(Linear().eval(), (torch.ones(4, 8),)), file)
