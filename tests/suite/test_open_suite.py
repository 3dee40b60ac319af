"""What is opened is what was written, and anything else is refused before anything runs."""

import contextlib
import copy
import hashlib
import json
import os
import shutil

import pytest
import tvm_ffi
from damaged_json import damaged
from edited_suite import edited
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.suite.manifest import SCHEMA
from relax_tapml.suite.manifest_file import seal
from relax_tapml.suite.open_suite import open_suite

FUZZ = settings(max_examples=120, derandomize=True)


def _edit(suite, change):
    """Change the manifest and give it a right checksum, as a hostile person would."""
    with edited(suite) as document:
        change(document)


def _flip_last_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _list(suite, name, data=None):
    """Name a file in the manifest, with a right checksum."""
    if data is None:
        data = (suite / name).read_bytes()
    _edit(suite, lambda d: d["sha256"].update({name: hashlib.sha256(data).hexdigest()}))


def _outside(suite):
    (suite.parent / "secret.json").write_text("{}")
    _list(suite, "../secret.json")


def _linked_folder(suite):
    (suite.parent / "elsewhere").mkdir()
    (suite / "link").symlink_to(suite.parent / "elsewhere")
    (suite.parent / "elsewhere" / "x").write_text("")
    _list(suite, "link/x")


def _linked_file(suite):
    path = suite / "units" / "add.json"
    path.rename(suite.parent / "add.json")
    path.symlink_to(suite.parent / "add.json")


def _pipe(suite):
    os.mkfifo(suite / "pipe.json")
    _list(suite, "pipe.json", b"")


def _tensor(suite, change):
    """Replace the bytes of a tensor file, and its checksum."""
    path = next(iter(sorted((suite / "data").iterdir())))
    path.write_bytes(change(path.read_bytes()))
    _list(suite, f"data/{path.name}")


def _header(suite, change):
    def changed(data):
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        change(header)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[end:]

    _tensor(suite, changed)


def _first_tensor(document):
    return next(iter(document["tensors"].values()))


