"""Ways to damage a file of any kind. Each also returns what it changed."""

from __future__ import annotations

import copy
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from campaign_child import Place

Step = str | int
Keep = Callable[[tuple[Step, ...]], bool]

_DEEP = (900, 100_000)
_MANY = 60 << 20  # bytes of a document that is large but might still be read
_KEYS = ("__class__", "../x", "\x1b[2J", "", "a" * 5000, "schema", "self", "\ud800", "a\0b")


def code(place: Place) -> list[str]:
    """Return texts that leave a mark where they are run: as Python, as a template, by a shell."""
    mark = f"__import__('pathlib').Path({str(place.marks / 'text')!r}).touch()"
    return [
        mark,
        f"a={mark}, b",
        f"x\n    {mark}\n    #",
        f"x\n\n{mark}\n\n#",
        f"q\"'\n\n{mark}\n#",
        f'"""\n{mark}\n"""',
        f"{{{{ ().__class__ }}}}{{% set x = {mark} %}}",
        f"; touch {place.marks / 'shell'}; #",
        f"$(touch {place.marks / 'shell'})",
        f"`touch {place.marks / 'shell'}`",
    ]


def paths(place: Place) -> list[str]:
    """Return names that lead out of a folder, to a trap or to something that never ends."""
    ups = [f"{'../' * depth}canary/planted" for depth in range(1, 6)]
    files = [str(place.canary / "file"), str(place.canary / "planted"), "../../canary/file"]
    return [*files, *ups, "/dev/zero", "/proc/self/mem", "..", ".", "a/../../b", "a\\..\\b"]


def terminal() -> list[str]:
    """Return texts that a terminal or a browser interprets."""
    return [
        "a\x1b[2Jb",
        "\x1b]0;title\x07",
        "a\x9b31mb",
        "a\rb",
        "a\bb",
        "\x1b]52;c;eA==\x07",
        "<img src=x onerror=alert(1)>",
        "</script><script>alert(1)</script>",
        "[bold]x[/bold]",
        "[/]",
    ]


def nasty(place: Place) -> list[Any]:
    """Return values that a careless reader of JSON fails at."""
    texts = ["", "x", "a\0b", "\ud800", "A" * 100_000, "ünï", "NaN", "1e999", "-1"]
    numbers = [-1, 0, 1, 2**31, 2**40, 2**63, -(2**63), 2**64, 10**400, 1e308, 3.5]
    others = [None, True, False, float("nan"), float("inf"), float("-inf")]
    containers: list[Any] = [[], {}, [[]], {"a": 1}, [None], [-1], [2**63], ["x"], [2**40] * 2]
    ranges = ["a_0-9999999999", "a_0-3000000", "a_5-1", f"a_0-{'9' * 5000}"]
    strings = [*texts, *ranges, *code(place), *paths(place), *terminal()]
    return [*numbers, *others, *containers, *strings, *([text] for text in strings)]


