"""Reading a store, and the errors of a damaged one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from campaign_readers import read_store
from damaged_json import damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from relax_tapml.capture._writer import StoreWriter
from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import SiteRecord, TensorValue, parse_ref, scalar_ref
from relax_tapml.errors import StoreError


def write(store, *arrays, name="s"):
    """Record a complete sample with a call that got and returned the arrays."""
    with StoreWriter(store.folder) as writer:
        writer.begin_sample(name)
        refs = [f"t:{writer.add_tensor(HostTensor.of_array(array))}" for array in arrays]
        writer.add_call(frame=0, function="main", call=0, site="main/000/f", inputs=refs)
        writer.finish_call(frame=0, call=0, outputs=refs)
        writer.end_sample(refs)
    return [ref[2:] for ref in refs]


def segments(store):
    return sorted((store.folder / "segments").iterdir())


def test_create_records_manifest_and_versions(store):
    """A manifest has the schema, the versions, and the caller's entries."""
    manifest = store.manifest
    assert (manifest["model"], manifest["schema"]) == ("test", 1)
    assert set(manifest["versions"]) == {"relax-tapml", "apache-tvm", "apache-tvm-ffi"}
    assert store.samples() == []


def test_create_refuses_an_existing_store(store):
    """Nothing is overwritten."""
    with pytest.raises(StoreError, match=r"there is one already\. Open it to resume"):
        CaptureStore.create(store.folder, {})


def test_interrupted_create_can_be_repeated(store, tmp_path):
    """A process killed while it made the index leaves a folder that is no store yet."""
    folder = tmp_path / "interrupted"
    shutil.copytree(store.folder, folder)
    (folder / "index.sqlite").rename(folder / "index.sqlite.tmp")
    with pytest.raises(StoreError, match="is not a capture store"):
        CaptureStore.open(folder)
    CaptureStore.create(folder, {"model": "again"}).close()


@pytest.mark.parametrize(
    ("folder", "content", "message"),
    [
        ("nowhere", None, "nowhere: the folder does not exist. Check the path"),
        ("", None, "is not a capture store: expected index.sqlite"),
        ("", b"not a database" * 1000, "index of capture store .* is damaged"),
    ],
    ids=["no folder", "no store", "no database"],
)
def test_what_is_no_store_is_refused(tmp_path, folder, content, message):
    """With its name, the file that a store needs, and the fix."""
    if content:
        (tmp_path / "index.sqlite").write_bytes(content)
    with pytest.raises(StoreError, match=message):
        CaptureStore.open(tmp_path / folder)


def test_open_newer_schema(store):
    """A store of another schema is not guessed at."""
    with sqlite3.connect(store.folder / "index.sqlite") as connection:
        connection.execute("UPDATE manifest SET value = '2' WHERE key = 'schema'")
    with pytest.raises(StoreError, match=r"has schema 2, expected 1\. Read it with"):
        CaptureStore.open(store.folder)


def test_open_in_a_read_only_folder(store, monkeypatch):
    """A store on read-only media can be read."""
    digests = write(store, np.arange(3))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with CaptureStore.open(store.folder) as read_only:
        np.testing.assert_array_equal(read_only.tensor(digests[0]), np.arange(3))


def test_equal_tensors_are_stored_once(store):
    """Equal content of two samples takes space once, and is counted as seen twice."""
    array = np.arange(1000.0)
    assert write(store, array, array, name="a") == write(store, array, array.copy(), name="b")
    assert store.stats().tensors == 1
    assert store.stats().activation_bytes == array.nbytes
    assert len(segments(store)) == 1


def test_segments_are_plain_safetensors(store):
    """Another program can read a segment by digest."""
    (digest,) = write(store, np.arange(6, dtype="float32").reshape(2, 3))
    with safe_open(segments(store)[0], framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor(digest), store.tensor(digest))


