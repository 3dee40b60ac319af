"""A requirement of a platform on this machine, and the command that installs it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A program, package or device that a platform needs.

    Parameters
    ----------
    name
        Its name.
    use
        What it is used for.
    found
        Its path or version; None if it is missing.
    install
        The command that installs it, or where to get it.
    is_needed
        Whether everything needs it; otherwise only some session does.
    """

    name: str
    use: str
    found: str | None
    install: str
    is_needed: bool = True


def program(name: str, *, use: str, install: str, is_needed: bool = True) -> Requirement:
    """Return the requirement of a program on ``PATH``."""
    return Requirement(
        name=name, use=use, found=shutil.which(name), install=install, is_needed=is_needed
    )
