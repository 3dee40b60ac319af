"""Write docs/reference from the code: command line, JSON documents, suite manifest, Python names.

    python scripts/make_reference.py            write the pages
    python scripts/make_reference.py --check    exit with 1 if a page is stale

Nothing is run: argparse parsers, dataclasses and docstrings are read. tests/test_docs.py calls
``pages``.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import itertools
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import relax_tapml
from relax_tapml import bringup, build
from relax_tapml.cli import main as command
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode
from relax_tapml.results import json_codec

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
_BETWEEN = "\n\n"
_NOTE = "<!-- Written by scripts/make_reference.py. Do not edit. -->"
_PASSES = {
    "AnnotateSites": "relax_tapml.passes.annotate_sites",
    "InsertCapture": "relax_tapml.passes.insert_capture",
    "AssignSides": "relax_tapml.passes.assign_sides",
    "OutlineRegions": "relax_tapml.passes.outline_regions",
}
_JSON_TYPES = {
    str: "string",
    int: "integer",
    ExitCode: "integer",
    float: "number",
    bool: "boolean",
    Any: "any",
}


def pages() -> dict[str, str]:
    """Return every generated page: name of the file in docs/reference to its text."""
    return {
        "command_line.md": _command_line(),
        "python_api.md": _python_api(),
        **{name: _documents(**page) for name, page in _document_pages().items()},
    }


def json_fields() -> set[str]:
    """Return the names of all fields of all documents that have a page."""
    roots = [page["root"] for page in _document_pages().values()]
    kinds = [kind for root in roots for kind in _reached(root)]
    return {name.removesuffix("_") for kind in kinds for name in _fields(kind)}


def _document_pages() -> dict[str, dict[str, Any]]:
    from relax_tapml.results.build_comparison import BuildComparison
    from relax_tapml.results.kernel_report import KernelReport
    from relax_tapml.results.replay_result import ReplayResult
    from relax_tapml.results.run_result import RunResult
    from relax_tapml.suite.manifest import Manifest

    return {
        "result_json.md": {
            "title": "result.json",
            "text": "What `python -m relax_tapml.build --json` prints, and what `--out DIR` keeps "
            "as `DIR/result.json`. " + _READING,
            "root": RunResult,
        },
        "replay_json.md": {
            "title": "replay --json",
            "text": "What `relax-tapml replay DIR --json` prints for one suite on one target. "
            + _READING,
            "root": ReplayResult,
        },
        "verify_json.md": {
            "title": "verify --json",
            "text": "What `relax-tapml verify SUITE UNIT --kernel FILE --json` prints. " + _READING,
            "root": KernelReport,
        },
        "compare_builds_json.md": {
            "title": "compare-builds --json",
            "text": "What `relax-tapml compare-builds SUITE --on A --on B --json` prints. "
            + _READING,
            "root": BuildComparison,
        },
        "suite_manifest.md": {
            "title": "The suite's manifest",
            "text": "`DIR/tests/manifest.json`: what a carved suite consists of. Tensors are named "
            "by digest; files are paths with `/`, relative to the suite. The file also has "
            "`schema`, `kind` and `checksum`, the SHA-256 of the rest.",
            "root": Manifest,
        },
    }


_READING = (
    'Errors go to stdout as `{"error": TEXT}`. A number that is not finite is one of the strings '
    "`nan`, `inf`, `-inf`. Read it with any JSON parser; ignore fields that you do not know."
)


# Command line


def _command_line() -> str:
    parts = ["# The command line", _NOTE, "Exit codes and the output folder: [output](output.md)."]
    parts += _command(build.parser(), "python -m relax_tapml.build")
    for name, parser in _subparsers(command.parser()).items():
        inner = _subparsers(parser)
        if inner:
            for action, subparser in inner.items():
                parts += _command(subparser, f"relax-tapml {name} {action}")
        else:
            parts += _command(parser, f"relax-tapml {name}")
    return _joined(parts)


def _subparsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def _command(parser: argparse.ArgumentParser, title: str) -> Iterator[str]:
    yield f"## {title}"
    if parser.description:
        yield _text(parser.description)
    rows = [
        (_option(action), _text((action.help or "") % {"default": action.default}))
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS
    ]
    yield _table(("argument", "what it does"), rows)


def _option(action: argparse.Action) -> str:
    value = action.metavar or ("|".join(action.choices) if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"`{value}`" + (" (one or more)" if action.nargs == "+" else "")
    takes = "" if action.nargs == 0 else f" {value}" + (" ..." if action.nargs == "+" else "")
    return f"`{action.option_strings[0]}{takes}`"


# JSON documents


def _documents(*, title: str, text: str, root: type) -> str:
    parts = [f"# {title}", _NOTE, text]
    for kind in _reached(root):
        parts += [f"## {kind.__name__}", _json_words(_text(_summary(kind)))]
        parts.append(_table(("field", "type", "meaning"), list(_rows(kind))))
    return _joined(parts)


def _rows(kind: type) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each field; fields that one entry of the docstring explains share one."""
    hints = _fields(kind)
    explained = _parameters(kind)
    for (_, text), group in itertools.groupby(hints, lambda name: explained.get(name, (name, ""))):
        members = list(group)
        types_ = dict.fromkeys(_type(hints[name]) for name in members)
        fields = ", ".join(f"`{name.removesuffix('_')}`" for name in members)
        yield fields, ", ".join(types_), _json_words(text)


