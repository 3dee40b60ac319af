"""Ways to damage one file of an artefact: each changes it where it is, and describes the change."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import shutil
import sqlite3
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from campaign_child import Place
from campaign_model import UNITS
from fuzz_modules import damaged_module, plants, renamed
from fuzz_operators import (
    code,
    damaged_bytes,
    damaged_json,
    damaged_tensors,
    damaged_text,
    damaged_zip,
    dumped,
    nasty,
    paths,
    replaced_file,
    terminal,
)
from tvm import relax

MANIFEST = "manifest.json"


@dataclass(kw_only=True)
class Case:
    """What a mutation is made of.

    Parameters
    ----------
    originals
        A folder of artefacts that are all right.
    place, draw
        Where the damaged copy is made, and what all decisions are drawn from.
    unit, file
        A unit of the model, and the file that is damaged.
    """

    originals: Path
    place: Place
    draw: random.Random
    unit: str = ""
    file: Path = field(default_factory=Path)

    def __post_init__(self) -> None:
        self.unit = self.draw.choice(UNITS)

    def choose(self, weights: list[int], values: Any) -> Any:
        """Return one of several values, each with its weight."""
        return self.draw.choices(values, weights)[0]

    def strings(self) -> list[str]:
        """Return texts that a careless reader runs, opens or prints."""
        return [*code(self.place), *paths(self.place), *terminal()]


Change = Callable[[Case, Path], str]
"""Changes a file, and returns what was changed in it."""


def one_of(*changes: tuple[int, Change]) -> Change:
    """Return a change that is one of several, each with its weight."""
    weights, choices = zip(*changes, strict=True)

    def change(case: Case, path: Path) -> str:
        return str(case.choose(list(weights), choices)(case, path))

    return change


def _rewriting(damaged: Callable[[bytes, random.Random, Place], tuple[bytes, str]]) -> Change:
    """Return a change of what a file contains."""

    def change(case: Case, path: Path) -> str:
        data, text = damaged(path.read_bytes(), case.draw, case.place)
        path.write_bytes(data)
        return text

    return change


any_bytes = _rewriting(lambda data, draw, _: damaged_bytes(data, draw))
json_text = _rewriting(lambda data, draw, _: damaged_text(data, draw))
json_values = _rewriting(damaged_json)
tensor_header = _rewriting(damaged_tensors)
nodes = _rewriting(damaged_module)


def plant(case: Case, path: Path) -> str:
    """Add IR that runs code."""
    name, change = case.draw.choice(sorted(plants().items()))
    module = tvm.ir.load_json(path.read_text())
    planted = change(module, case.place)
    if planted is None:
        # No kernel: the operators become some.
        planted = change(relax.transform.LegalizeOps()(module), case.place)
    if planted is None:
        return f"nowhere to plant {name}"
    path.write_text(tvm.ir.save_json(planted))
    return f"planted {name}"


def other_file(case: Case, path: Path) -> str:
    """Put something that is no such file in its place."""
    return replaced_file(path, case.draw, case.place)


def archive(case: Case, path: Path) -> str:
    """Change a member of a zip archive."""
    return damaged_zip(path, case.draw, path)


json_file = one_of((7, json_values), (2, json_text), (1, any_bytes))
module = one_of((6, nodes), (3, plant), (1, json_text), (1, any_bytes))
tensors = one_of((7, tensor_header), (3, any_bytes))


def random_wal(case: Case, path: Path) -> str:
    """Add a log to a database."""
    path.with_name(f"{path.name}-wal").write_bytes(case.draw.randbytes(5000))
    return "random WAL"


_REFERENCES = (
    *("[" * 5000, "[1]", "{}", "null", '"t:0"', '["t:zz"]', '["i:9999999999999999999999"]'),
    *('["f:zz"]', '["s:-1,x"]', '["s:"]', "NaN", "[[[]]]", '["b:7"]', '["object"]', "[1.5]"),
    *('["f:1e999"]', '["s:99999999999999"]', "[2, 1099511627776]", "[-1]", '"' + "x" * 100_000),
)


def tables(case: Case, path: Path) -> str:
    """Change a column, or make a table something else: nothing, a view, an endless view."""
    draw = case.draw
    with closing(sqlite3.connect(path)) as database:
        named = database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        table = draw.choice(sorted(row[0] for row in named))
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        column = draw.choice(columns)
        value = draw.choice([*_REFERENCES, None, -1, 2**62, 1.5, b"\xff\xfe", *case.strings()])
        rename = f"ALTER TABLE {table} RENAME TO other"
        view = f"CREATE VIEW {table} AS SELECT other.* FROM other"
        endless = "WITH RECURSIVE q(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM q)"
        ways = {
            "drop": [f"DROP TABLE {table}"],
            "view": [rename, view],
            "endless view": [rename, f"{view}, ({endless} SELECT n FROM q)"],
            "trigger": [f"CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END"],
        }
        way = case.choose([8, 1, 1, 2, 1], ["value", *ways])
        try:
            if way == "value":
                database.execute(f"UPDATE OR IGNORE {table} SET {column} = ?", (value,))
            else:
                for statement in ways[way]:
                    database.execute(statement)
            database.commit()
        except sqlite3.Error as error:
            return f"{way} {table} is not possible: {error}"
    return f"{way} {table}.{column} {value!r:.40}" if way == "value" else f"{way} {table}"


def planted_library(case: Case, path: Path) -> str:
    """Put a shared object that runs code in a file's place."""
    # The inode too: a library that is mapped by name must not be taken from a cache.
    path.unlink()
    shutil.copyfile(case.place.root / "library.so", path)
    return "planted"


