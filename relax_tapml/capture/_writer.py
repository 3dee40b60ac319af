"""The writer of a store; there is one at a time."""

from __future__ import annotations

import fcntl
import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from relax_tapml.capture._segment import Segment, write_segment
from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.capture.index import (
    SEGMENTS_FOLDER,
    index_errors,
    index_row,
    open_index,
    segment_file,
)
from relax_tapml.capture.values import SiteRecord
from relax_tapml.errors import StoreError
from relax_tapml.files.closing import Closing
from relax_tapml.files.scratch import sweep

_LOCK_FILE = "writer.lock"


class StoreWriter(Closing):
    """Append records to a store; they are on disk after ``flush``.

    Opening it takes the store's lock, which ends with the process, and removes files that a killed
    writer did not add to the index. For one thread at a time.

    Parameters
    ----------
    folder
        An existing store.

    Raises
    ------
    StoreError
        Another writer has the lock, a segment is missing or cut short, or the store cannot be
        opened.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments = folder / SEGMENTS_FOLDER
        self._index = open_index(folder, is_written=True)
        try:
            self._lock = (folder / _LOCK_FILE).open("w")
            try:
                self._take_lock()
                with index_errors(folder):
                    self._index.execute("PRAGMA synchronous = NORMAL")
                    self._next_segment = self._clean_segments()
            except BaseException:
                self._lock.close()
                raise
        except BaseException:
            self._index.close()
            raise
        self._sample: int | None = None
        self._parameters: dict[str, str] = {}
        self._tensors: dict[str, HostTensor] = {}
        self._rows: list[tuple[str, Sequence[Any]]] = []
        self._seen_bytes = 0
        self._held_bytes = 0
        self._held_since: float | None = None

    def abandon(self) -> None:
        """Drop everything that is not flushed."""
        self._tensors, self._rows = {}, []
        self._seen_bytes = self._held_bytes = 0
        self._held_since = None

    @property
    def held_bytes(self) -> int:
        """Bytes of tensors not flushed yet."""
        return self._held_bytes

    @property
    def held_s(self) -> float:
        """Seconds since the oldest record that is not flushed yet."""
        return 0.0 if self._held_since is None else time.monotonic() - self._held_since

    def add_sites(self, sites: Iterable[SiteRecord]) -> None:
        """Describe sites; a site described before is described anew."""
        for site in sites:
            description = json.dumps(site.description)
            self._append(
                "INSERT OR REPLACE INTO sites VALUES (?, ?, ?, ?, ?)",
                [site.site, site.function, site.unit, site.kind, description],
            )

    def set_manifest(self, key: str, value: Any) -> None:
        """Add an entry to the manifest, or replace it; ``value`` is JSON."""
        self._append("INSERT OR REPLACE INTO manifest VALUES (?, ?)", [key, json.dumps(value)])

    def begin_sample(self, name: str) -> None:
        """Begin a sample, dropping an earlier attempt that did not end.

        Raises
        ------
        StoreError
            The sample is complete.
        """
        row = self._index.execute("SELECT complete FROM samples WHERE name = ?", [name]).fetchone()
        if row is not None:
            if row[0]:
                raise StoreError(
                    f"Sample {name!r} is complete in capture store {self._folder}. "
                    "Skip it, or discard it before recording it again."
                )
            self.discard_sample(name)
        cursor = self._index.execute(
            "INSERT INTO samples (name, complete, seen_bytes) VALUES (?, 0, 0)", [name]
        )
        self._sample = cursor.lastrowid

    def discard_sample(self, name: str) -> None:
        """Delete the records of a sample.

        Raises
        ------
        StoreError
            There is no such sample.
        """
        row = self._index.execute("SELECT sample FROM samples WHERE name = ?", [name]).fetchone()
        if row is None:
            raise StoreError(f"Capture store {self._folder} has no sample {name!r} to discard.")
        with _Transaction(self):
            for table in ("calls", "outputs", "samples"):
                self._index.execute(f"DELETE FROM {table} WHERE sample = ?", row)

    def add_tensor(self, tensor: HostTensor) -> str:
        """Keep a tensor until the next flush, unless the store has it; return its digest."""
        digest = tensor.digest
        if digest not in self._tensors and not self._has_tensor(digest):
            self._tensors[digest] = tensor
            self._held_bytes += tensor.nbytes
            self._hold()
        return digest

    def add_parameter(self, name: str, digest: str) -> str:
        """Name a tensor, unless the name is taken; return the digest that has the name."""
        if name not in self._parameters:
            query = "SELECT digest FROM params WHERE name = ?"
            row = self._index.execute(query, [name]).fetchone()
            self._parameters[name] = row[0] if row else digest
            if row is None:
                self._append("INSERT INTO params VALUES (?, ?)", [name, digest])
        return self._parameters[name]

    def count_seen(self, nbytes: int) -> None:
        """Add to the bytes of activations captured in this sample, stored before or not."""
        self._seen_bytes += nbytes

    def add_call(
        self, *, frame: int, function: str, call: int, site: str, inputs: Sequence[str]
    ) -> None:
        """Record that a site was called; ``inputs`` are refs with digests."""
        self._append(
            "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, NULL)",
            [self._current_sample(site), frame, call, function, site, json.dumps(inputs)],
        )

    def finish_call(self, *, frame: int, call: int, outputs: Sequence[str]) -> None:
        """Record that a call returned; ``outputs`` are refs with digests."""
        self._append(
            "UPDATE calls SET outputs = ? WHERE sample = ? AND frame = ? AND call = ?",
            [json.dumps(outputs), self._current_sample("a call"), frame, call],
        )

    def end_sample(self, outputs: Sequence[str] | None) -> None:
        """Flush the sample; ``outputs`` completes it, None leaves it incomplete."""
        sample = self._current_sample("the end of a sample")
        if outputs is not None:
            for position, ref in enumerate(outputs):
                self._append("INSERT INTO outputs VALUES (?, ?, ?)", [sample, position, ref])
            self._append("UPDATE samples SET complete = 1 WHERE sample = ?", [sample])
        self.flush()
        self._sample = None

    def flush(self) -> None:
        """Write what is not flushed: tensors to a segment, then all records in one transaction."""
        if self._tensors:
            write_segment(self._segments / segment_file(self._next_segment), self._tensors.values())
        with _Transaction(self):
            self._index.executemany(
                "INSERT INTO tensors VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        tensor.digest,
                        tensor.dtype,
                        json.dumps(tensor.shape),
                        tensor.nbytes,
                        self._next_segment,
                    )
                    for tensor in self._tensors.values()
                ],
            )
            for statement, values in self._rows:
                self._index.execute(statement, values)
            self._index.execute(
                "UPDATE samples SET seen_bytes = seen_bytes + ? WHERE sample = ?",
                [self._seen_bytes, self._sample],
            )
        self._next_segment += bool(self._tensors)
        self.abandon()

    def close(self) -> None:
        """Close the index and release the lock, without flushing."""
        self.abandon()
        # Move the content of the log into the index, so that a read-only copy has it. An active
        # reader or a full disk prevents that, and the log stays.
        with suppress(sqlite3.OperationalError):
            self._index.execute("PRAGMA busy_timeout = 0")
            self._index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._index.close()
        self._lock.close()

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"Capture store {self._folder} is being written by another recorder. "
                "Wait for it to end, or capture into another folder."
            ) from error

    def _clean_segments(self) -> int:
        """Remove unindexed files, check the indexed ones, and return the next number."""
        rows = self._index.execute("SELECT DISTINCT segment FROM tensors ORDER BY segment")
        numbers = [number for row in rows for number in index_row(row, tuple[int], self._folder)]
        indexed = {segment_file(number) for number in numbers}
        sweep(self._segments)
        for file in self._segments.glob("*.safetensors*"):
            if file.name not in indexed:
                file.unlink()
        for name in indexed:
            Segment(self._segments / name)
        return numbers[-1] + 1 if numbers else 1

    def _has_tensor(self, digest: str) -> bool:
        query = "SELECT 1 FROM tensors WHERE digest = ?"
        return self._index.execute(query, [digest]).fetchone() is not None

    def _current_sample(self, what: str) -> int:
        if self._sample is None:
            raise StoreError(
                f"Captured {what} outside of a sample. "
                "Run the module within `with recorder.sample(name):`."
            )
        return self._sample

    def _append(self, statement: str, values: Sequence[Any]) -> None:
        self._rows.append((statement, values))
        self._hold()

    def _hold(self) -> None:
        if self._held_since is None:
            self._held_since = time.monotonic()


class _Transaction:
    """All statements within it, or none."""

    def __init__(self, writer: StoreWriter) -> None:
        self._index = writer._index

    def __enter__(self) -> None:
        self._index.execute("BEGIN IMMEDIATE")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._index.execute("COMMIT" if error is None else "ROLLBACK")
