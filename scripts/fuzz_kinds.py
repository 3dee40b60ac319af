"""The artefacts that ``fuzz_artefacts.py`` damages: how each is damaged, and who reads it then."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import shutil
import sqlite3
import sys
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from campaign_child import Place
from campaign_model import UNITS, Originals, an_input
from fuzz_modules import damaged_module, plants, renamed
from fuzz_operators import (
    code,
    damaged_bytes,
    damaged_document,
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

Work = Callable[[], int]
_INLINE = ("--target", "llvm", "--session", "inline")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a mutation is made of."""

    originals: Originals
    place: Place
    draw: random.Random

    def copy(self, original: Path, name: str) -> Path:
        """Return a copy of an artefact, which may be damaged."""
        copied = self.place.case / name
        if original.is_dir():
            shutil.copytree(original, copied)
        else:
            shutil.copyfile(original, copied)
        return copied

    def choose(self, *weighed: tuple[int, Any]) -> Any:
        """Return one of several, each with its weight before it."""
        weights = [weight for weight, _ in weighed]
        return self.draw.choices([what for _, what in weighed], weights)[0]


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One damaged artefact, and what reads it.

    Parameters
    ----------
    told
        What was damaged, and who reads it.
    work
        Reads it, and returns the exit code of a command.
    is_json
        Whether standard output must be JSON if the exit code is 0 or 1.
    must_refuse
        Whether reading it must fail: a file was changed whose checksum was not.
    may_accuse
        Whether exit code 1 may be right: what is damaged decides what a unit computes, or should.
    page
        An HTML page that may be written, in which no name may become markup.
    """

    told: str
    work: Work
    is_json: bool = False
    must_refuse: bool = False
    may_accuse: bool = True
    page: Path | None = None


def artefacts() -> dict[str, Callable[[Case], Mutation]]:
    """Return a function for each kind of artefact, which makes a mutation of it."""
    return {
        "suite": suite,
        "store": store,
        "bundle": bundle,
        "model": model,
        "model.json": model_json,
        "model.pt2": model_pt2,
        "lowered.json": lowered,
        "device.json": device,
        "state.json": state,
        "result.json": result,
        "boundary.json": boundary,
        "inputs": inputs,
        "kernels": kernels,
    }


# --- who reads ---


def command(*argv: Any) -> Work:
    """Return the work of a ``relax-tapml`` command."""

    def work() -> int:
        from relax_tapml.cli.main import main

        return main([str(word) for word in argv])

    return work


def build(*argv: Any) -> Work:
    """Return the work of ``python -m relax_tapml.build``."""

    def work() -> int:
        from relax_tapml.build import main

        return main([str(word) for word in argv])

    return work


def called(function: Callable[[], Any]) -> Work:
    """Return work that calls the Python API, whose documented errors are refusals."""

    def work() -> int:
        from relax_tapml.errors import TapmlError

        try:
            function()
        except TapmlError as error:
            sys.stderr.write(f"error: {type(error).__name__}: {_escaped(str(error))}\n")
            return int(error.exit_code)
        return 0

    return work


def _escaped(text: str) -> str:
    # What an exception holds is not yet printed.
    return text.encode("unicode_escape").decode()


def read_suite(folder: Path) -> None:
    """Open a suite and read everything in it."""
    from relax_tapml.suite.open_suite import open_suite

    opened = open_suite(folder)
    for unit in opened.manifest.units:
        opened.module(unit)
    for digest in opened.manifest.tensors:
        opened.tensor(digest)


def read_store(folder: Path) -> None:
    """Open a store and read everything in it."""
    from relax_tapml.capture.store import CaptureStore
    from relax_tapml.capture.values import TensorValue

    with CaptureStore.open(folder) as opened:
        incomplete = set(opened.incomplete_samples())
        for name in opened.samples():
            if name not in incomplete:
                opened.sample_outputs(name)
        for call in opened.calls():
            for value in (*call.inputs, *(call.outputs or ())):
                if isinstance(value, TensorValue):
                    opened.tensor(value.digest, verify=True)
        for name in opened.parameters():
            opened.parameter(name, verify=True)


def run_bundle(folder: Path, session: str) -> None:
    """Load a bundle and run it."""
    import relax_tapml

    with relax_tapml.load(folder, session=session) as opened:
        opened["main"](an_input())


def read_model(spec: Path, files: Sequence[Path] = ()) -> None:
    """Load a model and lower it."""
    from relax_tapml.frontend.load.load_model import load_model
    from relax_tapml.partition.lower import lower, mark_inputs

    loaded = load_model(str(spec), inputs=files)
    lower(mark_inputs(loaded.module, loaded.params))


# --- what is damaged ---


def _rehash(folder: Path, document: Any) -> Any:
    """Return a manifest with the checksums of the files as they are now."""
    if isinstance(document, dict) and isinstance(document.get("sha256"), dict):
        for name in document["sha256"]:
            try:
                is_file = (folder / name).is_file() and not (folder / name).is_symlink()
            except (OSError, ValueError):
                continue
            if is_file:
                data = (folder / name).read_bytes()
                document["sha256"][name] = hashlib.sha256(data).hexdigest()
    return document


def _seal(folder: Path, document: Any = None) -> None:
    """Write the manifest of a folder so that every checksum is right."""
    from relax_tapml.suite.manifest_file import seal

    path = folder / "manifest.json"
    document = _rehash(folder, json.loads(path.read_text()) if document is None else document)
    is_sealed = isinstance(document, dict) and "checksum" in document
    path.write_bytes(seal(document) if is_sealed else dumped(document).encode())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _damage_bytes(case: Case, path: Path) -> str:
    changed, told = damaged_bytes(path.read_bytes(), case.draw)
    path.write_bytes(changed)
    return f"{path.name}: {told}"


def _damage_text(case: Case, path: Path) -> str:
    changed, told = damaged_text(path.read_text(), case.draw)
    path.write_text(changed)
    return f"{path.name}: {told}"


def _damage_document(case: Case, path: Path) -> str:
    """Damage a JSON file in one of three ways."""
    way = case.choose((7, "values"), (2, "text"), (1, "bytes"))
    if way == "text":
        return _damage_text(case, path)
    if way == "bytes":
        return _damage_bytes(case, path)
    changed, told = damaged_document(json.loads(path.read_text()), case.draw, case.place)
    path.write_text(dumped(changed))
    return f"{path.name}: {told}"


def _damage_tensors(case: Case, path: Path) -> str:
    data = path.read_bytes()
    if case.draw.random() < 0.7:
        changed, told = damaged_tensors(data, case.draw, case.place)
    else:
        changed, told = damaged_bytes(data, case.draw)
    path.write_bytes(changed)
    return f"{path.name}: {told}"


def _damage_module(case: Case, path: Path) -> str:
    """Damage IR that is saved as JSON, or plant something in it."""
    way = case.choose((6, "nodes"), (3, "plant"), (1, "text"), (1, "bytes"))
    if way == "text":
        return _damage_text(case, path)
    if way == "bytes":
        return _damage_bytes(case, path)
    if way == "plant":
        return _plant(case, path)
    changed, told = damaged_module(path.read_text(), case.draw, case.place)
    path.write_text(changed)
    return f"{path.name}: {told}"


def _plant(case: Case, path: Path) -> str:
    name, plant = case.draw.choice(sorted(plants().items()))
    module = tvm.ir.load_json(path.read_text())
    planted = plant(module, case.place)
    if planted is None:
        # No kernel: the operators become some.
        planted = plant(relax.transform.LegalizeOps()(module), case.place)
    if planted is None:
        return f"{path.name}: nowhere to plant {name}"
    path.write_text(tvm.ir.save_json(planted))
    return f"{path.name}: planted {name}"


def _replace_file(case: Case, path: Path) -> str:
    return f"{path.name}: {replaced_file(path, case.draw, case.place)}"


# --- the artefacts ---


def suite(case: Case) -> Mutation:
    """A carved suite, most often with checksums that are right."""
    run = case.place.case / "run"
    run.mkdir()
    shutil.copytree(case.originals.run / "kernels", run / "kernels")
    shutil.copytree(case.originals.run / "tests", run / "tests")
    folder, manifest = run / "tests", run / "tests" / "manifest.json"
    unit = case.draw.choice(UNITS)
    way = case.choose(
        (2, "bytes"), (6, "manifest"), (1, "text"), (6, "module"), (2, "name"), (3, "tensor"),
        (2, "bomb"), (3, "file"), (1, "string everywhere"),
    )  # fmt: skip
    must_refuse = False
    if way == "bytes":
        path = case.draw.choice([p for p in _files(folder) if p.suffix == ".safetensors"])
        before = path.read_bytes()
        told = _damage_bytes(case, path)
        must_refuse = path.read_bytes() != before
    elif way == "manifest":
        changed, told = damaged_document(json.loads(manifest.read_text()), case.draw, case.place)
        _seal(folder, changed)
    elif way == "text":
        told = _damage_text(case, manifest)
    elif way == "module":
        told = _damage_module(case, folder / "units" / f"{unit}.json")
        _seal(folder)
    elif way == "name":
        new = case.draw.choice([*paths(case.place), *code(case.place), *terminal(), "x" * 300])
        told = f"unit {unit} is {new!r:.60}"
        path = folder / "units" / f"{unit}.json"
        path.write_text(renamed(path.read_text(), unit, new))
        document = json.loads(manifest.read_text())
        units = document["units"]
        document["units"] = {new if name == unit else name: units[name] for name in units}
        _seal(folder, document)
        unit = case.choose((1, unit), (2, new))
    elif way == "tensor":
        told = _damage_tensors(case, case.draw.choice(_files(folder / "data")))
        _seal(folder)
    elif way == "bomb":
        told = _suite_bomb(case, folder)
    elif way == "string everywhere":
        told = _poison_strings(case, folder)
    else:
        told = _replace_file(case, case.draw.choice(_files(folder)))
    reads, work, is_json = case.choose(
        (4, ("replay --json", command("replay", folder, *_INLINE, "--json"), True)),
        (3, ("replay", command("replay", folder, *_INLINE), False)),
        (1, ("replay in a process", command("replay", folder, "--target", "llvm"), False)),
        (3, ("reproduce", _reproduce(case, run, unit, "--no-run"), False)),
        (1, ("reproduce and run", _reproduce(case, run, unit), False)),
        (3, ("merge", _merge(case, folder), False)),
        (4, ("open_suite", called(lambda: read_suite(folder)), False)),
        (2, ("relax_tapml.replay", called(lambda: _replay(folder)), False)),
    )
    return Mutation(told=f"{reads}: {told}", work=work, is_json=is_json, must_refuse=must_refuse)


def _reproduce(case: Case, folder: Path, unit: str, *options: str) -> Work:
    out = case.place.case / "reproduced"
    return command("reproduce", "--output", out, "--force", *options, "--", folder, unit)


def _merge(case: Case, folder: Path) -> Work:
    return command("merge", case.place.case / "merged", folder, case.originals.run / "tests")


def _replay(folder: Path) -> None:
    import relax_tapml

    relax_tapml.replay(folder, target="llvm", session="inline")


def _suite_bomb(case: Case, folder: Path) -> str:
    """Let a tensor be far larger than its file: by its rows, by its shape, or by a recipe."""
    document = json.loads((folder / "manifest.json").read_text())
    tensors = document["tensors"]
    digest = case.draw.choice(sorted(tensors))
    count = case.draw.choice((2**28, 2**33, 2**40, 2**62, -1))
    way = case.draw.choice(("rows", "shape", "recipe", "empty"))
    if way == "rows":
        import numpy as np

        from relax_tapml.tensor_file import dump_tensors

        name = "data/rows.safetensors"
        rows = {"tensor": np.ones((1, 8), "float32"), "rows": np.array([0], "int64")}
        (folder / name).write_bytes(dump_tensors(rows))
        document["sha256"][name] = ""
        tensors[digest].update(file=name, shape=[count, 8], rows=1)
    elif way == "shape":
        tensors[digest]["shape"] = [count, 8]
    elif way == "empty":
        tensors[digest]["shape"] = [0, count]
    else:
        recipe = {"seed": 1, "magnitude": 3, "parts": 1, "part": 0, "exponent": 0}
        tensors[digest].update(
            file=None, rows=None, shape=[count], recipe={**recipe, "is_signed": True}
        )
    _seal(folder, document)
    return f"{way} of {count}"


def _poison_strings(case: Case, folder: Path) -> str:
    """Add one text to every string that is only told, and to the names of sites and samples."""
    text = case.draw.choice(terminal())
    document = json.loads((folder / "manifest.json").read_text())
    for unit in document["units"].values():
        for one in unit["cases"]:
            one["site"] += text
            one["sample"] += text
            one["name"] += text
    document["skipped"][f"unit{text}"] = f"why {text}"
    document["unproven"][f"unit{text}"] = f"why {text}"
    _seal(folder, document)
    return f"{text!r} in every string"


def store(case: Case) -> Mutation:
    """A capture store: its database, its segments, its files."""
    folder = case.copy(case.originals.run / "captures", "captures")
    index = folder / "index.sqlite"
    segment = case.draw.choice(_files(folder / "segments"))
    way = case.choose((3, "bytes"), (8, "sql"), (3, "segment"), (2, "file"), (1, "wal"))
    if way == "bytes":
        told = _damage_bytes(case, index)
    elif way == "sql":
        told = _damage_tables(case, index)
    elif way == "segment":
        told = _damage_tensors(case, segment)
    elif way == "wal":
        index.with_name("index.sqlite-wal").write_bytes(case.draw.randbytes(5000))
        told = "random WAL"
    else:
        told = _replace_file(case, case.draw.choice([index, segment]))
    reads, work, is_json = case.choose(
        (2, ("capture ls", command("capture", "ls", folder), False)),
        (2, ("capture ls --json", command("capture", "ls", folder, "--json"), True)),
        (4, ("CaptureStore.open", called(lambda: read_store(folder)), False)),
    )
    return Mutation(told=f"{reads}: {told}", work=work, is_json=is_json)


_REFERENCES = (
    *("[" * 5000, "[1]", "{}", "null", '"t:0"', '["t:zz"]', '["i:9999999999999999999999"]'),
    *('["f:zz"]', '["s:-1,x"]', '["s:"]', "NaN", "[[[]]]", '["b:7"]', '["object"]', "[1.5]"),
    *('["f:1e999"]', '["s:99999999999999"]', "[2, 1099511627776]", "[-1]", '"' + "x" * 100_000),
)


def _damage_tables(case: Case, index: Path) -> str:
    """Change a column, or make a table something else: nothing, a view, an endless view."""
    draw = case.draw
    with closing(sqlite3.connect(index)) as database:
        named = database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        tables = [row[0] for row in named]
        table = draw.choice(sorted(tables))
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        column = draw.choice(columns)
        way = case.choose(
            (8, "value"), (1, "drop"), (1, "view"), (2, "endless view"), (1, "trigger")
        )
        endless = "WITH RECURSIVE q(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM q)"
        strings = [*code(case.place), *paths(case.place), *terminal()]
        value = draw.choice([*_REFERENCES, None, -1, 2**62, 1.5, b"\xff\xfe", *strings])
        try:
            if way == "value":
                database.execute(f"UPDATE OR IGNORE {table} SET {column} = ?", (value,))
            elif way == "drop":
                database.execute(f"DROP TABLE {table}")
            elif way == "trigger":
                database.execute(
                    f"CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM {table}; END"
                )
            else:
                database.execute(f"ALTER TABLE {table} RENAME TO other")
                rows = f"SELECT other.* FROM other, ({endless} SELECT n FROM q)"
                kept = "SELECT * FROM other"
                database.execute(f"CREATE VIEW {table} AS {kept if way == 'view' else rows}")
            database.commit()
        except sqlite3.Error as error:
            return f"{way} {table} is not possible: {error}"
    return f"{way} {table}.{column} {value!r:.40}" if way == "value" else f"{way} {table}"


def bundle(case: Case) -> Mutation:
    """The program that a run leaves."""
    folder = case.copy(case.originals.run / "bundle", "bundle")
    manifest = folder / "manifest.json"
    way = case.choose(
        (3, "bytes"), (6, "manifest"), (1, "text"), (6, "bytecode"), (3, "weights"), (2, "file"),
        (1, "planted kernel"),
    )  # fmt: skip
    must_refuse = False
    if way == "bytes":
        path = case.draw.choice([path for path in _files(folder) if path != manifest])
        before = path.read_bytes()
        told = _damage_bytes(case, path)
        must_refuse = path.read_bytes() != before
    elif way == "manifest":
        changed, told = damaged_document(json.loads(manifest.read_text()), case.draw, case.place)
        manifest.write_text(dumped(changed))
    elif way == "text":
        told = _damage_text(case, manifest)
    elif way == "bytecode":
        told = _damage_bytes(case, folder / case.draw.choice(("host.vm", "device.vm")))
        _seal(folder)
    elif way == "weights":
        told = _damage_tensors(case, folder / "params.safetensors")
        _seal(folder)
    elif way == "planted kernel":
        path = case.draw.choice([path for path in _files(folder) if path.suffix == ".so"])
        shutil.copyfile(case.place.root / "library.so", path)
        told, must_refuse = f"{path.name} is planted", True
    else:
        told = _replace_file(case, case.draw.choice(_files(folder)))
    session = case.choose((6, "inline"), (1, "process"))
    return Mutation(
        told=f"load, {session}: {told}",
        work=called(lambda: run_bundle(folder, session)),
        must_refuse=must_refuse,
    )


def _reads_model(case: Case, spec: Path) -> tuple[str, Work]:
    out = case.place.case / "out"
    options = ("--session", "inline", "--strategy", "isolated", "--no-probes", "--out", out)
    return case.choose(
        (5, ("load_model", called(lambda: read_model(spec)))),
        (1, ("build", build(spec, *options))),
    )


def model(case: Case) -> Mutation:
    """A folder of ``save_model``."""
    folder = case.copy(case.originals.saved, "saved")
    manifest = folder / "manifest.json"
    way = case.choose(
        (3, "bytes"), (6, "manifest"), (1, "text"), (8, "module"), (4, "tensors"), (2, "file")
    )
    must_refuse = False
    if way == "bytes":
        path = case.draw.choice([path for path in _files(folder) if path != manifest])
        before = path.read_bytes()
        told = _damage_bytes(case, path)
        must_refuse = path.read_bytes() != before
    elif way == "manifest":
        changed, told = damaged_document(json.loads(manifest.read_text()), case.draw, case.place)
        manifest.write_text(dumped(changed))
    elif way == "text":
        told = _damage_text(case, manifest)
    elif way == "module":
        told = _damage_module(case, folder / "module.json")
        _seal(folder)
    elif way == "tensors":
        files = [path for path in _files(folder) if path.suffix == ".safetensors"]
        told = _damage_tensors(case, case.draw.choice(files))
        _seal(folder)
    else:
        told = _replace_file(case, case.draw.choice(_files(folder)))
    reads, work = _reads_model(case, folder)
    return Mutation(told=f"{reads}: {told}", work=work, must_refuse=must_refuse)


def model_json(case: Case) -> Mutation:
    """A module as ``tvm.ir.save_json`` writes it, with its parameters beside it."""
    folder = case.copy(case.originals.ir, "ir")
    way = case.choose((8, "module"), (2, "tensors"), (2, "file"))
    if way == "module":
        told = _damage_module(case, folder / "model.json")
    elif way == "tensors":
        told = _damage_tensors(case, folder / "model.safetensors")
    else:
        told = _replace_file(case, case.draw.choice(_files(folder)))
    reads, work = _reads_model(case, folder / "model.json")
    return Mutation(told=f"{reads}: {told}", work=work)


class _Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def model_pt2(case: Case) -> Mutation:
    """A program of ``torch.export.save``."""
    original = case.originals.pt2
    assert original is not None
    file = case.place.case / "model.pt2"
    way = case.choose((4, "pickle"), (5, "zip"), (2, "bytes"), (1, "file"))
    if way == "zip":
        told = damaged_zip(original, case.draw, file)
    else:
        shutil.copyfile(original, file)
        if way == "pickle":
            told = _plant_pickle(case, original, file)
        elif way == "bytes":
            told = _damage_bytes(case, file)
        else:
            told = _replace_file(case, file)
    return Mutation(told=f"load_model: {told}", work=called(lambda: read_model(file)))


def _plant_pickle(case: Case, original: Path, file: Path) -> str:
    """Put a pickle that runs code where a program has one, or where it has none."""
    evil = pickle.dumps(({"a": _Evil(case.place.marks / "pickle")}, {}))
    inner = case.place.case / "inner"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("archive/data.pkl", evil)
        archive.writestr("archive/version", "3")
        archive.writestr("archive/byteorder", "little")
    data = case.draw.choice((evil, inner.read_bytes()))
    inner.unlink()
    with zipfile.ZipFile(original) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = case.draw.choice(sorted(members))
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, data if member == name else content)
    return f"{name} is a pickle that runs code"


def lowered(case: Case) -> Mutation:
    """The module that a run lowered."""
    return _module_of_run(
        case,
        "lowered.json",
        (4, ("explain", command("explain", case.place.case / "run"))),
        (1, ("explain --json", command("explain", case.place.case / "run", "--json"))),
    )


def device(case: Case) -> Mutation:
    """The module as the target of a run got it."""
    run, unit = case.place.case / "run", case.draw.choice(UNITS)
    return _module_of_run(
        case,
        "device.json",
        (6, ("reproduce", _reproduce(case, run, unit, "--no-run"))),
        (1, ("reproduce and run", _reproduce(case, run, unit))),
    )


def _module_of_run(case: Case, name: str, *readers: tuple[int, tuple[str, Work]]) -> Mutation:
    run = case.copy(case.originals.run, "run")
    way = case.choose((9, "module"), (1, "file"))
    told = (_damage_module if way == "module" else _replace_file)(case, run / name)
    reads, work = case.choose(*readers)
    return Mutation(told=f"{reads}: {told}", work=work)


def state(case: Case) -> Mutation:
    """What ``--resume`` goes on from."""
    run = case.copy(case.originals.run, "run")
    way = case.choose((9, "values"), (1, "file"))
    change = _damage_document if way == "values" else _replace_file
    told = change(case, run / "state.json")
    work = build(case.originals.saved, "--session", "inline", "--out", run, "--resume")
    return Mutation(told=f"build --resume: {told}", work=work)


def result(case: Case) -> Mutation:
    """What a report is made of."""
    run = case.place.case / "run"
    run.mkdir()
    shutil.copyfile(case.originals.run / "result.json", run / "result.json")
    page = run / "report.html"
    way = case.choose((7, "values"), (1, "file"), (3, "string everywhere"))
    if way == "string everywhere":
        text = case.draw.choice(terminal())
        document = _with_text(json.loads((run / "result.json").read_text()), text)
        unit = document["units"][0]
        document["culprits"] = [unit["name"]]
        unit.update(verdict="mismatch", reason=f"bad {text}")
        document["skipped"] = [{"site": text, "reason": text}]
        (run / "result.json").write_text(dumped(document))
        told = f"{text!r} in every string"
    else:
        told = (_damage_document if way == "values" else _replace_file)(case, run / "result.json")
    option = case.choose((2, None), (1, "--all"), (1, "--json"))
    work = command("report", run, *([option] if option else []))
    return Mutation(
        told=f"report {option or ''}: {told}", work=work, is_json=option == "--json", page=page
    )


_WORDS = ("pass", "linear", "unit", "llvm", "inline", "relax_tapml.result", "float32")


def _with_text(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_text(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_text(each, text) for each in value]
    return value + text if isinstance(value, str) and value not in _WORDS else value


def boundary(case: Case) -> Mutation:
    """Which units may move."""
    file = case.copy(sorted((case.originals.run / "boundaries").iterdir())[-1], "boundary.json")
    document = json.loads(file.read_text())
    way = case.choose((5, "values"), (2, "layers"), (1, "file"))
    if way == "layers":
        texts = [value for value in nasty(case.place) if isinstance(value, str)]
        document["layers"] = [case.draw.choice(texts)]
        file.write_text(dumped(document))
        told = f"layers {document['layers'][0]!r:.40}"
    elif way == "values":
        document.update(layers=["w.0-3"], kinds=["softmax"], sites=["main/000/matmul"])
        file.write_text(dumped(document))
        told = _damage_document(case, file)
    else:
        told = _replace_file(case, file)
    out = case.place.case / "out"
    saved, run = case.originals.saved, case.originals.run
    reads, work = case.choose(
        (4, ("explain", command("explain", run, "--boundary", file))),
        (2, ("read_boundary", called(lambda: _read_boundary(file)))),
        (1, ("build", build(saved, "--session", "inline", "--boundary", file, "--out", out))),
    )
    return Mutation(told=f"{reads}: {told}", work=work)


def _read_boundary(file: Path) -> None:
    from relax_tapml.partition.boundary import read_boundary

    read_boundary(file)


def inputs(case: Case) -> Mutation:
    """A sample, as ``.npz`` or ``.safetensors``."""
    original = case.originals.inputs / case.draw.choice(("one.npz", "one.safetensors"))
    file = case.place.case / original.name
    is_zip = file.suffix == ".npz"
    way = case.choose((5, "structure"), (2, "bytes"), (2, "file"), (2, "pickle"))
    shutil.copyfile(original, file)
    if way == "file":
        told = _replace_file(case, file)
    elif way == "bytes":
        told = _damage_bytes(case, file)
    elif not is_zip:
        told = _damage_tensors(case, file)
    elif way == "structure":
        told = damaged_zip(original, case.draw, file)
    else:
        told = _damage_npy(case, file)
    saved, out = case.originals.saved, case.place.case / "out"
    options = ("--session", "inline", "--strategy", "isolated", "--no-probes", "--out", out)
    reads, work = case.choose(
        (4, ("load_model", called(lambda: read_model(saved, [file])))),
        (1, ("build", build(saved, "--inputs", file, *options))),
    )
    return Mutation(told=f"{reads}: {told}", work=work)


def _damage_npy(case: Case, file: Path) -> str:
    """Write an archive whose array is an object, code, or larger than any memory."""
    header = case.draw.choice(
        (
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 8), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 8), }",
            "{'descr': '<V8', 'fortran_order': False, 'shape': (4, 8), }",
            "{'descr': [('a', '<f4'), ('b', '<f4')], 'fortran_order': False, 'shape': (4, 8), }",
            "[" * 9000 + "]" * 9000,
            f"{{'descr': {code(case.place)[0]}, 'fortran_order': False, 'shape': (4, 8), }}",
        )
    )
    text = header.encode() + b"\n"
    evil = pickle.dumps(_Evil(case.place.marks / "npy"))
    data = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + evil
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", data)
    return f"header {header:.60}"


def kernels(case: Case) -> Mutation:
    """The kernels that a run keeps: whatever lies there, units are not to blame."""
    run = case.copy(case.originals.run, "run")
    path = case.draw.choice(_files(run / "kernels"))
    way = case.choose((3, "bytes"), (2, "planted"), (1, "file"), (1, "swapped"))
    if way == "bytes":
        told = _damage_bytes(case, path)
    elif way == "planted":
        # The inode too: a library that is mapped by name must not be taken from a cache.
        path.unlink()
        shutil.copyfile(case.place.root / "library.so", path)
        told = f"{path.name} is planted"
    elif way == "swapped":
        other = case.draw.choice(_files(run / "kernels"))
        shutil.copyfile(other, path) if other != path else path.unlink()
        told = f"{path.name} is {other.name}"
    else:
        told = _replace_file(case, path)
    reads, work = case.choose(
        (3, ("replay", command("replay", run, *_INLINE))),
        (1, ("replay in a process", command("replay", run, "--target", "llvm"))),
        (
            1,
            (
                "build --resume",
                build(case.originals.saved, "--session", "inline", "--out", run, "--resume"),
            ),
        ),
    )
    return Mutation(told=f"{reads}: {told}", work=work, may_accuse=False)