def swapped_file(case: Case, path: Path) -> str:
    """Replace a file by another one of its folder, or delete it."""
    other = case.draw.choice(files_of(path.parent, "*"))
    shutil.copyfile(other, path) if other != path else path.unlink()
    return f"is {other.name}"


class _Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def planted_pickle(case: Case, path: Path) -> str:
    """Put a pickle that runs code where a program has one, or where it has none."""
    evil = pickle.dumps(({"a": _Evil(case.place.marks / "pickle")}, {}))
    inner = case.place.case / "inner"
    with zipfile.ZipFile(inner, "w") as written:
        written.writestr("archive/data.pkl", evil)
        written.writestr("archive/version", "3")
        written.writestr("archive/byteorder", "little")
    data = case.draw.choice((evil, inner.read_bytes()))
    inner.unlink()
    with zipfile.ZipFile(path) as original:
        members = {info.filename: original.read(info) for info in original.infolist()}
    name = case.draw.choice(sorted(members))
    with zipfile.ZipFile(path, "w") as written:
        for member, content in members.items():
            written.writestr(member, data if member == name else content)
    return f"{name} is a pickle that runs code"


def npy_header(case: Case, path: Path) -> str:
    """Write an archive whose array is an object, code, or larger than any memory."""
    types = ("'|O'", "'<f4'", "'<V8'", "[('a', '<f4'), ('b', '<f4')]", code(case.place)[0])
    shapes = ("(1,)", "(4, 8)", "(-1, 8)", "(1099511627776, 8)")
    kind, shape = case.draw.choice(types), case.draw.choice(shapes)
    entries = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}"
    header = case.choose([6, 1], [entries, "[" * 9000 + "]" * 9000])
    text = header.encode() + b"\n"
    evil = pickle.dumps(_Evil(case.place.marks / "npy"))
    data = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + evil
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("x.npy", data)
    return f"header {header:.60}"


# --- what is particular to one document ---


def other_unit(case: Case, path: Path) -> str:
    """Rename a unit of a suite."""
    old, new = case.unit, case.draw.choice([*case.strings(), "x" * 300])
    unit = path.parent / "units" / f"{old}.json"
    unit.write_text(renamed(unit.read_text(), old, new))
    document = json.loads(path.read_text())
    units = document["units"]
    document["units"] = {new if name == old else name: units[name] for name in units}
    path.write_text(dumped(document))
    case.unit = case.choose([1, 2], [old, new])
    return f"unit {old} is {new!r:.60}"