def _fields(kind: type) -> dict[str, Any]:
    """Return the type of each field that a document has."""
    hints = typing.get_type_hints(kind)
    fields = [f for f in dataclasses.fields(kind) if f.metadata != json_codec.NOT_IN_JSON]
    return {field.name: hints[field.name] for field in fields}


def _json_words(text: str) -> str:
    return re.sub(r"\bNone\b", "null", text)


def _reached(root: type) -> list[type]:
    """Return a dataclass and those its fields are made of, in the order in which they appear."""
    found = [root]
    for kind in found:
        for hint in _fields(kind).values():
            found += [part for part in dict.fromkeys(_dataclasses(hint)) if part not in found]
    return found


def _dataclasses(hint: Any) -> Iterator[type]:
    if dataclasses.is_dataclass(hint):
        yield hint
    for part in typing.get_args(hint):
        yield from _dataclasses(part)


def _type(hint: Any) -> str:
    """Return a type as a person who reads JSON says it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Verdict:
        return "[verdict](../glossary.md#verdict)"
    if hint in (json_codec.Number, json_codec.Value):
        return "number"
    if hint is json_codec.MetricValue:
        return "number or counts by name"
    if dataclasses.is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return " or ".join(f"`{value}`" for value in hint)
    if origin in (typing.Union, types.UnionType):
        parts = ["null" if arg is type(None) else _type(arg) for arg in args]
        return " or ".join(dict.fromkeys(" or ".join(parts).split(" or ")))
    if origin in (tuple, list):
        inner = [arg for arg in args if arg is not Ellipsis]
        if origin is list or Ellipsis in args:
            return f"list of {_type(inner[0])}"
        return f"[{', '.join(map(_type, inner))}]"
    if origin is not None and issubclass(origin, Mapping):
        return f"object of {_type(args[1])}"
    return _JSON_TYPES[hint]


def _parameters(kind: type) -> dict[str, tuple[str, str]]:
    """Return the docstring entry of each field, of the dataclass or a base: names and text."""
    explained = {}
    for base in reversed(kind.__mro__):
        for names, text in _entries(_sections(base).get("Parameters", "")):
            entry = (names.replace("`", ""), _text(text))
            explained.update(dict.fromkeys(entry[0].split(", "), entry))
    return explained


# Python


def _python_api() -> str:
    parts = [
        "# The Python API",
        _NOTE,
        "The names of `relax_tapml`, the stages that `bring_up` consists of, and Relax passes for "
        "pipelines of your own. Everything else is internal and may change with any version. How "
        "the stages fit together: [From Python](../python.md).",
    ]
    for name in relax_tapml.__all__:
        parts += _name(name, "relax_tapml")
    parts.append("# Stages")
    for name in bringup.__all__:
        if name not in relax_tapml.__all__:
            parts += _name(name, "relax_tapml.bringup")
    parts.append("# Passes")
    for name, module in _PASSES.items():
        parts += _name(name, module)
    return _joined(parts)


def _name(name: str, module: str) -> Iterator[str]:
    value = getattr(importlib.import_module(module), name)
    yield f"## {name}"
    yield f"```python\nfrom {module} import {name}\n\n{_signature(name, value)}\n```"
    yield from _docstring(value)
    if not isinstance(value, type):
        return
    rows = [
        (f"`{key}`", _text(_summary(member.fget if isinstance(member, property) else member)))
        for key, member in vars(value).items()
        if not key.startswith("_")
        and (isinstance(member, property | classmethod) or inspect.isfunction(member))
    ]
    if rows:
        yield _table(("attribute", "what it is"), rows)


def _signature(name: str, value: Any) -> str:
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except ValueError:
        return name
    lines, last = [], None
    if {one.name for one in parameters} == {"args", "kwargs"}:
        # A class that TVM's decorator of passes has wrapped: what it takes is not known.
        parameters = []
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and last not in (one.KEYWORD_ONLY, one.VAR_POSITIONAL):
            lines.append("*")
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        has_type = one.annotation is not one.empty
        text = f"{stars}{one.name}" + (f": {_annotation(one.annotation)}" if has_type else "")
        if one.default is not one.empty:
            shown = _default(one.default)
            text += f" = {shown}" if has_type else f"={shown}"
        lines.append(text)
        last = one.kind
    return f"{name}({', '.join(lines)})" if len(lines) < 3 else _broken(name, lines)


def _default(value: Any) -> str:
    text = repr(str(value) if isinstance(value, StrEnum) else value)
    return "..." if text.startswith("<") else text


def _broken(name: str, lines: Sequence[str]) -> str:
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + ")"


def _annotation(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)


def _docstring(value: Any) -> Iterator[str]:
    sections = _sections(value)
    yield _text(sections.pop(""), keep_paragraphs=True)
    for title, body in sections.items():
        yield f"**{title}**"
        entries = list(_entries(body))
        if entries and title != "Examples":
            yield "\n".join(f"- `{names}`: {_text(text)}" for names, text in entries)
        else:
            yield body


# Docstrings


def _sections(value: Any) -> dict[str, str]:
    """Return the sections of a numpydoc docstring; what comes before the first is ``""``."""
    text = inspect.cleandoc(value.__doc__ or "")
    head, *rest = re.split(r"^(\w[\w ]*)\n-{3,}\n", text, flags=re.MULTILINE)
    return {
        "": head.strip(),
        **{t: b.strip("\n") for t, b in zip(rest[::2], rest[1::2], strict=True)},
    }


def _entries(body: str) -> Iterator[tuple[str, str]]:
    """Yield the names and the text of each entry of a section."""
    for match in re.finditer(r"^(\S.*)\n((?:(?: +.*)?(?:\n|$))+)", body, flags=re.MULTILINE):
        yield match[1], textwrap.dedent(match[2]).strip()


def _summary(value: Any) -> str:
    return _sections(value)[""].partition("\n\n")[0]


def _text(text: str, *, keep_paragraphs: bool = False) -> str:
    """Return prose of a docstring or of a help text as Markdown."""
    if not keep_paragraphs:
        return " ".join(text.replace("``", "`").split())
    parts = []
    for is_code, group in itertools.groupby(_paragraphs(text), lambda one: one.startswith(" ")):
        if is_code:
            parts.append(f"```python\n{textwrap.dedent(_BETWEEN.join(group))}\n```")
        else:
            parts += [re.sub(r" ?::$", ":", _text(one)).replace(".:", ":") for one in group]
    return _BETWEEN.join(parts)


def _paragraphs(text: str) -> list[str]:
    return [one.rstrip() for one in re.split(r"\n[ ]*\n", text)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)


def _joined(parts: Sequence[str]) -> str:
    return _BETWEEN.join(part for part in parts if part) + "\n"


def main() -> int:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if stale")
    is_check = parser.parse_args().check
    stale = [name for name, text in pages().items() if _on_disk(FOLDER / name) != text]
    for name in stale:
        if not is_check:
            (FOLDER / name).write_text(pages()[name], encoding="utf-8")
        print(f"{'stale' if is_check else 'written'}: docs/reference/{name}")
    return int(bool(stale) and is_check)


def _on_disk(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
