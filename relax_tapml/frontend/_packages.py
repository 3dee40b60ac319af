"""Packages that a frontend needs, and that are installed by an extra."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from relax_tapml.errors import UsageError


def require_packages(kind: str, packages: Sequence[str], extra: str) -> None:
    """Check that packages can be imported.

    Parameters
    ----------
    kind
        Of the models that need them, for people: ``ONNX``.
    packages
        Their names in Python.
    extra
        Of this package, which installs them.

    Raises
    ------
    UsageError
        One cannot.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UsageError(
                f"models from {kind} need the package {package} ({error}): "
                f"pip install 'relax-tapml[{extra}]'"
            ) from error
