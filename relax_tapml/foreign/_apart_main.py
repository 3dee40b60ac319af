"""Work on foreign files in a new process; the child's half, started by ``done_apart``.

Its folder, TMPDIR, has the request.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path

from relax_tapml.errors import StoreError
from relax_tapml.foreign._apart import NOTE, REFUSAL, REQUEST
from relax_tapml.foreign.loading import ForeignFiles, do_limited
from relax_tapml.processes.child import end_with_parent
from relax_tapml.processes.fork import ForkChannel


class _Notes(ForkChannel):
    """Keeps the last note in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def note(self, text: str) -> None:
        """Record what is done next, where a crash leaves it."""
        self._path.write_text(text, encoding="utf-8", errors="replace")


def main() -> None:
    """Do the work; write why it refuses a file."""
    end_with_parent()
    folder = Path(os.environ["TMPDIR"])
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    contents = {where: (folder / name).read_bytes() for where, name in request["contents"].items()}
    files = ForeignFiles(
        contents=contents,
        libraries=[Path(path) for path in request["libraries"]],
        fix=request["fix"],
    )
    module, name = request["work"]
    work = getattr(import_module(module), name)
    try:
        do_limited(work, _Notes(folder / NOTE), files, request["seconds"])
    except StoreError as error:
        (folder / REFUSAL).write_text(str(error), encoding="utf-8", errors="replace")


if __name__ == "__main__":
    main()