def places_of(document: Any, here: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """Yield the way to every value of a JSON document, but for the document itself."""
    if isinstance(document, dict):
        steps: Sequence[Step] = list(document)
    elif isinstance(document, list):
        steps = range(len(document))
    else:
        return
    for step in steps:
        yield (*here, step)
        yield from places_of(document[step], (*here, step))


def at(document: Any, way: Sequence[Step]) -> Any:
    """Return the value at a place."""
    for step in way:
        document = document[step]
    return document


def damaged_document(
    document: Any, draw: random.Random, place: Place, keep: Keep | None = None
) -> tuple[Any, str]:
    """Return a JSON document with one or two values deleted, replaced, doubled, swapped or renamed.

    Places for which ``keep`` is true stay as they are.
    """
    damaged = copy.deepcopy(document)
    changes = []
    for _ in range(draw.choice((1, 1, 1, 2))):
        ways = [way for way in places_of(damaged) if keep is None or not keep(way)]
        if not ways:
            break
        way = draw.choice(ways)
        parent, last = at(damaged, way[:-1]), way[-1]
        name = "/".join(map(str, way))[:80]
        operator = draw.choice(("delete", *["replace"] * 5, "double", "swap", "rename"))
        if operator == "delete":
            del parent[last]
        elif operator == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        elif operator == "swap":
            parent[last] = copy.deepcopy(at(document, draw.choice(list(places_of(document)))))
        elif operator == "rename" and isinstance(parent, dict):
            parent[draw.choice((*_KEYS, *code(place)))] = parent.pop(last)
        else:
            operator, value = "replace", draw.choice(nasty(place))
            parent[last] = value
            changes.append(f"replace {name} by {value!r:.60}")
            continue
        changes.append(f"{operator} {name}")
    return damaged, ", ".join(changes)


def damaged_json(data: bytes, draw: random.Random, place: Place) -> tuple[bytes, str]:
    """Return a JSON document with damaged values."""
    damaged, text = damaged_document(json.loads(data), draw, place)
    return dumped(damaged).encode(), text


def damaged_text(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Return a JSON text that no document has: very deep, doubled keys, endless numbers, large."""
    text = data.decode()
    colons = [index for index, letter in enumerate(text) if letter == ":"] or [0]
    cut = draw.choice(colons) + 1
    operator = draw.choice(("deep", "deep", "deep object", "digits", "wide", "long", "nan"))
    depth = draw.choice(_DEEP)
    value = {
        "deep": "[" * depth + "]" * depth,
        "deep object": '{"a":' * depth + "1" + "}" * depth,
        "digits": "9" * 5000,
        "wide": "[" + "0," * (_MANY // 2) + "0]",
        "long": '"' + "x" * (65 << 20) + '"',
        "nan": "NaN",
    }[operator]
    # What was there before follows under a name of its own.
    return f'{text[:cut]}{value},"again":{text[cut:]}'.encode(), f"{operator} {depth} at {cut}"


def damaged_bytes(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Return bytes that were flipped, cut, overwritten, inserted or doubled."""
    if not data:
        return b"x", "append"
    changed = bytearray(data)
    where = draw.randrange(len(changed))
    others = ("cut", "zero", "ones", "insert", "empty", "double")
    operator = draw.choice(("flip", "flip", "flip", *others))
    if operator == "flip":
        for _ in range(draw.choice((1, 1, 3, 20))):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    elif operator == "cut":
        del changed[where:]
    elif operator == "zero":
        count = min(len(changed) - where, draw.choice((1, 16, 512)))
        changed[where : where + count] = bytes(count)
    elif operator == "ones":
        where %= 64
        changed[where : where + 8] = b"\xff" * len(changed[where : where + 8])
    elif operator == "insert":
        changed[where:where] = draw.randbytes(draw.choice((1, 8, 100)))
    elif operator == "empty":
        changed.clear()
    else:
        changed += data
    return bytes(changed), f"{operator} at {where}"


def damaged_tensors(data: bytes, draw: random.Random, place: Place) -> tuple[bytes, str]:
    """Return a safetensors file whose header is wrong."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = draw.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    changes: dict[str, dict[str, Any]] = {
        "offsets": {"data_offsets": [0, 2**63]},
        "negative": {"shape": [-1, -len(body)]},
        "shape": {"shape": [2**63, 1]},
        "rows": {"shape": [2**40, 0, *entry["shape"]], "data_offsets": [0, 0]},
        "dtype": {"dtype": draw.choice(("F64", "Q9", "BOOL", "F8_E5M2", "U64", None, 7))},
    }
    operator = draw.choice((*changes, "overlap", "json", "huge", "deep", "name"))
    entry.update(changes.get(operator, {}))
    description = operator
    if operator == "overlap":
        header["other"] = dict(entry)
    elif operator == "json":
        header, text = damaged_document(header, draw, place)
        description += f": {text}"
    elif operator == "huge":
        return (2**62).to_bytes(8, "little") + data[8:], operator
    elif operator == "name":
        new = draw.choice([*code(place), *paths(place), *terminal()])
        header[new] = header.pop(name)
        description += f" {new!r:.40}"
    written = json.dumps(header).encode()
    if operator == "deep":
        written = ('{"tensor":' + "[" * 60_000 + "]" * 60_000 + "}").encode()
    return len(written).to_bytes(8, "little") + written + body, description


def damaged_zip(data: Path, draw: random.Random, out: Path) -> str:
    """Write a zip archive with one member that is wrong; return what it is."""
    with zipfile.ZipFile(data) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = draw.choice(list(members))
    operator = draw.choice(("bomb", "missing", "double", "path", "bytes", "bytes", "link", "empty"))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            if member != name:
                archive.writestr(member, content)
            elif operator == "bomb":
                with archive.open(member, "w", force_zip64=True) as file:
                    file.write(content[:128])
                    for _ in range(4 << 10):
                        file.write(bytes(1 << 20))
            elif operator == "bytes":
                archive.writestr(member, damaged_bytes(content, draw)[0])
            elif operator == "path":
                archive.writestr(f"../../../canary/{Path(member).name}", content)
            elif operator == "link":
                info = zipfile.ZipInfo(member)
                info.external_attr = 0o120777 << 16
                archive.writestr(info, "/etc/passwd")
            elif operator == "double":
                archive.writestr(member, content)
                archive.writestr(member + "2", content)
            elif operator == "empty":
                archive.writestr(member, b"")
    return f"{operator} {name}"


def replaced_file(file: Path, draw: random.Random, place: Place) -> str:
    """Put something that is no such file in a file's place; return what it is."""
    operator = draw.choice(
        ("missing", "link out", "folder", "fifo", "dangling", "loop", "endless", "unreadable")
    )
    content = file.read_bytes()
    file.unlink()
    if operator == "link out":
        file.symlink_to(place.canary / "file")
    elif operator == "folder":
        file.mkdir()
    elif operator == "fifo":
        os.mkfifo(file)
    elif operator == "dangling":
        file.symlink_to(place.canary / "planted")
    elif operator == "loop":
        file.symlink_to(file.name)
    elif operator == "endless":
        file.symlink_to("/dev/zero")
    elif operator == "unreadable":
        file.write_bytes(content)
        file.chmod(0)
    return operator


def dumped(document: Any) -> str:
    """Return a document as JSON; lone surrogates and NaN are written as Python writes them."""
    return json.dumps(document)