DAMAGE = {
    "no manifest": (
        lambda s: (s / "manifest.json").unlink(),
        "manifest.json does not exist, so .* is not a suite. Name an output folder",
    ),
    "manifest cut short": (
        lambda s: (s / "manifest.json").write_bytes((s / "manifest.json").read_bytes()[:-9]),
        "manifest.json is damaged: .*Carve the suite again",
    ),
    "manifest of something else": (
        lambda s: (s / "manifest.json").write_text("[]"),
        "manifest.json is not the manifest of a suite",
    ),
    "wrong kind": (
        lambda s: _edit(s, lambda d: d.update(kind="relax_tapml.bundle")),
        "manifest.json is not the manifest of a suite",
    ),
    "a deep manifest": (
        lambda s: (s / "manifest.json").write_text("[" * 500_000),
        "manifest.json is damaged: it is nested too deeply",
    ),
    "a huge manifest": (
        lambda s: os.truncate(s / "manifest.json", 2**40),
        r"manifest.json has 1099511627776 bytes, expected at most \d+. Carve",
    ),
    "newer schema": (
        lambda s: _edit(s, lambda d: d.update(schema=SCHEMA + 1)),
        f"has schema {SCHEMA + 1}, this version reads 3, 4 and {SCHEMA}. Use the version of .*tvm",
    ),
    "older schema": (
        lambda s: _edit(s, lambda d: d.update(schema=1)),
        f"has schema 1, this version reads 3, 4 and {SCHEMA}. Carve the suite again",
    ),
    "no schema": (
        lambda s: _edit(s, lambda d: d.pop("schema")),
        f"has schema None, this version reads 3, 4 and {SCHEMA}",
    ),
    "an edited manifest": (
        lambda s: (s / "manifest.json").write_text(
            (s / "manifest.json").read_text().replace('"site": "main', '"site": "mane')
        ),
        "manifest.json was changed: expected checksum .*Carve the suite again",
    ),
    "missing field": (
        lambda s: _edit(s, lambda d: d["units"]["add"]["cases"][0].pop("outputs")),
        "manifest.json is damaged: .*outputs.*Carve the suite again",
    ),
    "a case without outputs": (
        lambda s: _edit(s, lambda d: d["units"]["add"]["cases"][0].update(outputs=[])),
        "manifest.json is damaged: .*has no outputs to compare",
    ),
    "a tensor that is not listed": (
        lambda s: _edit(s, lambda d: d["tensors"].pop(next(iter(d["tensors"])))),
        "manifest.json is damaged: it does not list",
    ),
    "a file without a checksum": (
        lambda s: _edit(s, lambda d: d["sha256"].pop("units/add.json")),
        "manifest.json is damaged: .*units/add.json",
    ),
    "a module that could be edited": (
        lambda s: _edit(s, lambda d: d["units"]["add"].update(module="test_add.py")),
        "manifest.json is damaged: .*'test_add.py' should end with .json",
    ),
    "a path outside": (_outside, "names '../secret.json', which is outside"),
    "a link outside": (_linked_folder, "names 'link/x', which is outside"),
    "a file that is a link": (_linked_file, "names 'units/add.json', which is outside"),
    "a pipe": (_pipe, "pipe.json is listed in manifest.json but is no file"),
    "a path with a zero": (
        lambda s: _list(s, "a\0b", b""),
        "is listed in manifest.json but cannot be read: .*null",
    ),
    "an absolute path": (
        lambda s: _list(s, "/etc/hostname", b""),
        "names '/etc/hostname', which is outside",
    ),
    "a changed module": (
        lambda s: _flip_last_byte(s / "units" / "add.json"),
        "add.json was changed or cut short: expected SHA-256 .*Carve the suite again",
    ),
    "a changed tensor": (
        lambda s: _flip_last_byte(next((s / "data").iterdir())),
        "safetensors was changed or cut short: expected SHA-256",
    ),
    "a missing test": (
        lambda s: (s / "test_add.py").unlink(),
        "test_add.py is listed in manifest.json but cannot be read: No such file",
    ),
    "a giant header": (
        lambda s: _tensor(s, lambda data: (2**60).to_bytes(8, "little") + data[8:]),
        "safetensors: its header claims 1152921504606846976 bytes, expected at most",
    ),
    "a header larger than the file": (
        lambda s: _tensor(s, lambda data: (50_000).to_bytes(8, "little") + data[8:]),
        "safetensors: its header claims 50000 bytes, expected at most",
    ),
    "a deep header": (
        lambda s: _tensor(s, lambda data: (9999).to_bytes(8, "little") + b"[" * 9999),
        "safetensors: not a whole safetensors file",
    ),
    "overlapping tensors": (
        lambda s: _header(s, lambda h: h.update(second=copy.deepcopy(h["tensor"]))),
        "safetensors: expected .*got .*second",
    ),
    "offsets out of range": (
        lambda s: _header(s, lambda h: h["tensor"].update(data_offsets=[0, 2**40])),
        r"safetensors: its tensors lie at \[\(0, 1099511627776\)\], expected",
    ),
    "another dtype than listed": (
        lambda s: _edit(s, lambda d: _first_tensor(d).update(dtype="int32")),
        r"safetensors: expected .*I32.*got .*F32",
    ),
    "another shape than listed": (
        lambda s: _edit(s, lambda d: _first_tensor(d).update(shape=[10**9, 10**9])),
        r"safetensors: a tensor of .*1000000000, 1000000000.*cannot be held",
    ),
    "more rows than a file can stand for": (
        lambda s: _edit(s, lambda d: _first_tensor(d).update(shape=[2**40, 4], rows=1)),
        "cannot be held",
    ),
    "a manifest that is a pipe": (
        lambda s: ((s / "manifest.json").unlink(), os.mkfifo(s / "manifest.json")),
        "manifest.json is no file",
    ),
    "an integer as a string": (
        lambda s: _edit(s, lambda d: d["units"]["add"]["cases"][0].update(frame="0")),
        r"Expected `int`, got `str`.*cases\[0\]\.frame",
    ),
    "half of a surrogate pair": (
        lambda s: _edit(s, lambda d: d.update(source="\ud800")),
        "manifest.json is damaged: .*surrogates",
    ),
    "no dtype": (
        lambda s: _edit(s, lambda d: _first_tensor(d).update(dtype="finfo")),
        "'finfo' is not a dtype that NumPy can hold",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_suite_is_refused_before_anything_runs(suite, damage, message):
    damage(suite)
    with pytest.raises(StoreError, match=message):
        open_suite(suite)


def test_a_pytest_file_may_be_edited(suite):
    (suite / "test_add.py").write_text("# mine\n")
    open_suite(suite)


def test_a_suite_may_be_moved(suite, tmp_path):
    moved = shutil.move(suite, tmp_path / "elsewhere")
    assert open_suite(moved).manifest.units


@pytest.mark.parametrize(
    ("unit", "case", "message"),
    [
        ("ad", "x", "has no case of unit 'ad'; it has add"),
        ("add", "x", "unit add of .* has no case 'x'; it has main-"),
    ],
)
def test_what_is_missing_is_reported_with_what_exists(suite, unit, case, message):
    with pytest.raises(UsageError, match=message):
        open_suite(suite).case(unit, case)


def _outcome(folder):
    """Everything that a suite holds, read through the package."""
    suite = open_suite(folder)
    tensors = {name: suite.tensor(name) for name in suite.manifest.tensors}
    return (
        suite.manifest,
        {name: (a.dtype, a.shape, a.tobytes()) for name, a in tensors.items()},
        {unit: tvm_ffi.structural_hash(suite.module(unit)) for unit in suite.manifest.units},
    )


@FUZZ
@given(data=st.data())
def test_any_changed_byte_is_refused_or_changes_nothing(suite, data):
    before = _outcome(suite)
    files = sorted(path for path in suite.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files), label="file")
    original = path.read_bytes()
    where = data.draw(st.integers(0, len(original) - 1), label="position")
    value = data.draw(st.integers(0, 255), label="value")
    path.write_bytes(original[:where] + bytes([value]) + original[where + 1 :])
    try:
        after = _outcome_or_message(suite)
    finally:
        path.write_bytes(original)
    assert path.name in after if isinstance(after, str) else after == before


def _outcome_or_message(suite):
    try:
        return _outcome(suite)
    except StoreError as error:
        return str(error)


@FUZZ
@given(data=st.data())
def test_a_hostile_manifest_never_ends_in_another_error(suite, data):
    """Any value of the manifest is replaced or removed, and the checksum is made right again."""
    original = (suite / "manifest.json").read_bytes()
    document = data.draw(damaged(json.loads(original)))
    (suite / "manifest.json").write_bytes(seal(document))
    try:
        with contextlib.suppress(StoreError):
            _outcome(suite)
    finally:
        (suite / "manifest.json").write_bytes(original)


@pytest.mark.parametrize(
    ("part", "change", "fault"),
    [
        ("outputs", lambda items: items.append(items[0]), "outputs, its function returns"),
        ("inputs", lambda items: items.append(items[0]), "inputs, its function takes"),
        ("inputs", lambda items: items.clear(), "0 inputs, its function takes"),
    ],
)
def test_a_case_that_does_not_fit_its_function_is_refused(suite, part, change, fault):
    _edit(suite, lambda d: change(d["units"]["add"]["cases"][0][part]))
    with pytest.raises(StoreError, match=rf"add\.json: case .* has .*{fault}"):
        open_suite(suite).module("add")
