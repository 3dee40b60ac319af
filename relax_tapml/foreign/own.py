"""What runs of this user have written on this machine, known by its hash.

A run's own files may call whatever its model and its pipelines call. Nobody else can add to this
folder, so a file of somebody else is never taken for one of ours.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress

from relax_tapml.files.cache_folder import cache_folder

_FOLDER = "own"


def remember(data: bytes) -> None:
    """Note that this user has written a content. Without a cache folder it is not noted."""
    with suppress(OSError):
        folder = cache_folder() / _FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / hashlib.sha256(data).hexdigest()).touch(mode=0o600)


def is_own(data: bytes) -> bool:
    """Whether this user has written a content on this machine."""
    try:
        status = (cache_folder() / _FOLDER / hashlib.sha256(data).hexdigest()).stat()
    except (OSError, RuntimeError):  # There is none, or no home folder.
        return False
    return status.st_uid == os.getuid()
