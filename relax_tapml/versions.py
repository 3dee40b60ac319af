"""The versions of the packages that results depend on."""

from __future__ import annotations

from importlib.metadata import version

_PACKAGES = ("relax-tapml", "apache-tvm", "apache-tvm-ffi")


def versions(*others: str) -> dict[str, str]:
    """Return the versions of this package and of TVM, by distribution.

    Parameters
    ----------
    others
        More distributions.
    """
    return {name: version(name) for name in (*_PACKAGES, *others)}