def large_tensor(case: Case, path: Path) -> str:
    """Let a tensor be far larger than its file: by rows, copies, codes, its shape, or a recipe."""
    from relax_tapml.tensor_file import dump_tensors

    document = json.loads(path.read_text())
    entry = document["tensors"][case.draw.choice(sorted(document["tensors"]))]
    count = case.draw.choice((2**28, 2**33, 2**40, 2**62, -1))
    way = case.draw.choice(("rows", "copies", "codes", "shape", "recipe", "empty"))
    if way in ("rows", "copies", "codes"):
        name = "data/hostile.safetensors"
        ones, places = np.ones((1, 8), "float32"), np.array([0], "int64")
        codes = np.frombuffer(zlib.compress(bytes(min(max(count, 0), 2**20))), "uint8")
        arrays, changed = {
            "rows": ({"tensor": ones, "rows": places}, {"rows": 1}),
            "copies": (
                {"tensor": ones.reshape(-1), "places0": places},
                {"rows": None, "copied": [{"axis": 0, "held": 1}]},
            ),
            "codes": ({"table": ones[0, :1], "codes": codes}, {"rows": None, "table": 1}),
        }[way]
        (path.parent / name).write_bytes(dump_tensors(arrays))
        document["sha256"][name] = ""
        entry.update(file=name, shape=[count, 8], recipe=None, **changed)
    elif way == "shape":
        entry["shape"] = [count, 8]
    elif way == "empty":
        entry["shape"] = [0, count]
    else:
        recipe = {"seed": 1, "magnitude": 3, "parts": 1, "part": 0, "exponent": 0}
        recipe["is_signed"] = True
        entry.update(file=None, rows=None, copied=[], table=None, shape=[count], recipe=recipe)
    path.write_text(dumped(document))
    return f"{way} of {count}"


def strings_of_suite(case: Case, path: Path) -> str:
    """Add one text to every string that is only printed, and to names of sites and samples."""
    text = case.draw.choice(terminal())
    document = json.loads(path.read_text())
    for unit in document["units"].values():
        for one in unit["cases"]:
            for key in ("site", "sample", "name"):
                one[key] += text
    document["skipped"][f"unit{text}"] = f"why {text}"
    document["unproven"][f"unit{text}"] = f"why {text}"
    path.write_text(dumped(document))
    return f"{text!r} in every string"


_WORDS = ("pass", "linear", "unit", "llvm", "inline", "relax_tapml.result", "float32")


def strings_of_result(case: Case, path: Path) -> str:
    """Add one text to every string of a result."""
    text = case.draw.choice(terminal())

    def with_text(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: with_text(each) for key, each in value.items()}
        if isinstance(value, list):
            return [with_text(each) for each in value]
        return value + text if isinstance(value, str) and value not in _WORDS else value

    document = with_text(json.loads(path.read_text()))
    unit = document["units"][0]
    document["culprits"] = [unit["name"]]
    unit.update(verdict="mismatch", reason=f"bad {text}")
    document["skipped"] = [{"site": text, "reason": text}]
    path.write_text(dumped(document))
    return f"{text!r} in every string"


def boundary_layers(case: Case, path: Path) -> str:
    """Let a boundary have a text as the name of its layers."""
    document = json.loads(path.read_text())
    texts = [value for value in nasty(case.place) if isinstance(value, str)]
    document["layers"] = [case.draw.choice(texts)]
    path.write_text(dumped(document))
    return f"layers {document['layers'][0]!r:.40}"


def boundary_values(case: Case, path: Path) -> str:
    """Give a boundary all fields that it may have, and damage them."""
    document = json.loads(path.read_text())
    document.update(layers=["w.0-3"], kinds=["softmax"], sites=["main/000/matmul"])
    path.write_text(dumped(document))
    return json_file(case, path)


# --- checksums ---


def files_of(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that a pattern fits, in a fixed order."""
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def seal_manifest(folder: Path) -> None:
    """Make every checksum in the manifest of a folder right, its own too if it has one."""
    from relax_tapml.suite.manifest_file import seal

    path = folder / MANIFEST
    document = json.loads(path.read_text())
    if not isinstance(document, dict):
        return
    checksums = document.get("sha256")
    for name in checksums if isinstance(checksums, dict) else ():
        try:
            is_file = (folder / name).is_file() and not (folder / name).is_symlink()
        except (OSError, ValueError):
            continue
        if is_file:
            checksums[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_bytes(seal(document) if "checksum" in document else dumped(document).encode())
