"""The kernel libraries that a session has loaded, by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


class LoadedKernels:
    """Load each kernel library once in a session, by content.

    Sending a file under a name that the server has already loaded overwrites the mapped library
    and kills the server, so the name given to ``load`` is derived from the content.

    Parameters
    ----------
    load
        Called with a file's path and a name unique to its content; returns the loaded module.
    """

    def __init__(self, load: Callable[[Path, str], Any]) -> None:
        self._load = load
        self._modules: dict[str, Any] = {}

    def __getitem__(self, path: Path) -> Any:
        with path.open("rb") as file:
            name = f"{hashlib.file_digest(file, 'sha256').hexdigest()[:32]}{path.suffix}"
        if name not in self._modules:
            self._modules[name] = self._load(path, name)
        return self._modules[name]

    def clear(self) -> None:
        """Drop every module, which unloads them."""
        self._modules.clear()
