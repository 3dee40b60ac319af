"""The files of a suite that is being written."""

from __future__ import annotations

import hashlib
from pathlib import Path

from relax_tapml.arrays import Array
from relax_tapml.suite import rows_file as tensor_file
from relax_tapml.suite.manifest import SuiteTensor
from relax_tapml.suite.open_suite import Suite
from relax_tapml.suite.recipe import MOST_ELEMENTS, Recipe

# Smaller tensors are files: these can be looked at with any tool.
_LEAST_MADE = 1 << 14


class SuiteFiles:
    """The files of a suite, and what its manifest says of them.

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
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        self.sha256[name] = hashlib.sha256(data).hexdigest()

    def remove_unlisted(self) -> None:
        """Remove what was written by somebody who died before saying so."""
        for path in self.folder.rglob("*"):
            if path.is_file() and path.relative_to(self.folder).as_posix() not in self.sha256:
                path.unlink()

    def write_array(
        self, array: Array, rows: Array | None = None, recipe: Recipe | None = None
    ) -> str:
        """Write a tensor unless its content is there already; return the digest of its file.

        A large one that a recipe makes has that instead of a file, and the digest of what the file
        would be.
        """
        data = tensor_file.dump(array) if rows is None else tensor_file.dump_rows(array, rows)
        digest = hashlib.sha256(data).hexdigest()
        is_made = array.nbytes >= _LEAST_MADE and array.size <= MOST_ELEMENTS
        if digest not in self.tensors and recipe is not None and is_made:
            self.tensors[digest] = SuiteTensor(
                file=None, dtype=array.dtype.name, shape=array.shape, recipe=recipe
            )
        if digest not in self.tensors:
            file = f"data/{digest[:32]}.safetensors"
            self.write(file, data)
            self.tensors[digest] = SuiteTensor(
                file=file,
                dtype=array.dtype.name,
                shape=array.shape,
                rows=None if rows is None else len(rows),
            )
        return digest
