"""The artefacts that ``fuzz_artefacts.py`` damages: how each is damaged, and who reads it then."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import fuzz_damage as damage
from campaign_child import Place
from campaign_readers import FUNCTIONS, Work, called, command
from fuzz_damage import MANIFEST, Case, Change, files_of, seal_manifest


@dataclass(frozen=True)
class Damage:
    """One way to damage an artefact.

    Parameters
    ----------
    weight
        How often it is drawn, beside the others.
    files
        A pattern below the root of the artefact: one of the files that fit is damaged.
    change
        What is done to the file.
    is_sealed
        Whether all checksums are made right again.
    must_refuse
        Whether reading must fail, because the file has a checksum that is wrong now.
    """

    weight: int
    files: str
    change: Change
    is_sealed: bool = False
    must_refuse: bool = False


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A kind of artefact.

    Parameters
    ----------
    root
        What the patterns of files are relative to, in the folder of originals and in the copy.
    parts
        What is copied; the root if it is empty.
    damages
        One of them is drawn.
    readers
        Command lines, with the weights that one of them is drawn by. In them ``{case}`` is the
        folder of copies, ``{originals}`` the folder of originals, ``{file}`` what is damaged and
        ``{unit}`` a unit. They may call one of ``campaign_readers.FUNCTIONS``.
    may_blame
        Whether exit code 1 may be right: what is damaged decides what a unit computes, or should.
    share
        How many of 40 mutations are of it: more where more is read, fewer where reading is slow.
    """

    root: str
    parts: tuple[str, ...] = ()
    damages: tuple[Damage, ...]
    readers: dict[str, int]
    may_blame: bool = True
    share: int


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One damaged artefact, and what reads it.

    Parameters
    ----------
    description
        What was damaged, and who reads it.
    work
        Reads it, and returns the exit code of a command.
    is_json
        Whether standard output must be JSON if the exit code is 0 or 1.
    must_refuse
        Whether reading it must fail: a file was changed whose checksum was not.
    may_blame
        Whether exit code 1 may be right.
    page
        An HTML page that may be written, in which no name may become markup.
    """

    description: str
    work: Work
    is_json: bool = False
    must_refuse: bool = False
    may_blame: bool = True
    page: Path | None = None


def make_mutation(name: str, originals: Path, place: Place) -> Mutation:
    """Make the mutation of a name in a place, which is emptied first."""
    place.clean()
    case = Case(originals=originals, place=place, draw=random.Random(name))
    artefact = ARTEFACTS[name.split(":")[1]]
    root = place.case / artefact.root
    for part in artefact.parts or (artefact.root,):
        _copy(originals / part, place.case / part)
    chosen = case.choose([one.weight for one in artefact.damages], artefact.damages)
    pattern = chosen.files.format(unit=case.unit)
    found = files_of(root, pattern)
    if chosen.must_refuse:
        found = [path for path in found if path.name != MANIFEST]
    case.file = case.draw.choice(found)
    before = case.file.read_bytes()
    text = f"{case.file.name}: {chosen.change(case, case.file)}"
    if chosen.is_sealed:
        seal_manifest(root)
    reader = case.choose(list(artefact.readers.values()), list(artefact.readers))
    return Mutation(
        description=f"{reader}: {text}",
        work=_reading(reader, case),
        is_json=reader.endswith("--json"),
        must_refuse=chosen.must_refuse and case.file.read_bytes() != before,
        may_blame=artefact.may_blame,
        page=place.case / "run" / "report.html",
    )


def _copy(original: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if original.is_dir() else shutil.copyfile)(original, to)


def _reading(reader: str, case: Case) -> Work:
    values = {
        "case": case.place.case,
        "originals": case.originals,
        "file": case.file,
        "unit": case.unit,
    }
    verb, *words = [word.format(**values) for word in reader.split()]
    if verb in FUNCTIONS:
        return called(lambda: FUNCTIONS[verb](*words))
    return command(verb, *words)


_INLINE = "--session inline"
_REPLAY = "replay {case}/run/tests --target llvm"
_REPRODUCE = "reproduce --output {case}/reproduced --force"
_QUICK = f"{_INLINE} --strategy isolated --no-probes --out {{case}}/out"
_RESUME = f"build {{originals}}/saved {_INLINE} --out {{case}}/run --resume"


def _of_run(file: str, change: Change, readers: dict[str, int], share: int) -> Artefact:
    """Return an artefact that is one file of an output folder."""
    damages = (Damage(9, file, change), Damage(1, file, damage.other_file))
    return Artefact(root="run", damages=damages, readers=readers, share=share)


# With checksums that are right most often, so that damage comes as far as it can.
ARTEFACTS = {
    "suite": Artefact(
        root="run/tests",
        parts=("run/kernels", "run/tests"),
        damages=(
            Damage(2, "**/*.safetensors", damage.any_bytes, must_refuse=True),
            Damage(6, MANIFEST, damage.json_values, is_sealed=True),
            Damage(1, MANIFEST, damage.json_text),
            Damage(6, "units/{unit}.json", damage.module, is_sealed=True),
            Damage(2, MANIFEST, damage.other_unit, is_sealed=True),
            Damage(3, "data/**/*", damage.tensors, is_sealed=True),
            Damage(2, MANIFEST, damage.large_tensor, is_sealed=True),
            Damage(3, "**/*", damage.other_file),
            Damage(1, MANIFEST, damage.strings_of_suite, is_sealed=True),
        ),
        readers={
            f"{_REPLAY} {_INLINE} --json": 4,
            f"{_REPLAY} {_INLINE}": 3,
            _REPLAY: 1,
            f"{_REPRODUCE} --no-run -- {{case}}/run {{unit}}": 3,
            f"{_REPRODUCE} -- {{case}}/run {{unit}}": 1,
            "merge {case}/merged {case}/run/tests {originals}/run/tests": 3,
            "read_suite {case}/run/tests": 4,
            "replay_suite {case}/run/tests": 2,
        },
        share=7,
    ),
    "store": Artefact(
        root="run/captures",
        damages=(
            Damage(3, "index.sqlite", damage.any_bytes),
            Damage(8, "index.sqlite", damage.tables),
            Damage(3, "segments/**/*", damage.tensors),
            Damage(1, "index.sqlite", damage.other_file),
            Damage(1, "segments/**/*", damage.other_file),
            Damage(1, "index.sqlite", damage.random_wal),
        ),
        readers={
            "capture ls {case}/run/captures": 2,
            "capture ls {case}/run/captures --json": 2,
            "read_store {case}/run/captures": 4,
        },
        share=5,
    ),
    "bundle": Artefact(
        root="run/bundle",
        damages=(
            Damage(3, "**/*", damage.any_bytes, must_refuse=True),
            Damage(6, MANIFEST, damage.json_values),
            Damage(1, MANIFEST, damage.json_text),
            Damage(6, "*.vm", damage.any_bytes, is_sealed=True),
            Damage(3, "params.safetensors", damage.tensors, is_sealed=True),
            Damage(2, "**/*", damage.other_file),
            Damage(1, "**/*.so", damage.planted_library, must_refuse=True),
        ),
        readers={
            "run_bundle {case}/run/bundle inline": 6,
            "run_bundle {case}/run/bundle process": 1,
        },
        share=4,
    ),
    "model": Artefact(
        root="saved",
        damages=(
            Damage(3, "**/*", damage.any_bytes, must_refuse=True),
            Damage(6, MANIFEST, damage.json_values),
            Damage(1, MANIFEST, damage.json_text),
            Damage(8, "module.json", damage.module, is_sealed=True),
            Damage(4, "**/*.safetensors", damage.tensors, is_sealed=True),
            Damage(2, "**/*", damage.other_file),
        ),
        readers={"read_model {case}/saved": 5, f"build {{case}}/saved {_QUICK}": 1},
        share=4,
    ),
    "model.json": Artefact(
        root="ir",
        damages=(
            Damage(8, "model.json", damage.module),
            Damage(2, "model.safetensors", damage.tensors),
            Damage(2, "*", damage.other_file),
        ),
        readers={
            "read_model {case}/ir/model.json {originals}/inputs/one.npz": 5,
            f"build {{case}}/ir/model.json --inputs {{originals}}/inputs/one.npz {_QUICK}": 1,
        },
        share=3,
    ),
    "model.pt2": Artefact(
        root="",
        parts=("model.pt2",),
        damages=(
            Damage(4, "model.pt2", damage.planted_pickle),
            Damage(5, "model.pt2", damage.archive),
            Damage(2, "model.pt2", damage.any_bytes),
            Damage(1, "model.pt2", damage.other_file),
        ),
        readers={"read_model {case}/model.pt2": 1},
        share=1,
    ),
    "lowered.json": _of_run(
        "lowered.json",
        damage.module,
        {"explain {case}/run": 4, "explain {case}/run --json": 1},
        share=3,
    ),
    "device.json": _of_run(
        "device.json",
        damage.module,
        {
            f"{_REPRODUCE} --no-run -- {{case}}/run {{unit}}": 6,
            f"{_REPRODUCE} -- {{case}}/run {{unit}}": 1,
        },
        share=2,
    ),
    "state.json": _of_run("state.json", damage.json_file, {_RESUME: 1}, share=2),
    "result.json": Artefact(
        root="run",
        parts=("run/result.json",),
        damages=(
            Damage(7, "result.json", damage.json_file),
            Damage(1, "result.json", damage.other_file),
            Damage(3, "result.json", damage.strings_of_result),
        ),
        readers={
            "report {case}/run": 2,
            "report {case}/run --all": 1,
            "report {case}/run --json": 1,
        },
        share=4,
    ),
    "boundary.json": Artefact(
        root="run/boundaries",
        damages=(
            Damage(5, "*.json", damage.boundary_values),
            Damage(2, "*.json", damage.boundary_layers),
            Damage(1, "*.json", damage.other_file),
        ),
        readers={
            "explain {originals}/run --boundary {file}": 4,
            "read_boundary {file}": 2,
            f"build {{originals}}/saved {_INLINE} --boundary {{file}} --out {{case}}/out": 1,
        },
        share=2,
    ),
    "inputs": Artefact(
        root="inputs",
        damages=(
            Damage(5, "*.npz", damage.archive),
            Damage(2, "*.npz", damage.npy_header),
            Damage(7, "*.safetensors", damage.tensors),
            Damage(4, "*", damage.any_bytes),
            Damage(4, "*", damage.other_file),
        ),
        readers={
            "read_model {originals}/saved {file}": 4,
            f"build {{originals}}/saved --inputs {{file}} {_QUICK}": 1,
        },
        share=2,
    ),
    # Whatever lies among the kernels, units are not to blame.
    "kernels": Artefact(
        root="run/kernels",
        parts=("run",),
        damages=(
            Damage(3, "**/*", damage.any_bytes),
            Damage(2, "**/*", damage.planted_library),
            Damage(1, "**/*", damage.other_file),
            Damage(1, "**/*", damage.swapped_file),
        ),
        readers={
            f"replay {{case}}/run --target llvm {_INLINE}": 3,
            "replay {case}/run --target llvm": 1,
            _RESUME: 1,
        },
        may_blame=False,
        share=1,
    ),
}
