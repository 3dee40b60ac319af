"""Dependencies point one way, as docs/architecture.md draws them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A room is a folder; one that has no level here is a part of the folder that it lies in. A room
# imports itself and rooms of lower levels, never another of its own level.
LEVELS = [
    {
        "errors",
        "_compat",
        "_lazy",
        "printable",
        "arrays",
        "progress",
        "versions",
        "cores",
        "crossings",
        "system",
    },
    {"files", "passes"},
    {"tensor_file"},
    {"compare.tolerances"},
    {"compare.metrics"},
    {"processes", "compare", "capture", "kernel_flow"},
    {"cpu_schedule"},
    {"foreign", "derive", "targets.opencl", "targets.server", "targets.toolchain"},
    {"targets.session", "targets.arm64"},
    {"targets.web"},
    {"targets.platforms"},
    {"targets.fleet"},
    {"targets"},
    {"results", "partition"},
    {"suite", "frontend", "migrate.strategies"},
    {"frontend.load"},
    {"carve.select", "replays.unit"},
    {"carve.unit", "replays.fleet"},
    {"carve.probe", "carve.shape", "replays"},
    {"carve", "repair", "two_builds"},
    {"judge_kernel", "migrate", "report"},
    {"bringup"},
    {"cli", "testing", "mlc"},
    {"build", "__init__"},
]
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
FREE = "relax_tapml.frontend.model"  # plain dataclasses, for everyone

# Names of one of the two TVM releases only.
MOVED = re.compile(
    r"\bir\.(prim|Constant|GenericConst|StringImm|TensorLoad|TensorRegion)\b|\btvm\.(arith|sym)\b"
    r"|\b(s_tir|tirx)\.(SBlock|StringImm)|\brelax\.(Constant|StringImm)\b|[\"']prim\.\w"
)


def module_files() -> dict[str, Path]:
    files = {}
    for folder, package in ((ROOT / "relax_tapml", ()), (ROOT / "passes", ("passes",))):
        for path in sorted(folder.rglob("*.py")):
            parts = (*package, *path.relative_to(folder).with_suffix("").parts)
            files[".".join(("relax_tapml", *parts))] = path
    return files


FILES = module_files()
MODULES = {name.removesuffix(".__init__") for name in FILES}
PACKAGES = {name.removesuffix(".__init__") for name in FILES if name.endswith(".__init__")}


def room_of(module: str) -> str:
    """Return the room that a module lies in, or the name of one that lies in none."""
    name = module.removesuffix(".__init__")
    room = (name if name in PACKAGES else name.rpartition(".")[0]).partition(".")[2]
    while "." in room and room not in LEVEL_OF:
        room = room.rpartition(".")[0]
    return room or name.partition(".")[2] or "__init__"


def imported_modules(source: str, module: str) -> set[str]:
    """Every module of the package that ``source`` imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in MODULES else base)
    return {name for name in found if name.split(".")[0] == "relax_tapml"}


def violations(source: str, module: str) -> list[str]:
    room = room_of(module)
    return [
        f"{module} ({room}) imports {name} ({room_of(name)})"
        for name in sorted(imported_modules(source, module))
        if name != FREE and room_of(name) != room and LEVEL_OF[room_of(name)] >= LEVEL_OF[room]
    ]


@pytest.mark.parametrize("module", FILES)
def test_imports_point_one_way(module: str) -> None:
    """A module imports its own room and rooms below it, nothing else of the package."""
    assert room_of(module) in LEVEL_OF, f"{module}: give its room a level"
    assert violations(FILES[module].read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("relax_tapml.migrate.driver", "from relax_tapml.cli.exit import guarded"),
        ("relax_tapml.migrate.driver", "def f():\n    import relax_tapml.report.page"),
        ("relax_tapml.migrate.driver", "from ..report import page"),
        ("relax_tapml.passes.site", "from relax_tapml import bring_up"),
        (
            "relax_tapml.capture.store",
            "from relax_tapml.frontend.load import load_model",
        ),
        ("relax_tapml.cli.replay", "from relax_tapml import testing"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    """Sideways, upwards, relative, in a function, of the package itself: none gets past."""
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("relax_tapml.build", "from relax_tapml.cli.exit import guarded"),
        ("relax_tapml.capture.store", "from relax_tapml.frontend.model import Model"),
        ("relax_tapml.migrate.driver", "from .step import Step\nimport tvm"),
    ],
)
def test_a_right_import_is_let_through(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_names_that_differ_between_tvm_releases_are_in_one_place() -> None:
    """So that the next release is one file's work."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in FILES.items()}
    assert [name for name, text in texts.items() if MOVED.search(text)] == ["relax_tapml._compat"]


@pytest.mark.parametrize("module", FILES)
def test_private_modules_are_imported_by_their_own_room(module: str) -> None:
    """A module `_name` may be imported by the folder it lies in and by folders below that."""
    source = FILES[module].read_text(encoding="utf-8")
    foreign = [
        name
        for name in imported_modules(source, module)
        for owner in owners_of(name)
        if not f"{module}.".startswith(f"{owner}.")
    ]
    assert foreign == []


def owners_of(module: str) -> list[str]:
    """The packages that have the private modules and packages in the path of a module."""
    parts = module.split(".")
    return [".".join(parts[:at]) for at, part in enumerate(parts) if part.startswith("_")]


@pytest.mark.parametrize("room", sorted(PACKAGES - {"relax_tapml"}))
def test_every_room_describes_itself(room: str) -> None:
    """Its `__init__.py` has a docstring, and `__all__` names what other rooms may import.

    Where it defines nothing itself, that is every module and folder in it whose name does not begin
    with an underscore. It imports none of them, so that one module does not load the others.
    """
    tree = ast.parse(FILES[f"{room}.__init__"].read_text(encoding="utf-8"))
    exported = {
        ast.unparse(statement.targets[0]): ast.literal_eval(statement.value)
        for statement in tree.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
    }.get("__all__")
    assert ast.get_docstring(tree)
    assert exported
    if len(tree.body) == 2:
        names = [name.rpartition(".")[2] for name in MODULES if name.rpartition(".")[0] == room]
        assert sorted(exported) == sorted(name for name in names if not name.startswith("_"))


def test_the_picture_of_the_rooms_is_true() -> None:
    """The docs draw the levels, the highest first."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = re.search(r"## Rooms.*?```\n(.*?)```", page, re.DOTALL)
    assert drawn is not None
    assert [set(line.split()) for line in drawn[1].splitlines()] == LEVELS[::-1]


def test_one_place_asks_for_the_system() -> None:
    """Others ask `system` for what they need."""
    asks = re.compile(r"\bsys\.platform\b|\bos\.uname\b|\bplatform\.system\b|\bos\.name\b")
    texts = {name: path.read_text(encoding="utf-8") for name, path in FILES.items()}
    assert [name for name, text in texts.items() if asks.search(text)] == ["relax_tapml.system"]
