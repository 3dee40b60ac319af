"""The first thing that the interpreter of a build runs: find TVM and this package, or say why not.

It is run as a file, by an environment that may have neither, so it imports the standard library
only. What it writes is one line of JSON if it fails, and what ``_build_main`` writes otherwise.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import socket
import sys
from pathlib import Path
from typing import Any


def sources_digest(package: Path) -> str:
    """Return the SHA-256 of the Python sources of the package in a folder, passes left out.

    An installation has the passes in it and a source tree beside it.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith("passes/"):
            digest.update(f"{name}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _prepare(config: dict[str, Any]) -> str:
    """Make TVM and this package importable; return why that cannot be, empty if it can."""
    if config["is_other"]:
        for name in ("tvm", "tvm_ffi", "numpy"):
            if importlib.util.find_spec(name) is None:
                return f"{sys.executable} has no {name}: install apache-tvm there"
        own = importlib.util.find_spec("relax_tapml")
        if own is not None and own.origin is not None:
            if sources_digest(Path(own.origin).parent) != config["digest"]:
                return (
                    f"{sys.executable} has another relax_tapml, {own.origin}, and results of two "
                    f"do not compare: install this one there, or none"
                )
        else:
            sys.path.insert(0, config["package"])
            if list(sys.version_info[:2]) == config["python"]:
                # Behind its own packages: only what is missing there is taken from here.
                sys.path += config["others"]
    from relax_tapml.processes.child import end_with_parent

    # Before TVM is imported: that takes seconds, and the parent may be killed meanwhile.
    end_with_parent()
    if config["without_torch"]:
        # TVM imports torch where it is installed, which takes longer than TVM itself.
        sys.modules["torch"] = None  # type: ignore[assignment]
        import tvm  # noqa: F401

        del sys.modules["torch"]
    return ""


def _main() -> None:
    config = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    connection = socket.socket(fileno=int(sys.argv[1]))
    try:
        fault = _prepare(config)
        if not fault:
            from relax_tapml.two_builds._build_main import serve
    except ImportError as error:
        fault = f"{sys.executable} lacks a package of this version of Python: {error}"
    if fault:
        connection.sendall(json.dumps({"kind": "unavailable", "message": fault}).encode() + b"\n")
        return
    serve(connection)


if __name__ == "__main__":
    _main()
