"""The files of a suite that is being written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tvm

from relax_tapml.arrays import Array
from relax_tapml.suite._slow_cases import slow_cases
from relax_tapml.suite.manifest import SuiteTensor, SuiteUnit
from relax_tapml.suite.open_suite import Suite, sha256_of_array
from relax_tapml.suite.pytest_file import (
    CONFIG,
    CONFIG_NAME,
    SKIPPED_NAME,
    render_skipped,
    render_unit,
)
from relax_tapml.suite.recipe import MOST_ELEMENTS, Recipe
from relax_tapml.tensor_file import dump_part, dump_tensor, sha256_of_tensor

# Smaller tensors are files: these can be looked at with any tool.
_LEAST_MADE = 1 << 14

_DATA = "data"


@dataclass(frozen=True, kw_only=True)
class HeldPart:
    """What a suite holds of a large tensor: some places of an axis.

    Parameters
    ----------
    places
        Along the axis, ascending: int64.
    axis
        Of the tensor.
    is_filled
        Whether the tensor is what ``tensor_file.filled`` makes of them, and cases depend on that.
        Otherwise other places matter to no case.
    """

    places: Array
    axis: int = 0
    is_filled: bool = False


class SuiteFiles:
    """Writes the files of a suite and lists them for its manifest.

    Parameters
    ----------
    folder
        Of the suite.
    tensors, sha256
        As in its ``Manifest``; what is written is added.
    """

    def __init__(
        self, folder: Path, tensors: dict[str, SuiteTensor], sha256: dict[str, str]
    ) -> None:
        self.folder = folder
        self.tensors = tensors
        self.sha256 = sha256

    @classmethod
    def of(cls, suite: Suite) -> SuiteFiles:
        """Return the files of a suite that is changed where it is."""
        manifest = suite.manifest
        return cls(suite.folder, dict(manifest.tensors), dict(manifest.sha256))

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all, so that several processes may write the same one."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(data)
        partial.replace(path)
        self.sha256[name] = hashlib.sha256(data).hexdigest()

    def write_unit(self, name: str, entry: SuiteUnit, module: tvm.IRModule) -> None:
        """Write the module and the pytest file of a unit, whose tensors are written."""
        self.write(entry.module, tvm.ir.save_json(module).encode())
        self.write(entry.test, unit_test(name, entry, module, self.tensors).encode())

    def write_other_tests(self, skipped: Mapping[str, str]) -> None:
        """Write what pytest needs beside the units: its options, and what was not carved."""
        self.write(CONFIG_NAME, CONFIG.encode())
        if skipped:
            self.write(SKIPPED_NAME, render_skipped(skipped).encode())

    def remove_unlisted(self) -> None:
        """Remove what a process wrote that ended before it listed the files."""
        for path in self.folder.rglob("*"):
            if path.is_file() and path.relative_to(self.folder).as_posix() not in self.sha256:
                path.unlink()

    def write_array(
        self, array: Array, part: HeldPart | None = None, recipe: Recipe | None = None
    ) -> str:
        """Write a tensor, or a part of it, unless it is there already; return the file's digest.

        A large one that a recipe makes has that instead of a file, and the digest of what the file
        would be.
        """
        is_made = array.nbytes >= _LEAST_MADE and array.size <= MOST_ELEMENTS
        if recipe is not None and is_made and part is None:
            digest = sha256_of_tensor(array)
            if digest not in self.tensors:
                self.tensors[digest] = SuiteTensor(
                    file=None, dtype=array.dtype.name, shape=array.shape, recipe=recipe
                )
            return digest
        data = dump_tensor(array) if part is None else dump_part(array, part.places, part.axis)
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self.tensors:
            file = f"{_DATA}/{digest[:32]}.safetensors"
            if (self.folder / file).exists():  # Another process has written it.
                self.sha256[file] = digest
            else:
                self.write(file, data)
            self.tensors[digest] = SuiteTensor(
                file=file,
                dtype=array.dtype.name,
                shape=array.shape,
                rows=None if part is None else len(part.places),
                axis=0 if part is None else part.axis,
                whole=sha256_of_array(array) if part is not None and part.is_filled else None,
            )
        return digest


def is_data(name: str) -> bool:
    """Whether a file of a suite holds a tensor."""
    return name.startswith(f"{_DATA}/")


def unit_test(
    name: str, entry: SuiteUnit, module: tvm.IRModule, tensors: Mapping[str, SuiteTensor]
) -> str:
    """Return the text of a unit's pytest file."""
    slow = slow_cases(module, entry.cases, tensors)
    stem = entry.test.removeprefix("test_").removesuffix(".py")
    return render_unit(stem, name, entry.cases, script=module.script(), slow=slow)
