"""The kernels of units that failed, as files beside ``result.json``: ``failing/UNIT.py``.

There is the TVMScript of each unit, and beside it the source that the target's code generator made,
with the suffix of its language.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from relax_tapml.errors import StoreError
from relax_tapml.files.names import file_stem
from relax_tapml.files.read import open_file
from relax_tapml.files.replace import write_file

FAILING = "failing"
"""The folder in an output folder."""

_SCRIPT = ".py"
_SOURCES = (".ll", ".c", ".cu", ".cl", ".metal", ".wgsl", ".txt")
_MAX_STEM = 60
_MAX_BYTES = 1 << 30
_FIX = "Run the build again"


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """The beginning of a text file.

    Parameters
    ----------
    name
        Of the file, relative to the output folder.
    text
        Its first part.
    size_bytes
        Of all of it.
    is_whole
        Whether that part is all of it.
    """

    name: str
    text: str
    size_bytes: int
    is_whole: bool


@dataclass(frozen=True, kw_only=True)
class FailingKernel:
    """The files of one unit; None where there is none, or it cannot be read."""

    script: TextFile | None
    source: TextFile | None


def write_failing_kernel(out: Path, unit: str, script: str, suffix: str, source: str) -> None:
    """Write the files of a unit; no generated source where it is empty.

    Raises
    ------
    ValueError
        There is no such suffix.
    """
    folder = out / FAILING
    folder.mkdir(exist_ok=True)
    stem = file_stem(unit, max_length=_MAX_STEM)
    write_file(folder / f"{stem}{_SCRIPT}", script)
    if source:
        if suffix not in _SOURCES:
            raise ValueError(f"{suffix!r} is none of {', '.join(_SOURCES)}")
        write_file(folder / f"{stem}{suffix}", source)


def read_failing_kernel(out: Path, unit: str, *, most_bytes: int) -> FailingKernel:
    """Read the first ``most_bytes`` of each of a unit's files."""
    stem = f"{FAILING}/{file_stem(unit, max_length=_MAX_STEM)}"
    sources = (_beginning(out, f"{stem}{suffix}", most_bytes) for suffix in _SOURCES)
    return FailingKernel(
        script=_beginning(out, f"{stem}{_SCRIPT}", most_bytes),
        source=next(filter(None, sources), None),
    )


def _beginning(out: Path, name: str, most_bytes: int) -> TextFile | None:
    path = out / name
    if not path.is_file():
        return None
    with suppress(StoreError, OSError), open_file(path, fix=_FIX, max_bytes=_MAX_BYTES) as file:
        data = file.read(most_bytes + 1)
        text = data[:most_bytes].decode(errors="replace")
        size_bytes = path.stat().st_size
        return TextFile(
            name=name, text=text, size_bytes=size_bytes, is_whole=len(data) <= most_bytes
        )
    return None
