"""What a build is, as it is written on the command line or in a file."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relax_tapml.errors import UsageError
from relax_tapml.files.read import read_bytes

_KEYS = ("target", "python", "session", "pipeline", "name", "env")
_ENV = "env:"
_FORM = (
    "expected KEY=VALUE,KEY=VALUE with the keys target, python, session, pipeline, name and "
    "env:NAME, or a .toml or .json file with them"
)
# A comma divides where a key and an equals sign follow, so the JSON of a target needs no quotes.
_DIVIDER = re.compile(r",(?=[A-Za-z_][\w:]*=)")
_FILES = (".toml", ".json")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """A way to build and run a suite.

    Parameters
    ----------
    target
        A target string or JSON.
    session
        Where the device is, as for ``replay``.
    device_pipeline
        ``MODULE:ATTR`` of a Relax pass that is applied before units are scheduled and built.
    python
        The Python interpreter of another environment, whose TVM is used; None for this one.
    environment
        Variables of its process, beside those of this one.
    name
        For people; empty for ``A`` or ``B``.
    """

    target: str
    session: str = "process"
    device_pipeline: str | None = None
    python: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


def parse_build(text: str) -> BuildSpec:
    """Return the build of ``KEY=VALUE,KEY=VALUE``, or of a ``.toml`` or ``.json`` file.

    Raises
    ------
    UsageError
        It is none; the message has the form.
    """
    where = f"--on {text}"
    if text.endswith(_FILES) and "=" not in text:
        return _of(_read(Path(text), where), where)
    values: dict[str, Any] = {"env": {}}
    for part in _DIVIDER.split(text):
        key, equals, value = part.partition("=")
        name = key.removeprefix(_ENV)
        if not equals or not key or not name:
            raise UsageError(f"{where}: {part!r} has no key; {_FORM}")
        place, name = (values["env"], name) if key.startswith(_ENV) else (values, key)
        if name in place or key == "env":
            raise UsageError(f"{where}: {key} is given twice or has no name; {_FORM}")
        place[name] = value
    return _of(values, where)


def _read(path: Path, where: str) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"{where}: there is no such file; {_FORM}")
    data = read_bytes(path, fix="Write it again", max_bytes=_MAX_BYTES)
    try:
        found = tomllib.loads(data.decode()) if path.suffix == ".toml" else json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: it is no {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{where}: expected a table with the keys {', '.join(_KEYS)}")
    target = found.get("target")
    if isinstance(target, dict):
        found["target"] = json.dumps(target)
    return {"env": {}, **found}


def _of(values: dict[str, Any], where: str) -> BuildSpec:
    for key in values:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise UsageError(
                f"{where}: unknown key {key!r}; {_FORM}. A value that holds ',NAME=' can be "
                f"written in a file.{meant}"
            )
    environment = values["env"]
    texts = [values.get(key, "") for key in _KEYS[:-1]]
    if not isinstance(environment, dict) or not all(
        isinstance(text, str) for text in (*texts, *environment.values())
    ):
        raise UsageError(f"{where}: every value must be a string, and env a table of strings")
    if not values.get("target"):
        raise UsageError(f"{where}: it has no target; write target=llvm, for example")
    wrong = [key for key, text in environment.items() if "\0" in text or "=" in key or not key]
    if wrong:
        raise UsageError(f"{where}: {wrong[0]!r} is no name of a variable, or its value has a NUL")
    python = values.get("python")
    return BuildSpec(
        target=values["target"],
        session=values.get("session") or "process",
        device_pipeline=values.get("pipeline") or None,
        python=Path(python).expanduser() if python else None,
        environment=dict(environment),
        name=values.get("name", ""),
    )
