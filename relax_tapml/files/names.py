"""One rule for file names that are made from foreign names."""

from __future__ import annotations

import hashlib
import re

_FOREIGN = re.compile(r"[^0-9A-Za-z_]")
_DIGEST_DIGITS = 8


def file_stem(name: str, *, max_length: int = 80) -> str:
    """Return a file name, without suffix, for something that has a name of its own.

    Units, functions and sites are named by models, and so by anyone: a name may be a path, hold a
    line break, or be too long for a file system. What is returned has only ASCII letters, digits
    and ``_``. It is the name itself where that is such a word of at most ``max_length``; two other
    names never have the same stem, because theirs end with a digest.

    Parameters
    ----------
    name
        Any text.
    max_length
        Of what is returned; more than nine.
    """
    plain = _FOREIGN.sub("_", name)
    if plain == name and 0 < len(name) <= max_length:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
    return f"{plain[: max_length - _DIGEST_DIGITS - 1]}_{digest}"
