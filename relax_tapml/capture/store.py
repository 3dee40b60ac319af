"""Captures on disk: which site was called with which tensors, each distinct tensor once.

A store is a folder with ``index.sqlite`` and ``segments/*.safetensors``. Tensors are named by
their content. A segment is in place before the index refers to it, so a store is consistent
whenever its writer is killed, and lacks at most what was not flushed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from relax_tapml.arrays import Array
from relax_tapml.capture._segment import Segment
from relax_tapml.capture._writer import StoreWriter
from relax_tapml.capture.host_tensor import HostTensor, packed_bytes
from relax_tapml.capture.index import (
    INDEX_FILE,
    SEGMENTS_FOLDER,
    create_index,
    index_errors,
    index_row,
    index_value,
    open_index,
    segment_file,
)
from relax_tapml.capture.values import CallRecord, SiteRecord, TensorValue, Value, parse_ref
from relax_tapml.errors import StoreError
from relax_tapml.files.closing import Closing
from relax_tapml.files.read import Kind


@dataclass(frozen=True, kw_only=True)
class StoreStats:
    """What a store holds.

    Parameters
    ----------
    samples, calls, tensors, parameters
        How many; ``tensors`` are distinct.
    incomplete_samples
        Samples whose capture did not end.
    parameter_bytes, activation_bytes
        Distinct tensors stored, with and without a parameter's name.
    seen_bytes
        Activations captured, equal ones counted again.
    disk_bytes
        Size of the index and the segments.
    """

    samples: int
    incomplete_samples: int
    calls: int
    tensors: int
    parameters: int
    parameter_bytes: int
    activation_bytes: int
    seen_bytes: int
    disk_bytes: int


class CaptureStore(Closing):
    """A store, to be read; what a ``Recorder`` flushes to it is visible at once.

    Use ``create`` or ``open``. For one thread at a time.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._index = connection
        self._segments: dict[int, Segment] = {}

    @classmethod
    def create(cls, folder: str | Path, manifest: Mapping[str, Any]) -> CaptureStore:
        """Make an empty store; missing parents are made too.

        Parameters
        ----------
        folder
            The folder; it may exist, without a store in it.
        manifest
            Free-form JSON; ``schema`` and ``versions`` are added.

        Raises
        ------
        StoreError
            There is a store already.
        """
        folder = Path(folder)
        if (folder / INDEX_FILE).exists():
            raise StoreError(
                f"Cannot create a capture store at {folder}: there is one already. "
                "Open it to resume its capture, or delete it."
            )
        (folder / SEGMENTS_FOLDER).mkdir(parents=True, exist_ok=True)
        create_index(folder, manifest)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> CaptureStore:
        """Open a store.

        Raises
        ------
        StoreError
            The folder is missing or no store, its index is damaged, or of another schema.
        """
        folder = Path(folder)
        return cls(folder, open_index(folder))

    @property
    def manifest(self) -> dict[str, Any]:
        """What the store was created with, its schema, and the versions of its writer."""
        rows = self._rows("SELECT key, value FROM manifest", kind=tuple[str, str])
        return {key: index_value(value, Any, self.folder) for key, value in rows}

    def sites(self) -> list[SiteRecord]:
        """Return the sites that the recorder's caller described, by name."""
        rows = self._rows(
            "SELECT site, function, unit, kind, description FROM sites ORDER BY site",
            kind=tuple[str, str, str, str, str],
        )
        return [
            SiteRecord(
                site=site,
                function=function,
                unit=unit,
                kind=kind,
                description=index_value(description, dict[str, Any], self.folder),
            )
            for site, function, unit, kind, description in rows
        ]

    def samples(self) -> list[str]:
        """Return the names of all samples, in the order they were recorded."""
        return self._names("SELECT name FROM samples ORDER BY sample")

    def incomplete_samples(self) -> list[str]:
        """Return the samples whose capture was interrupted or raised."""
        return self._names("SELECT name FROM samples WHERE complete = 0 ORDER BY sample")

    def is_complete(self, sample: str) -> bool:
        """Return whether a sample was recorded to its end."""
        query = "SELECT complete FROM samples WHERE name = ?"
        row = self._row(query, [sample], kind=tuple[int])
        return row is not None and bool(row[0])

    def calls(self, site: str | None = None, sample: str | None = None) -> Iterator[CallRecord]:
        """Yield calls by sample, frame and ordinal, those of incomplete samples too.

        Parameters
        ----------
        site, sample
            Only calls of this site, in this sample.
        """
        rows = self._rows(
            "SELECT name, frame, function, call, site, inputs, outputs "
            "FROM calls JOIN samples USING (sample) "
            "WHERE (?1 IS NULL OR site = ?1) AND (?2 IS NULL OR name = ?2) "
            "ORDER BY sample, frame, call",
            [site, sample],
            kind=tuple[str, int, str, int, str, str, str | None],
        )
        for name, frame, function, call, called, inputs, outputs in rows:
            yield CallRecord(
                sample=name,
                frame=frame,
                function=function,
                call=call,
                site=called,
                inputs=self._listed(inputs),
                outputs=None if outputs is None else self._listed(outputs),
            )

    def called_sites(self) -> frozenset[str]:
        """Return the sites that have a call."""
        return frozenset(self._names("SELECT DISTINCT site FROM calls"))

    def sample_outputs(self, sample: str) -> tuple[Value, ...]:
        """Return the leaves of the results of a complete sample's run.

        Raises
        ------
        StoreError
            There is no such sample, or it is not complete.
        """
        if not self.is_complete(sample):
            raise StoreError(
                f"Capture store {self.folder} has no complete sample {sample!r}, "
                f"complete are {sorted(set(self.samples()) - set(self.incomplete_samples()))}. "
                "Capture it again."
            )
        return self._values(
            self._names(
                "SELECT value FROM outputs JOIN samples USING (sample) WHERE name = ? "
                "ORDER BY position",
                [sample],
            )
        )

    def tensor(self, digest: str, *, verify: bool = False) -> Array:
        """Return a tensor's elements: a read-only view of the file.

        Low-precision types are ``ml_dtypes``; sub-byte elements come as their packed bytes, a
        one-dimensional ``uint8`` array; vectors come with their lanes as a last dimension.

        Parameters
        ----------
        digest
            Of a ``TensorValue``.
        verify
            Compare the content with the digest.

        Raises
        ------
        StoreError
            The store has no such tensor, or its segment is missing, cut short or changed.
        """
        query = "SELECT dtype, shape, segment FROM tensors WHERE digest = ?"
        row = self._row(query, [digest], kind=tuple[str, str, int])
        if row is None:
            raise StoreError(
                f"Capture store {self.folder} has no tensor {digest}. "
                "Take digests from this store's own records."
            )
        dtype, shape, number = row
        path = self.folder / SEGMENTS_FOLDER / segment_file(number)
        if number not in self._segments:
            self._segments[number] = Segment(path)
        data = self._segments[number].read(digest)
        try:
            tensor = HostTensor(dtype=dtype, shape=self._shape(shape), data=data)
            array = tensor.array()
        except StoreError:
            raise
        except Exception as error:  # TVM and NumPy may raise anything about dtypes and shapes.
            raise StoreError(
                f"Capture segment {path} disagrees with the index about tensor {digest}: {error}. "
                "Restore the file, or delete the store and capture again."
            ) from error
        if verify and tensor.digest != digest:
            raise StoreError(
                f"Capture segment {path} is damaged: expected tensor {digest}, its bytes are those "
                f"of {tensor.digest}. Restore the file, or delete the store and capture again."
            )
        return array

    def parameter(self, name: str, *, verify: bool = False) -> Array:
        """Return a parameter's or constant's elements, as ``tensor`` does.

        Raises
        ------
        StoreError
            No parameter of that name was captured, or as ``tensor``.
        """
        row = self._row("SELECT digest FROM params WHERE name = ?", [name], kind=tuple[str])
        if row is None:
            raise StoreError(
                f"Capture store {self.folder} has no parameter {name!r}, "
                f"it has {self.parameters()[:5]}... Capture a sample that uses it."
            )
        return self.tensor(row[0], verify=verify)

    def parameters(self) -> list[str]:
        """Return the names of the captured parameters and constants."""
        return self._names("SELECT name FROM params ORDER BY name")

    def stats(self) -> StoreStats:
        """Count what the store holds."""
        (counts,) = self._rows(
            "SELECT count(*), coalesce(sum(complete), 0), coalesce(sum(seen_bytes), 0) "
            "FROM samples",
            kind=tuple[int, int, int],
        )
        samples, complete, seen_bytes = counts
        (counted,) = self._rows(
            "SELECT (SELECT count(*) FROM calls), count(*), coalesce(sum(nbytes), 0), "
            "coalesce(sum(nbytes) FILTER (WHERE digest IN (SELECT digest FROM params)), 0) "
            "FROM tensors",
            kind=tuple[int, int, int, int],
        )
        calls, tensors, all_bytes, parameter_bytes = counted
        files = [
            self.folder / INDEX_FILE,
            *self.folder.glob(INDEX_FILE + "-wal"),
            *(self.folder / SEGMENTS_FOLDER).glob("*.safetensors"),
        ]
        return StoreStats(
            samples=samples,
            incomplete_samples=samples - complete,
            calls=calls,
            tensors=tensors,
            parameters=len(self.parameters()),
            parameter_bytes=parameter_bytes,
            activation_bytes=all_bytes - parameter_bytes,
            seen_bytes=seen_bytes,
            disk_bytes=sum(file.lstat().st_size for file in files),
        )

    def discard_sample(self, sample: str) -> None:
        """Delete a sample's records, so that it can be recorded again.

        Its tensors stay, and are used when it is recorded again.

        Raises
        ------
        StoreError
            There is no such sample, or a recorder is writing to the store.
        """
        with index_errors(self.folder), StoreWriter(self.folder) as writer:
            writer.discard_sample(sample)

    def close(self) -> None:
        """Close the index. Arrays that were returned stay valid."""
        self._index.close()
        self._segments.clear()

    def _rows(self, query: str, values: Sequence[Any] = (), *, kind: type[Kind]) -> list[Kind]:
        """Return the rows of a query, each a tuple of the given types."""
        with index_errors(self.folder):
            rows = self._index.execute(query, values).fetchall()
        return [index_row(row, kind, self.folder) for row in rows]

    def _row(self, query: str, values: Sequence[Any], *, kind: type[Kind]) -> Kind | None:
        rows = self._rows(query, values, kind=kind)
        return rows[0] if rows else None

    def _names(self, query: str, values: Sequence[Any] = ()) -> list[str]:
        return [name for (name,) in self._rows(query, values, kind=tuple[str])]

    def _shape(self, text: str) -> tuple[int, ...]:
        return index_value(text, tuple[Annotated[int, Meta(ge=0)], ...], self.folder)

    def _listed(self, text: str) -> tuple[Value, ...]:
        return self._values(index_value(text, list[str], self.folder))

    def _values(self, refs: Iterable[str]) -> tuple[Value, ...]:
        return tuple(map(self._value, refs))

    def _value(self, ref: str) -> Value:
        try:
            value = parse_ref(ref)
        except (ValueError, OverflowError) as error:
            raise StoreError(
                f"The index of capture store {self.folder} is damaged: {error}. "
                "Delete the store and capture again."
            ) from error
        if not isinstance(value, TensorValue):
            return value
        query = "SELECT dtype, shape FROM tensors WHERE digest = ?"
        row = self._row(query, [value.digest], kind=tuple[str, str])
        if row is None:
            raise StoreError(
                f"The index of capture store {self.folder} is damaged: a record names tensor "
                f"{value.digest}, which it does not have. Delete the store and capture again."
            )
        dtype, shape = row[0], self._shape(row[1])
        try:
            packed_bytes(dtype, shape)
        except Exception as error:  # TVM may raise anything about a dtype.
            raise StoreError(
                f"The index of capture store {self.folder} is damaged: tensor {value.digest} has "
                f"dtype {dtype!r}. Delete the store and capture again."
            ) from error
        return replace(value, dtype=dtype, shape=shape)