def test_calls_can_be_selected(store):
    """By site, by sample, by both; values are typed."""
    (digest,) = write(store, np.zeros(3, "float32"), name="a")
    write(store, np.ones(3, "float32"), name="b")
    assert [call.sample for call in store.calls()] == ["a", "b"]
    assert [call.sample for call in store.calls(sample="b")] == ["b"]
    assert list(store.calls(site="main/001/g")) == []
    (call,) = store.calls(site="main/000/f", sample="a")
    assert call.inputs == (TensorValue(digest=digest, dtype="float32", shape=(3,)),)
    assert store.sample_outputs("a") == call.outputs


@pytest.mark.parametrize(
    "value",
    [(4, 8), (), 7, -(2**63), True, False, None, 0.1, float("inf"), -0.0, "", "a:b\nü", "none"],
)
def test_scalar_refs_read_back(value):
    """A value survives its written form, with its type."""
    read = parse_ref(scalar_ref(value))
    assert (read, type(read), str(read)) == (value, type(value), str(value))


def test_nan_reads_back():
    """NaN, which equals nothing, is still NaN."""
    assert np.isnan(parse_ref(scalar_ref(float("nan"))))


def test_unknown_names(store):
    """They are errors with the name."""
    with pytest.raises(StoreError, match="has no tensor abc"):
        store.tensor("abc")
    with pytest.raises(StoreError, match="has no parameter 'w'"):
        store.parameter("w")
    with pytest.raises(StoreError, match=r"no complete sample 's', complete are \[\]"):
        store.sample_outputs("s")
    with pytest.raises(StoreError, match="has no sample 's' to discard"):
        store.discard_sample("s")
    with pytest.raises(ValueError, match="'q:1' is not a capture ref"):
        parse_ref("q:1")


@pytest.mark.parametrize("kept", [0, 4, 20, -1])
def test_truncated_segment(store, kept):
    """A segment cut anywhere is refused, by name, by readers and by the next writer."""
    (digest,) = write(store, np.arange(100.0))
    (segment,) = segments(store)
    content = segment.read_bytes()
    segment.write_bytes(content[:kept])
    pattern = rf"{segment} is damaged: .*Restore the file, or delete the store and capture again"
    with pytest.raises(StoreError, match=pattern):
        store.tensor(digest)
    with pytest.raises(StoreError, match=pattern):
        StoreWriter(store.folder)


def test_flipped_byte_is_found_when_verified(store):
    """Verification compares content with its name."""
    (digest,) = write(store, np.arange(100.0))
    (segment,) = segments(store)
    content = bytearray(segment.read_bytes())
    content[-7] ^= 1
    segment.write_bytes(content)
    store.tensor(digest)
    with pytest.raises(StoreError, match=rf"{segment} is damaged: expected tensor {digest}"):
        store.tensor(digest, verify=True)


@pytest.mark.parametrize(
    ("replace", "message"),
    [(lambda path: None, "cannot be read: No such file"), (os.mkfifo, "is no file")],
    ids=["missing", "a pipe without a writer"],
)
def test_a_segment_that_is_no_file_is_refused(store, replace, message):
    """By name, and without waiting."""
    (digest,) = write(store, np.arange(100.0))
    (segment,) = segments(store)
    segment.unlink()
    replace(segment)
    with pytest.raises(StoreError, match=rf"{segment} {message}"):
        store.tensor(digest)


def test_segment_of_other_content(store):
    """A segment that lacks a tensor the index expects, or has one of another size."""
    first = write(store, np.arange(100.0), name="a")[0]
    second = write(store, np.arange(50.0), name="b")[0]
    one, two = segments(store)
    shutil.copy(two, one)
    with pytest.raises(StoreError, match=f"expected tensor {first} in it, found none"):
        store.tensor(first)
    with sqlite3.connect(store.folder / "index.sqlite") as connection:
        connection.execute("UPDATE tensors SET shape = '[7]' WHERE digest = ?", [second])
    with pytest.raises(StoreError, match=r"disagrees with the index .* takes 56 bytes, got 400"):
        store.tensor(second)


