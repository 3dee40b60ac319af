"""Work on foreign files in a new process, where a fork is not safe; the parent's half."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from relax_tapml.errors import StoreError
from relax_tapml.files.scratch import ScratchFolder
from relax_tapml.processes.child import Child, ending_text, is_kill
from relax_tapml.processes.fork import ForkFailed

if TYPE_CHECKING:
    from relax_tapml.foreign.loading import ForeignFiles, Work

# In the folder of the child: what it has to do, what it reads now, and why it refuses that.
REQUEST, NOTE, REFUSAL = "request.json", "note", "refusal"


def done_apart(work: Work, files: ForeignFiles, seconds: int) -> None:
    """Do work in a new process, and return when it is done.

    Parameters
    ----------
    work
        A function of a module, which the process imports.
    files
        What it reads; their contents are written for it to a scratch folder.
    seconds
        Of processor time, at most.

    Raises
    ------
    StoreError
        The work raised one.
    ForkFailed
        A signal ended the process.
    RuntimeError
        The work raised something else.
    OSError
        The process cannot be started.
    """
    folder = ScratchFolder()
    names = [f"content-{number}" for number in range(len(files.contents))]
    for name, content in zip(names, files.contents.values(), strict=True):
        (folder.path / name).write_bytes(content)
    request = {
        "work": [work.__module__, work.__name__],
        "seconds": seconds,
        "contents": dict(zip(files.contents, names, strict=True)),
        "libraries": [str(path.absolute()) for path in files.libraries],
        "fix": files.fix,
    }
    (folder.path / REQUEST).write_text(json.dumps(request), encoding="utf-8")
    with closing(Child("relax_tapml.foreign._apart_main", [], folder=folder)) as child:
        code = child.exit_code(None)
        refusal, printed = _text(folder.path / REFUSAL), child.log_tail()
        note = _text(folder.path / NOTE) or ""
    if refusal is not None:
        raise StoreError(refusal)
    if code is not None and code < 0:
        raise ForkFailed(ending_text(code) or "ended", note, printed, is_killed=is_kill(code))
    if code != 0:
        raise RuntimeError(f"the process that reads {note} {ending_text(code)}: {printed}")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
