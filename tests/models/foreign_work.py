"""What a child does with foreign files; a new process imports it from here."""

from __future__ import annotations

from relax_tapml.foreign.loading import ForeignFiles
from relax_tapml.processes.fork import ForkChannel


def forever(child: ForkChannel, files: ForeignFiles) -> None:
    """Never end, in the last of the files."""
    for where in files.contents:
        child.note(where)
    while True:
        pass


def wrong(child: ForkChannel, files: ForeignFiles) -> None:
    """Raise what no file is to blame for."""
    raise KeyError("a fault of the tool")
