"""A folder that is written as a whole or not at all."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from relax_tapml.errors import UsageError


def check_replaceable(folder: Path, *, replace: bool) -> None:
    """Raise ``UsageError`` if a folder has something in it and may not be replaced."""
    if not replace and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} exists and is not an empty folder. Choose another name or pass --force."
        )


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder that takes the place of ``folder`` when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        scratch = Path(temporary) / "new"
        scratch.mkdir()
        yield scratch
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        scratch.rename(folder)
