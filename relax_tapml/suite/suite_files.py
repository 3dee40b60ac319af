"""The files of a suite that is being written."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tvm

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.bound_table import BoundTable
from relax_tapml.compare.tolerances.stored import TensorWriter
from relax_tapml.suite._encoded_file import dump as dump_encoded
from relax_tapml.suite._slow_cases import slow_cases
from relax_tapml.suite.copies import Copies
from relax_tapml.suite.manifest import SuiteAxis, SuiteTensor, SuiteUnit
from relax_tapml.suite.open_suite import Suite, digest_of, digest_of_array, sha256_of_array
from relax_tapml.suite.pytest_file import (
    CONFIG,
    CONFIG_NAME,
    SKIPPED_NAME,
    render_skipped,
    render_unit,
)
from relax_tapml.suite.recipe import MOST_ELEMENTS, Recipe
from relax_tapml.tensor_file import dump_part, dump_tensor

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

    def write(self, name: str, data: bytes, sha256: str | None = None) -> None:
        """Write a file, whole or not at all, so that several processes may write the same one.

        Its SHA-256 may be known.
        """
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(data)
        partial.replace(path)
        self.sha256[name] = sha256 or hashlib.sha256(data).hexdigest()

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
        self,
        array: Array,
        part: HeldPart | None = None,
        recipe: Recipe | None = None,
        copies: Sequence[Copies] = (),
    ) -> str:
        """Write a tensor, or a part of it, unless it is there already; return its digest.

        Files hold tensors with one axis, so those of equal bytes have the same file.

        Parameters
        ----------
        array
            The tensor; where it has ``copies`` the places that are held.
        part
            Of which of its places the file holds.
        recipe
            How a large one is made, which is then no file. Without ``part`` and ``copies``.
        copies
            The axes along which other places are copies of those that the file holds, ascending.
            Without ``part``.
        """
        shape = _whole_shape(array, copies)
        entry = SuiteTensor(file="", dtype=array.dtype.name, shape=shape, copied=_copied(copies))
        if copies:
            return self._add(entry, dump_encoded(array, copies))
        if part is not None:
            whole = sha256_of_array(array) if part.is_filled else None
            entry = replace(entry, rows=len(part.places), axis=part.axis, whole=whole)
            return self._add(entry, dump_part(array, part.places, part.axis))
        is_made = array.nbytes >= _LEAST_MADE and array.size <= MOST_ELEMENTS
        if recipe is not None and is_made:
            digest = digest_of_array(array)
            self.tensors.setdefault(digest, replace(entry, file=None, recipe=recipe))
            return digest
        return self._add(entry, dump_tensor(array.reshape(-1)))

    def write_bound(self, bound: Array, copies: Sequence[Copies] = ()) -> str:
        """Write the bounds of a tolerance as a table of values where that takes fewer bytes.

        Each is then at most ``bound_table.STEP`` of itself larger. Parameters and result are those
        of ``write_array``.
        """
        table = BoundTable.of(bound)
        data = b"" if table is None else dump_encoded(table, copies)
        if table is None or len(data) >= bound.nbytes:
            return self.write_array(bound, copies=copies)
        entry = SuiteTensor(
            file="",
            dtype=bound.dtype.name,
            shape=_whole_shape(bound, copies),
            copied=_copied(copies),
            table=len(table.values),
        )
        return self._add(entry, data)

    def tolerance_writer(self, copies: Sequence[Copies] = ()) -> TensorWriter:
        """Return what writes the tensors of a tolerance of an output with such copies."""
        # An output with copies has no other oracles, see ``can_restrict``.
        return TensorWriter(
            oracle=self.write_array,
            bound=lambda bound: self.write_bound(bound, copies),
        )

    def _add(self, entry: SuiteTensor, data: bytes) -> str:
        """Write the file of a tensor, unless it is there; list the tensor; return its digest."""
        sha256 = hashlib.sha256(data).hexdigest()
        file = f"{_DATA}/{sha256[:32]}.safetensors"
        if file not in self.sha256:
            if (self.folder / file).exists():  # Another process has written it.
                self.sha256[file] = sha256
            else:
                self.write(file, data, sha256)
        digest = digest_of(entry, sha256)
        self.tensors.setdefault(digest, replace(entry, file=file))
        return digest


def _whole_shape(held: Array, copies: Sequence[Copies]) -> tuple[int, ...]:
    shape = list(held.shape)
    for item in copies:
        shape[item.axis] = item.count
    return tuple(shape)


def _copied(copies: Sequence[Copies]) -> tuple[SuiteAxis, ...]:
    return tuple(SuiteAxis(axis=item.axis, held=len(item.places)) for item in copies)


def link_file(old: Path, new: Path) -> None:
    """Put a file into another folder, as a link where the file system has them."""
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new)
    except OSError:  # A file system without links, or another one.
        shutil.copyfile(old, new)


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
