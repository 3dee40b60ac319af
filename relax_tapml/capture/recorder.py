"""Record instrumented runs into a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
import tvm_ffi

from relax_tapml.capture._events import EventWriter
from relax_tapml.capture._writer import StoreWriter
from relax_tapml.capture._writer_thread import WriterThread
from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import SiteRecord, scalar_ref
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.passes import native

_LARGEST_SEGMENT_BYTES = 64 << 20


class Recorder:
    """Record the calls of instrumented modules while it is open; one per process at a time.

    The runs only copy tensors into a queue, and wait when it holds ``budget_bytes``. A thread of
    the recorder hashes and writes them.

    Parameters
    ----------
    store
        The store to write to.
    sites
        Descriptions of the sites that will be called.
    budget_bytes
        Limit of host memory for captured tensors that are not on disk yet. A larger tensor is
        captured alone.

    Raises
    ------
    StoreError
        On entry: another recorder writes to the store, or the store is damaged. On leaving a
        sample or the recorder: writing failed; the sample is incomplete, and the recorder cannot
        record another.
    """

    def __init__(
        self,
        store: CaptureStore,
        *,
        sites: Iterable[SiteRecord] = (),
        budget_bytes: int = 256 << 20,
    ) -> None:
        if budget_bytes <= 0:
            raise UsageError(f"Recorder: expected a positive budget_bytes, got {budget_bytes}.")
        self._store = store
        self._sites = list(sites)
        self._budget_bytes = budget_bytes
        self._segment_bytes = min(_LARGEST_SEGMENT_BYTES, budget_bytes // 4)
        self._outputs: list[HostTensor | str] | None = None
        self._sample: str | None = None

    def __enter__(self) -> Self:
        native.load()
        self._writer = StoreWriter(self._store.folder)
        self._events = EventWriter(self._writer)
        try:
            self._writer.add_sites(self._sites)
            self._writer.flush()
            tvm_ffi.get_global_func("relax_tapml.capture.start")(self._budget_bytes)
        except BaseException:
            self._writer.close()
            raise
        self._thread = WriterThread(
            self._writer,
            self._events,
            segment_bytes=self._segment_bytes,
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        failure = self._thread.finish()
        if failure is not None and error is None:
            raise failure

    def parameters(self, tensors: Mapping[str, Any]) -> None:
        """Record parameters straight from their memory, before the first run that takes them.

        Otherwise each is copied into the queue when a run takes it.

        Parameters
        ----------
        tensors
            ``tvm.runtime.Tensor`` by name of the parameter. Those that are not contiguous, or on
            no CPU, are left to the runs.

        Raises
        ------
        StoreError
            Writing failed.
        """
        known = {name: tensor for name, tensor in tensors.items() if _is_readable(tensor)}

        def write() -> None:
            for name, tensor in known.items():
                self._events.add_parameter(name, HostTensor.view_of(tensor))
                if self._writer.held_bytes >= self._segment_bytes:
                    self._writer.flush()
            # No copies: nothing may be held when the tensors change.
            self._writer.flush()

        self._thread.do(write)
        know = tvm_ffi.get_global_func("relax_tapml.capture.know_parameter")
        for name, tensor in known.items():
            know(name, tensor)

    @contextmanager
    def sample(self, name: str) -> Iterator[None]:
        """Record the runs within as one sample, replacing an incomplete one of that name.

        Leaving it waits until the sample is on disk. If the body raises, the calls so far are
        kept and the sample is incomplete.

        Raises
        ------
        StoreError
            The sample is complete already, or writing failed.
        """
        if self._sample is not None:
            raise UsageError(f"Sample {name!r} begins before sample {self._sample!r} has ended.")
        self._thread.do(lambda: self._writer.begin_sample(name))
        tvm_ffi.get_global_func("relax_tapml.capture.restart_executions")()
        self._sample, self._outputs = name, None
        try:
            yield
        except BaseException as error:
            try:
                self._thread.do(lambda: self._events.end_sample(None))
            except StoreError as failure:
                error.add_note(f"The capture of sample {name!r} failed too: {failure}")
            raise
        else:
            outputs: list[HostTensor | str] = self._outputs or []
            waited = self.waited

            def end() -> None:
                if waited:
                    self._writer.set_manifest("waited", waited)
                self._events.end_sample(outputs)

            self._thread.do(end)
        finally:
            self._sample, self._outputs = None, None

    @property
    def waited(self) -> str:
        """Why tensors of a GPU were copied one by one, the run waiting; empty if none was."""
        return str(tvm_ffi.get_global_func("relax_tapml.capture.note")())

    def outputs(self, outputs: Any) -> None:
        """Record the results of the sample's run: a value, or nested sequences of values.

        Tensors are copied before this returns.

        Raises
        ------
        UsageError
            There is no sample, or its outputs were recorded already.
        """
        if self._sample is None:
            raise UsageError("Recorder.outputs: expected to be within `with recorder.sample(...)`.")
        if self._outputs is not None:
            raise UsageError(f"The outputs of sample {self._sample!r} were recorded already.")
        self._outputs = list(_leaves(outputs))


def _is_readable(tensor: Any) -> bool:
    is_cpu: bool = tensor.device.__device_type_name__() == "cpu"
    return is_cpu and tensor.is_contiguous()


def _leaves(value: Any) -> Iterator[HostTensor | str]:
    if value is None or isinstance(value, bool | int | float | str | tvm_ffi.Shape):
        yield scalar_ref(value)
    elif isinstance(value, list | tuple | tvm_ffi.Array):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, tvm_ffi.Tensor):
        yield HostTensor.copy_of(value)
    elif isinstance(value, np.ndarray):
        yield HostTensor.of_array(value)
    elif isinstance(value, tvm_ffi.Object):
        yield f"object:{type(value).__tvm_ffi_type_info__.type_key}"
    else:
        raise UsageError(
            f"Recorder.outputs: expected what a Relax function returns, got {type(value)}."
        )
