"""The index of a store: an SQLite file of samples, calls and tensors."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from relax_tapml.errors import MachineError, StoreError
from relax_tapml.files.read import Kind, parse_json, typed
from relax_tapml.files.replace import new_file
from relax_tapml.versions import versions

INDEX_FILE = "index.sqlite"
SEGMENTS_FOLDER = "segments"
SCHEMA = 1
_FIX = "Delete the store and capture again"
# Of a text: a call lists its tensors in one.
_MAX_VALUE_BYTES = 64 << 20
_OF_THE_MACHINE = (
    *("SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOMEM", "SQLITE_READONLY"),
    *("SQLITE_BUSY", "SQLITE_PERM"),
)

_TABLES = """
CREATE TABLE manifest (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sites (
    site TEXT PRIMARY KEY, function TEXT NOT NULL, unit TEXT NOT NULL, kind TEXT NOT NULL,
    description TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE samples (
    sample INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, complete INTEGER NOT NULL,
    seen_bytes INTEGER NOT NULL
);
CREATE TABLE calls (
    sample INTEGER NOT NULL, frame INTEGER NOT NULL, call INTEGER NOT NULL,
    function TEXT NOT NULL, site TEXT NOT NULL, inputs TEXT NOT NULL, outputs TEXT,
    PRIMARY KEY (sample, frame, call)
) WITHOUT ROWID;
CREATE TABLE outputs (
    sample INTEGER NOT NULL, position INTEGER NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (sample, position)
) WITHOUT ROWID;
CREATE TABLE tensors (
    digest TEXT PRIMARY KEY, dtype TEXT NOT NULL, shape TEXT NOT NULL, nbytes INTEGER NOT NULL,
    segment INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE params (name TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
"""


def segment_file(number: int) -> str:
    """Return the name of a segment's file in the segments folder."""
    return f"{number:06d}.safetensors"


def create_index(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the index of an empty store, atomically.

    ``manifest`` is free-form JSON; the schema and the tool's and TVM's versions are added.
    """
    rows = {**manifest, "schema": SCHEMA, "versions": versions()}
    with new_file(folder / INDEX_FILE) as partial:
        connection = sqlite3.connect(partial, isolation_level=None)
        try:
            connection.executescript(_TABLES)
            connection.executemany(
                "INSERT INTO manifest VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in rows.items()],
            )
            # Last: on a full disk, closing would leave data in the log without an error.
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()


def open_index(folder: Path, *, is_written: bool = False) -> sqlite3.Connection:
    """Open the index of a store, in autocommit mode.

    Parameters
    ----------
    folder
        The store.
    is_written
        Whether the connection may change it.

    Raises
    ------
    StoreError
        The folder is missing or no store, its index is damaged, or of a newer schema.
    """
    path = folder / INDEX_FILE
    if not folder.is_dir():
        raise StoreError(
            f"No capture store at {folder}: the folder does not exist. "
            "Check the path, or capture into it first."
        )
    if not path.is_file():
        raise StoreError(
            f"{folder} is not a capture store: expected {INDEX_FILE} in it. "
            "Name the folder that a capture wrote."
        )
    # A WAL index needs a writable folder; a read-only one has no writer.
    mode = "mode=rw" if os.access(folder, os.W_OK) else "immutable=1"
    with index_errors(folder):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?{mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=30,
        )
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
            # Views, triggers and indices in a file from outside could run for ever.
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute(f"PRAGMA query_only = {'OFF' if is_written else 'ON'}")
            _check_schema(connection, folder)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def index_errors(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors in the block into a ``StoreError``: the index is damaged.

    Or into a ``MachineError`` if the disk is full, a file cannot be opened, and so on.
    """
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith(_OF_THE_MACHINE):
            raise MachineError(
                f"The index of capture store {folder} cannot be used: {error}. Check for a full "
                "disk, missing rights or too many open files; the store may be intact"
            ) from error
        raise StoreError(
            f"The index of capture store {folder} is damaged ({error}). "
            "Delete the store and capture again."
        ) from error


def index_value(text: str, kind: type[Kind], folder: Path) -> Kind:
    """Return the typed JSON value in a text of the index. Raises ``StoreError`` if it is none."""
    path = folder / INDEX_FILE
    return typed(parse_json(text.encode(), path, fix=_FIX), kind, path, fix=_FIX)


def index_row(row: Any, kind: type[Kind], folder: Path) -> Kind:
    """Return a row of the index as a typed tuple. Raises ``StoreError`` if it is none."""
    return typed(row, kind, folder / INDEX_FILE, fix=_FIX)


def _check_schema(connection: sqlite3.Connection, folder: Path) -> None:
    message = f"{folder / INDEX_FILE} is damaged: it has other tables than a capture store. {_FIX}"
    tables = _tables(connection)
    # Before the first row is read: a view may be computed for ever.
    if not {kind for kind, *_ in tables} <= {"table", "index"}:
        raise StoreError(message)
    row = connection.execute("SELECT value FROM manifest WHERE key = 'schema'").fetchone()
    schema: object = None
    if row is not None:
        schema = index_value(index_row(row, tuple[str], folder)[0], object, folder)
    if schema != SCHEMA or isinstance(schema, bool):
        raise StoreError(
            f"Capture store {folder} has schema {schema}, expected {SCHEMA}. "
            "Read it with the relax_tapml that wrote it, or capture again."
        )
    with closing(sqlite3.connect(":memory:")) as expected:
        expected.executescript(_TABLES)
        if tables != _tables(expected):
            raise StoreError(message)


def _tables(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Return the definitions of all tables, indices, views and triggers of a database."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return sorted((*row[:3], " ".join(str(row[3]).split())) for row in rows)
