"""The folder for what is built or installed once for all runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder: ``RELAX_TAPML_CACHE``, or ``relax_tapml`` in the user's cache."""
    chosen = os.environ.get("RELAX_TAPML_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "relax_tapml"