COLUMNS = {
    "manifest": ["key", "value"],
    "sites": ["site", "function", "unit", "kind", "description"],
    "samples": ["name", "complete", "seen_bytes"],
    "calls": ["sample", "frame", "call", "function", "site", "inputs", "outputs"],
    "outputs": ["position", "value"],
    "tensors": ["digest", "dtype", "shape", "nbytes", "segment"],
    "params": ["name", "digest"],
}
VALUES = (
    *(None, "x", -1, 2**63 - 1, 0.5, b"\xff\xfe", "[" * 5000, "[1]", "{}", "null", "NaN"),
    *('["t:zz"]', '["i:9999999999999999999999"]', '["f:zz"]', '["f:0x1p99999"]', '["s:-1,x"]'),
    *('["b:7"]', '["object"]', "[[[]]]", "[1.5]", "[-2,-50]", "../../x", "int4", "float32x0"),
)


@pytest.mark.parametrize("table", COLUMNS)
def test_any_other_value_in_the_index_is_refused_or_harmless(store, table):
    """Every error names the damaged store."""
    digests = write(store, np.arange(100.0), np.arange(3))
    with StoreWriter(store.folder) as writer:
        writer.add_sites([SiteRecord(site="main/000/f", function="main", unit="f", kind="tir")])
        writer.add_parameter("w", digests[0])
        writer.flush()
    index = store.folder / "index.sqlite"
    good = index.read_bytes()
    for column in COLUMNS[table]:
        for value in VALUES:
            with closing(sqlite3.connect(index)) as connection, contextlib.suppress(sqlite3.Error):
                connection.execute(f"UPDATE {table} SET {column} = ?", [value])
                connection.commit()
            for read in (read_store, lambda folder: StoreWriter(folder).close()):
                with contextlib.suppress(StoreError):
                    read(store.folder)
            index.write_bytes(good)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE params",
        "CREATE TRIGGER t AFTER DELETE ON params BEGIN SELECT 1; END",
        "CREATE INDEX i ON params (digest)",
        *(
            f"ALTER TABLE {table} RENAME TO old; CREATE VIEW {table} AS SELECT old.* FROM old, "
            "(WITH RECURSIVE q(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM q) SELECT n FROM q) "
            "WHERE n < 0"
            for table in ("params", "manifest")
        ),
    ],
)
def test_an_index_with_other_tables_is_refused_before_it_is_read(store, statement):
    """A view may be computed for ever."""
    with closing(sqlite3.connect(store.folder / "index.sqlite")) as connection:
        connection.executescript(statement)
    with pytest.raises(StoreError, match=r"index\.sqlite is damaged: it has other tables"):
        CaptureStore.open(store.folder)


