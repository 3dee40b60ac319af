"""Programs and arrays of strangers: PyTorch would run what is hidden in a ``.pt2``."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm import relax

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.frontend.inputs import load_samples
from relax_tapml.frontend.signature import Signature
from relax_tapml.frontend.torch_export import load_pt2

torch = pytest.importorskip("torch")

Change = Callable[[str, bytes], bytes]


class Relu(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.linear(x))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("program") / "relu.pt2"
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {"x": {0: batch}}
    torch.export.save(torch.export.export(Relu(), (torch.ones(4, 8),), dynamic_shapes=shapes), file)
    return file


def changed(saved: Path, file: Path, change: Change) -> Path:
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return file


class Evil:
    """What runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def pickled(mark: Path) -> Change:
    buffer = io.BytesIO()
    torch.save(({"a": Evil(mark)}, {}), buffer)
    return lambda name, data: buffer.getvalue() if "sample_inputs" in name else data


def in_program(old: str, new: str) -> Callable[[Path], Change]:
    def make(mark: Path) -> Change:
        code = new.replace("CODE", f"__import__('pathlib').Path('{mark}').touch()")

        def change(name: str, data: bytes) -> bytes:
            is_program = name.endswith("models/model.json")
            assert not is_program or old.encode() in data
            return data.replace(old.encode(), code.encode()) if is_program else data

        return change

    return make


HIDDEN = {
    "a pickled object": pickled,
    "an expression of a dimension": in_program("positive=True", "positive=CODE"),
    "a condition of an input": in_program('"guards_code": []', '"guards_code": ["CODE or True"]'),
    "an operator that is any function": in_program(
        "torch.ops.aten.relu.default", "torch.os.remove"
    ),
    "an operator that writes a file": in_program("aten.relu.default", "aten.from_file.default"),
    "a name that is code": in_program('"name": "relu"', '"name": "relu=0;CODE#"'),
}


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN.keys())
def test_code_in_a_program_is_not_run(
    saved: Path, tmp_path: Path, hide: Callable[[Path], Change]
) -> None:
    mark = tmp_path / "ran"
    file = changed(saved, tmp_path / "evil.pt2", hide(mark))
    with pytest.raises(StoreError, match=r"evil\.pt2.*more than tensors and operators.*--trust"):
        load_pt2(file)
    assert not mark.exists()


def test_a_program_of_torch_is_loaded(saved: Path) -> None:
    assert load_pt2(saved).samples


def test_a_library_in_a_program_needs_trust(saved: Path, tmp_path: Path) -> None:
    file = changed(saved, tmp_path / "library.pt2", lambda _, data: data)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("relu/data/aotinductor/model/model.so", b"\x7fELF")
    with pytest.raises(StoreError, match=r"model\.so.*--trust"):
        load_pt2(file)


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """A small file that unpacks to a gigabyte."""
    file = tmp_path / "bomb.pt2"
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as entry,
    ):
        for _ in range(300):
            entry.write(bytes(1 << 20))
    return file


def test_a_file_that_unpacks_to_far_more_is_refused(bomb: Path) -> None:
    with pytest.raises(StoreError, match=r"bomb\.pt2.*unpacks to"):
        load_pt2(bomb)
    with pytest.raises(UsageError, match="unpacks to"):
        load_samples([bomb.rename(bomb.with_suffix(".npz"))], SIGNATURE)


X = relax.Var("x", relax.TensorType((2,), "float32"))
SIGNATURE = Signature(entry="main", inputs=(X,), params=())


def npz(file: Path, header: dict[str, Any], content: bytes) -> Path:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", buffer.getvalue() + content)
    return file


def test_an_array_with_a_header_of_a_larger_one_is_refused(tmp_path: Path) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    with pytest.raises(UsageError, match=r"x\.npy"):
        load_samples([npz(tmp_path / "large.npz", header, bytes(8))], SIGNATURE)


def test_objects_in_arrays_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "objects.npz"
    np.savez(file, x=np.array([Evil(tmp_path / "ran")], dtype=object))
    with pytest.raises(UsageError):
        load_samples([file], SIGNATURE)
    assert not (tmp_path / "ran").exists()
