"""What a platform needs on this machine, and the command that installs it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One thing that has to be there.

    Parameters
    ----------
    name
        Of a program, a package or a device.
    use
        What it does here.
    found
        Where it is or which version; None if it is missing.
    install
        The command that installs it, or where to get it.
    is_needed
        Whether nothing works without it; otherwise only some session does not.
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
