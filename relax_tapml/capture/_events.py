"""Write the native queue's events to a store.

``docs/internals.md`` lists the events. Only the names of tensors change on the way: the queue
numbers them, the store names them by content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relax_tapml.capture._writer import StoreWriter
from relax_tapml.capture.host_tensor import HostTensor


class EventWriter:
    """Apply events, in their order, to a store's writer."""

    def __init__(self, writer: StoreWriter) -> None:
        self._writer = writer
        # Number of a tensor to its digest and size, of a frame to its ordinal in the sample.
        # Neither outlives its sample, so the records of a sample do not depend on earlier ones.
        self._tensors: dict[int, tuple[str, int]] = {}
        self._frames: dict[int, int] = {}
        # Name of a parameter to the ref of its current content.
        self._parameters: dict[str, str] = {}

    def apply(self, event: Sequence[Any], tensors: Mapping[int, HostTensor]) -> None:
        """Apply one event, of any kind but a mark; ``tensors`` has its tensor by number."""
        match event[0]:
            case "tensor":
                tensor = tensors[event[1]]
                self._tensors[event[1]] = self._writer.add_tensor(tensor), tensor.nbytes
                self._writer.count_seen(tensor.nbytes)
            case "param":
                _, number, name = event
                digest, nbytes = self._tensors[number]
                self._writer.count_seen(-nbytes)
                self._name_parameter(name, digest)
            case "inputs":
                _, frame, function, call, site, refs = event
                self._writer.add_call(
                    frame=self._frames.setdefault(frame, len(self._frames)),
                    function=function,
                    call=call,
                    site=site,
                    inputs=self._named(refs),
                )
            case "outputs":
                _, frame, call, refs = event
                self._writer.finish_call(
                    frame=self._frames[frame], call=call, outputs=self._named(refs)
                )
            case kind:
                raise ValueError(f"unknown capture event {kind!r}")

    def add_parameter(self, name: str, tensor: HostTensor) -> None:
        """Record the content of a parameter that the queue does not copy."""
        self._name_parameter(name, self._writer.add_tensor(tensor))

    def end_sample(self, outputs: Iterable[HostTensor | str] | None) -> None:
        """End the sample: complete with its run's outputs, incomplete with None."""
        self._tensors.clear()
        self._frames.clear()
        if outputs is None:
            self._writer.end_sample(None)
            return
        refs = []
        for output in outputs:
            if isinstance(output, HostTensor):
                self._writer.count_seen(output.nbytes)
                refs.append(f"t:{self._writer.add_tensor(output)}")
            else:
                refs.append(output)
        self._writer.end_sample(refs)

    def _name_parameter(self, name: str, digest: str) -> None:
        # A parameter whose content has changed is recorded by content from then on.
        is_first = self._writer.add_parameter(name, digest) == digest
        self._parameters[name] = f"p:{name}" if is_first else f"t:{digest}"

    def _named(self, refs: Iterable[str]) -> list[str]:
        return [self._name(str(ref)) for ref in refs]

    def _name(self, ref: str) -> str:
        kind, _, text = ref.partition(":")
        if kind == "t":
            return f"t:{self._tensors[int(text)][0]}"
        return self._parameters[text] if kind == "p" else ref
