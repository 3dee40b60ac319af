"""The help text of ``--trust``, an option of every command that opens files."""

from __future__ import annotations

TRUST_HELP = (
    "the files come from a trusted source, which may run any code here: let them call functions "
    "that are not known to be harmless"
)
