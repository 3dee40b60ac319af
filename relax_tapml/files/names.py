"""One rule for file names that are made from names in models."""

from __future__ import annotations

import hashlib
import re

_FOREIGN = re.compile(r"[^0-9A-Za-z_]")
_DIGEST_DIGITS = 8


def file_stem(name: str, *, max_length: int = 80) -> str:
    """Return a file name, without suffix, for something that has a name of its own.

    Units, functions and sites have names from model files: a name may be a path, hold a line break,
    or be too long for a file system. The stem has only ASCII letters, digits and ``_``. It is the
    name itself where that is such a word of at most ``max_length``; other stems end with a digest
    of the name, so that no two names have the same stem.

    Parameters
    ----------
    name
        Any text.
    max_length
        Of the stem; more than nine.
    """
    plain = _FOREIGN.sub("_", name)
    if plain == name and 0 < len(name) <= max_length:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    return f"{plain[: max_length - _DIGEST_DIGITS - 1]}_{digest}"
