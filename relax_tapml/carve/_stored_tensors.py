"""The tensors of recorded calls, read from their store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tvm import relax

from relax_tapml.arrays import Array
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import CallRecord, ParameterValue, TensorValue, Value
from relax_tapml.carve.select.call_facts import Recorded
from relax_tapml.errors import NotCarvableError, UsageError
from relax_tapml.targets.session.tensors import check_dtype


@dataclass
class StoredTensors:
    """The tensors of a store; each is read once."""

    store: CaptureStore
    _arrays: dict[Recorded, Array] = field(default_factory=dict)

    def array(self, value: Recorded) -> Array:
        if value not in self._arrays:
            if isinstance(value, ParameterValue):
                self._arrays[value] = self.store.parameter(value.name)
            else:
                self._arrays[value] = self.store.tensor(value.digest)
        return self._arrays[value]

    def weight_type(self, name: str) -> relax.TensorType:
        array = self.array(ParameterValue(name=name))
        return relax.TensorType(array.shape, array.dtype.name)

    def check(self, record: CallRecord) -> None:
        """Raise ``NotCarvableError`` if no device session can be sent one of the tensors."""
        for _, value in placed_tensors((*record.inputs, *(record.outputs or ()))):
            array = self.array(value)
            if isinstance(value, TensorValue) and array.dtype.name != value.dtype:
                raise NotCarvableError(
                    f"it has a {value.dtype} tensor, which no device session can be sent"
                )
            try:
                check_dtype(array)
            except UsageError as error:
                raise NotCarvableError(str(error)) from error


def placed_tensors(values: Iterable[Value]) -> list[tuple[int, Recorded]]:
    """Return the tensors among some values, with their positions."""
    return [
        (place, value)
        for place, value in enumerate(values)
        if isinstance(value, TensorValue | ParameterValue)
    ]


def weight_name(value: Recorded) -> str | None:
    """Return the name of the weight that a value is; None for other tensors."""
    return value.name if isinstance(value, ParameterValue) else None