@given(data=st.data())
@settings(
    max_examples=100,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_other_value_in_a_segment_header_is_refused_or_harmless(store, data):
    """For all offsets in its header."""
    if not segments(store):
        write(store, np.arange(100.0), np.arange(3))
    (segment,) = segments(store)
    good = segment.read_bytes()
    end = 8 + int.from_bytes(good[:8], "little")
    header = json.dumps(data.draw(damaged(json.loads(good[8:end])))).encode()
    segment.write_bytes(len(header).to_bytes(8, "little") + header + good[end:])
    try:
        with contextlib.suppress(StoreError):
            read_store(store.folder)
    finally:
        segment.write_bytes(good)


def test_record_of_a_missing_tensor(store):
    """An index that contradicts itself is not read around."""
    (digest,) = write(store, np.arange(3))
    with sqlite3.connect(store.folder / "index.sqlite") as connection:
        connection.execute("DELETE FROM tensors")
    with pytest.raises(StoreError, match=f"index .* is damaged: a record names tensor {digest}"):
        list(store.calls())


def test_two_writers_are_refused(store):
    """The second one fails at once; after the first has closed it may write."""
    with StoreWriter(store.folder), pytest.raises(StoreError, match=r"by another recorder\. Wait"):
        StoreWriter(store.folder)
    StoreWriter(store.folder).close()


def test_leftover_files_are_removed_by_the_next_writer(store):
    """Segments a killed writer did not get to index, whole or not, go away."""
    (digest,) = write(store, np.arange(3))
    folder = store.folder / "segments"
    (folder / "000002.safetensors").write_bytes(b"whole but not indexed")
    (folder / "000003.safetensors.tmp").write_bytes(b"cut")
    StoreWriter(store.folder).close()
    assert [file.name for file in segments(store)] == ["000001.safetensors"]
    write(store, np.arange(4), name="t")
    np.testing.assert_array_equal(store.tensor(digest, verify=True), np.arange(3))


def test_unflushed_records_are_not_seen(store):
    """Records appear together with their tensors, when flushed."""
    with StoreWriter(store.folder) as writer:
        writer.begin_sample("s")
        digest = writer.add_tensor(HostTensor.of_array(np.arange(3)))
        writer.add_call(frame=0, function="main", call=0, site="a", inputs=[f"t:{digest}"])
        assert (store.stats().calls, store.stats().tensors) == (0, 0)
        writer.flush()
        assert (store.stats().calls, store.stats().tensors) == (1, 1)
    (call,) = store.calls()
    assert call.outputs is None
    assert store.incomplete_samples() == ["s"]
    assert not store.is_complete("s")


def test_failed_flush_leaves_nothing_behind(store, monkeypatch):
    """When the disk is full, no temporary file and no row stay."""

    def full(path, tensors):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with StoreWriter(store.folder) as writer:
        writer.begin_sample("s")
        writer.add_tensor(HostTensor.of_array(np.arange(3)))
        with monkeypatch.context() as patch:
            patch.setattr("relax_tapml.capture._segment.write_tensors", full)
            with pytest.raises(OSError, match="No space left"):
                writer.flush()
        assert segments(store) == []
        assert store.stats().tensors == 0
        writer.flush()
        assert store.stats().tensors == 1


def test_discarded_sample_is_forgotten(store):
    """Its records go, other samples' stay, and so do tensors."""
    write(store, np.arange(3), name="a")
    (digest,) = write(store, np.arange(4), name="b")
    store.discard_sample("b")
    assert store.samples() == ["a"]
    assert [call.sample for call in store.calls()] == ["a"]
    np.testing.assert_array_equal(store.tensor(digest), np.arange(4))


def test_sites_are_described(store):
    """Descriptions are JSON, and the last one counts."""
    first = SiteRecord(site="main/000/f", function="main", unit="f", kind="call_tir")
    last = SiteRecord(
        site="main/000/f", function="main", unit="f", kind="call_tir", description={"n": [1]}
    )
    with StoreWriter(store.folder) as writer:
        writer.add_sites([first])
        writer.flush()
        writer.add_sites([last])
        writer.flush()
    assert store.sites() == [last]


def test_store_is_hardly_larger_than_its_tensors(store):
    """Names and records take at most a twentieth of ordinary activations."""
    rng = np.random.default_rng(0)
    with StoreWriter(store.folder) as writer:
        writer.begin_sample("s")
        for call in range(400):
            digest = writer.add_tensor(HostTensor.of_array(rng.random((11, 384), "float32")))
            refs = [f"t:{digest}"] * 3
            site = f"main/{call:03d}/fused_matmul{call}_add2"
            writer.add_call(frame=0, function="main", call=call, site=site, inputs=refs)
            writer.finish_call(frame=0, call=call, outputs=refs)
        writer.end_sample([])
    stats = store.stats()
    assert stats.disk_bytes <= 1.05 * stats.activation_bytes
    used = sum(
        file.stat().st_size for file in store.folder.rglob("*") if file.suffix != ".sqlite-shm"
    )
    assert used <= stats.disk_bytes + 65536


def test_manifest_must_be_json(tmp_path):
    """What cannot be written is refused while nothing is there yet."""
    with pytest.raises(TypeError, match="not JSON serializable"):
        CaptureStore.create(tmp_path / "store", {"x": object()})
    CaptureStore.create(tmp_path / "store", json.loads('{"x": 1}')).close()
