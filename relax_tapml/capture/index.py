"""The index of a store: a SQLite file that says what was called with which tensors."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relax_tapml.errors import StoreError
from relax_tapml.files.replace import new_file

INDEX_FILE = "index.sqlite"
SEGMENTS_FOLDER = "segments"
SCHEMA = 1

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
    """Make the index of an empty store; it has its name only once it is whole.

    ``manifest`` is free-form JSON; the schema and the tool's and TVM's versions are added.
    """
    versions = {
        name: importlib.metadata.version(name)
        for name in ("relax-tapml", "apache-tvm", "apache-tvm-ffi")
    }
    rows = {**manifest, "schema": SCHEMA, "versions": versions}
    with new_file(folder / INDEX_FILE) as partial:
        connection = sqlite3.connect(partial, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_TABLES)
            connection.executemany(
                "INSERT INTO manifest VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in rows.items()],
            )
        finally:
            # The last connection moves what is in the log into the index.
            connection.close()


def open_index(folder: Path) -> sqlite3.Connection:
    """Open the index of a store, in autocommit mode.

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
    # A WAL index needs a writable folder; in a read-only one nobody can be writing.
    mode = "mode=rw" if os.access(folder, os.W_OK) else "immutable=1"
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?{mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=30,
        )
        try:
            _check_schema(connection, folder)
        except BaseException:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"The index of capture store {folder} is damaged ({error}). "
            "Delete the store and capture again."
        ) from error
    return connection


def _check_schema(connection: sqlite3.Connection, folder: Path) -> None:
    row = connection.execute("SELECT value FROM manifest WHERE key = 'schema'").fetchone()
    schema = json.loads(row[0]) if row else None
    if schema != SCHEMA:
        raise StoreError(
            f"Capture store {folder} has schema {schema}, expected {SCHEMA}. "
            "Read it with the relax_tapml that wrote it, or capture again."
        )
