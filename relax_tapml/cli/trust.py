"""One option of every command that opens what others may have written."""

from __future__ import annotations

TRUST_HELP = (
    "the files come from somebody who may run any code here: let them call functions that are not "
    "known to be harmless"
)
