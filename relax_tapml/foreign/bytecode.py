"""Serialised bytecode of Relax's virtual machine, checked before the machine runs it.

The machine does not check what it reads: a register, a constant or a jump outside of its tables, or
an index outside of the heap of dimensions, reads and writes other memory of the process.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from relax_tapml.foreign.names import name_fault, quoted, text_fault

_MAGIC = frozenset({0xD225DE2F4214151D, 0xD225DE2F4214151E})
_WITH_SCOPES = 0xD225DE2F4214151E
_TENSOR_MAGIC = 0xDD5E40F096B4A13F
_PACKED, _RELAX, _KERNEL = range(3)
_CALL, _RETURN, _GOTO, _IF = range(1, 5)
_REGISTER, _IMMEDIATE, _CONSTANT, _FUNCTION = range(4)
_VALUE_BITS = 56
_VOID = 1 << 54
_MACHINE = _VOID + 1
_INT, _FLOAT, _DTYPE, _STRING, _SHAPE, _TENSOR = 1, 3, 5, 65, 69, 70
_LAST_DTYPE_CODE = 17
_NO_MORE_REGISTERS = 1 << 20
_ALLOCATE = "vm.builtin.alloc_shape_heap"


@dataclass(frozen=True)
class _UsesHeap:
    """Where a builtin takes the heap of dimensions, and which codes make it touch that."""

    heap: int
    pairs: int
    touching: frozenset[int]


_HEAP_USERS = {
    "vm.builtin.match_shape": _UsesHeap(heap=1, pairs=3, touching=frozenset({1, 3})),
    "vm.builtin.make_shape": _UsesHeap(heap=0, pairs=2, touching=frozenset({1})),
    "vm.builtin.match_prim_value": _UsesHeap(heap=1, pairs=2, touching=frozenset({1, 3})),
    "vm.builtin.make_prim_value": _UsesHeap(heap=0, pairs=1, touching=frozenset({1})),
}
_SIZED = frozenset({"vm.builtin.match_shape", "vm.builtin.make_shape"})
# Their first argument is the machine itself, a pointer that they follow.
_TAKES_MACHINE = frozenset({"vm.builtin.alloc_storage", _ALLOCATE, "vm.builtin.invoke_closure"})
# They return nothing.
_CHECKS = "vm.builtin.check_"
# Functions of the machine use their first argument without checking that there is one.
_BUILTIN = "vm.builtin."
_TAKES_NOTHING = frozenset({"vm.builtin.make_tuple", "vm.builtin.copy"})
_NOTHING = "vm.builtin.null_value"


class BytecodeFault(Exception):  # noqa: N818 - the reader of the file raises a TapmlError
    """What is wrong with bytecode, for a message."""


@dataclass(frozen=True)
class _Function:
    kind: int
    name: str
    start: int
    end: int
    arguments: int
    registers: int


@dataclass(frozen=True)
class _Call:
    """A call, with its arguments as (kind, value)."""

    function: int
    target: int
    arguments: tuple[tuple[int, int], ...]


def check_bytecode(data: bytes) -> tuple[str, ...]:
    """Check that every index in bytecode is within what it indexes, and every jump in its function.

    Parameters
    ----------
    data
        A serialised ``relax.VMExecutable``.

    Returns
    -------
    tuple
        Names of the functions that it calls and does not define.

    Raises
    ------
    BytecodeFault
        It is not sound.
    """
    reader = _Reader(data)
    magic = reader.unsigned()
    if magic not in _MAGIC:
        _refuse("it is no bytecode")
    reader.text()  # the version of the format, which the machine compares
    functions = [_function(reader) for _ in range(reader.count(44))]
    if magic == _WITH_SCOPES:
        for _ in range(reader.count(16)):
            reader.signed()
            reader.text()
    constants = reader.count(8)
    for _ in range(constants):
        _skip_constant(reader)
    offsets = reader.words(reader.count(8))
    code = reader.words(reader.count(8))
    if reader.rest:
        _refuse(f"{reader.rest} bytes follow its end")
    names = [function.name for function in functions]
    if len(set(names)) < len(names):
        _refuse("two of its functions have one name")
    for function in functions:
        if function.kind == _RELAX:
            _Check(function, names, constants, offsets, code).run()
    return tuple(function.name for function in functions if function.kind == _PACKED)


class _Check:
    """Checks the instructions of one function."""

    def __init__(
        self,
        function: _Function,
        names: list[str],
        constants: int,
        offsets: tuple[int, ...],
        code: tuple[int, ...],
    ) -> None:
        self._function = function
        self._names = names
        self._constants = constants
        self._offsets = offsets
        self._code = code
        # Size of the heap that a register holds; -1 where it may hold something else.
        self._heaps: dict[int, int] = {}

    def run(self) -> None:
        function = self._function
        if not 0 <= function.start < function.end <= len(self._offsets):
            self._refuse("has instructions outside of its code")
        if not 0 <= function.arguments <= function.registers <= _NO_MORE_REGISTERS:
            self._refuse("has no place for its arguments")
        calls = [
            call for number in self._numbers if (call := self._instruction(number)) is not None
        ]
        for call in calls:
            self._note_heap(call)
        has_branches = any(self._word(self._offsets[n]) == _IF for n in self._numbers)
        # For each register written so far, in order: whether it holds no value.
        is_empty = dict.fromkeys(range(function.arguments), False)
        for call in calls:
            self._check_heap(call)
            self._check_values(call, {} if has_branches else is_empty, has_branches=has_branches)
            is_empty[call.target] = self._names[call.function] == _NOTHING
        last = self._word(self._offsets[function.end - 1])
        if last not in (_RETURN, _GOTO):
            self._refuse("continues after its end")

    @property
    def _numbers(self) -> range:
        return range(self._function.start, self._function.end)

    def _check_values(
        self, call: _Call, is_empty: Mapping[int, bool], *, has_branches: bool
    ) -> None:
        """Refuse calls without a value where the machine needs one."""
        name = self._names[call.function]
        heap = _HEAP_USERS[name].heap if name in _HEAP_USERS else -1
        registers = [value if kind == _REGISTER else -1 for kind, value in call.arguments]
        if name in _TAKES_MACHINE and registers[:1] != [_MACHINE]:
            self._refuse(f"calls {name} without the machine")
        if any(register == _VOID and place != heap for place, register in enumerate(registers)):
            self._refuse(f"calls {quoted(name)} with nothing as an argument")
        if call.target < self._function.arguments and name != _NOTHING:
            self._refuse(f"overwrites its argument {call.target}")
        if name.startswith(_CHECKS) and call.target != _VOID:
            self._refuse(f"keeps the result of {quoted(name)}, which has none")
        if has_branches:  # Then the content of a register depends on the branch.
            return
        for place, register in enumerate(registers):
            needs_value = place == 0 and name.startswith(_BUILTIN) and name not in _TAKES_NOTHING
            if not 0 <= register < _VOID:
                continue
            # None: never written. True: written, with no value.
            state = is_empty.get(register)
            if state is None or (state and needs_value):
                self._refuse(f"calls {quoted(name)} with a register that holds nothing")

    def _instruction(self, number: int) -> _Call | None:
        offset = self._offsets[number]
        operation = self._word(offset)
        if operation == _CALL:
            return self._call(offset)
        if operation == _RETURN:
            self._register(self._word(offset + 1))
        elif operation == _GOTO:
            self._jump(number, self._word(offset + 1), at_least=1)
        elif operation == _IF:
            self._register(self._word(offset + 1))
            self._jump(number, self._word(offset + 2), at_least=2)
        else:
            self._refuse(f"has an instruction of kind {operation}")
        return None

    def _call(self, offset: int) -> _Call:
        target, function, count = (self._word(offset + place) for place in (1, 2, 3))
        self._register(target)
        if not 0 <= function < len(self._names):
            self._refuse(f"calls function {function}, which does not exist")
        if not 0 <= count <= len(self._code) - offset - 4:
            self._refuse("has a call with more arguments than there are")
        arguments = tuple(self._argument(self._code[offset + 4 + place]) for place in range(count))
        return _Call(function=function, target=target, arguments=arguments)

    def _argument(self, word: int) -> tuple[int, int]:
        kind = (word >> _VALUE_BITS) & 0xFF
        value = word & ((1 << _VALUE_BITS) - 1)
        if value >> (_VALUE_BITS - 1):
            value -= 1 << _VALUE_BITS
        if kind == _REGISTER:
            self._register(value)
        elif kind == _CONSTANT and not 0 <= value < self._constants:
            self._refuse(f"uses constant {value}, which does not exist")
        elif kind == _FUNCTION and not 0 <= value < len(self._names):
            self._refuse(f"uses function {value}, which does not exist")
        elif kind > _FUNCTION:
            self._refuse(f"has an argument of kind {kind}")
        return kind, value

    def _note_heap(self, call: _Call) -> None:
        size = -1
        if self._names[call.function] == _ALLOCATE:
            size = next((value for kind, value in call.arguments if kind == _IMMEDIATE), -1)
        known = self._heaps.get(call.target, size)
        self._heaps[call.target] = min(known, size)

    def _check_heap(self, call: _Call) -> None:
        """Refuse an index outside of the heap of dimensions, which the machine does not check."""
        name = self._names[call.function]
        use = _HEAP_USERS.get(name)
        if use is None:
            return
        values = [value if kind == _IMMEDIATE else None for kind, value in call.arguments]
        if len(values) <= use.heap:
            self._refuse(f"calls {name} without its arguments")
        kind, register = call.arguments[use.heap]
        size = self._heaps.get(register, -1) if kind == _REGISTER else -1
        count = 1
        if name in _SIZED:
            held = values[use.pairs - 1] if len(values) >= use.pairs else None
            count = -1 if held is None else held
        if not 0 <= count <= (len(values) - use.pairs) // 2:
            self._refuse(f"calls {name} with another number of dimensions than it states")
        for place in range(count):
            code, index = values[use.pairs + 2 * place : use.pairs + 2 * place + 2]
            if code is None or index is None:
                self._refuse(f"calls {name} with a code that is not written in it")
            if code in use.touching and not 0 <= index < size:
                self._refuse(f"uses dimension {index} of {max(size, 0)}")

    def _register(self, number: int) -> None:
        if not 0 <= number < self._function.registers and number not in (_VOID, _MACHINE):
            self._refuse(f"uses register {number} of {self._function.registers}")

    def _jump(self, number: int, distance: int, *, at_least: int) -> None:
        # Relax has no loops: a jump back would never end.
        if not at_least <= distance < self._function.end - number:
            self._refuse(f"jumps {distance} instructions, out of itself or back")

    def _word(self, offset: int) -> int:
        if not 0 <= offset < len(self._code):
            self._refuse("has an instruction outside of its code")
        return self._code[offset]

    def _refuse(self, reason: str) -> NoReturn:
        _refuse(f"function {quoted(self._function.name)} {reason}")


def _function(reader: _Reader) -> _Function:
    kind = reader.short()
    name = reader.text()
    fault = name_fault(name)
    if kind not in (_PACKED, _RELAX, _KERNEL) or fault:
        _refuse(fault or f"function {quoted(name)} is of kind {kind}")
    start, end, arguments, registers = (reader.signed() for _ in range(4))
    for _ in range(reader.count(8)):
        reader.text()
    return _Function(kind, name, start, end, arguments, registers)


def _skip_constant(reader: _Reader) -> None:
    skip: dict[int, Callable[[], object]] = {
        _INT: reader.signed,
        _FLOAT: reader.signed,
        _DTYPE: lambda: _dtype(reader),
        _STRING: reader.any_text,
        _SHAPE: lambda: reader.words(reader.count(8)),
        _TENSOR: lambda: _skip_tensor(reader),
    }
    kind = reader.short()
    if kind not in skip:
        _refuse(f"it has a constant of kind {kind}")
    skip[kind]()


def _skip_tensor(reader: _Reader) -> None:
    magic, _ = reader.unsigned(), reader.unsigned()
    device_kind, _ = reader.short(), reader.short()
    ndim = reader.short()
    bits, lanes = _dtype(reader)
    if magic != _TENSOR_MAGIC or device_kind != 1 or not 0 <= ndim <= 64:
        _refuse("it has a malformed constant tensor")
    shape = reader.words(ndim)
    size = reader.signed()
    if min(shape, default=0) < 0 or lanes != 1 or size != math.prod(shape) * ((bits + 7) // 8):
        _refuse("it has a constant tensor whose size does not fit its shape")
    reader.take(size)


def _dtype(reader: _Reader) -> tuple[int, int]:
    """Read a dtype, one of DLPack's; return how many bits and lanes it has."""
    code, bits, lanes = struct.unpack("<BBH", reader.take(4))
    if code > _LAST_DTYPE_CODE or not 0 <= bits <= 64 or not 0 <= lanes <= 1024:
        _refuse("it has a dtype that does not exist")
    return bits, lanes


class _Reader:
    """Reads the format of TVM's streams, within the bounds of the data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def rest(self) -> int:
        return len(self._data) - self._place

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self.rest:
            _refuse("it is cut short")
        self._place += size
        return self._data[self._place - size : self._place]

    def unsigned(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def signed(self) -> int:
        return int.from_bytes(self.take(8), "little", signed=True)

    def short(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)

    def count(self, least: int) -> int:
        """Read how many things follow, each of at least so many bytes."""
        found = self.unsigned()
        if found * min(least, 4) > self.rest:
            _refuse("it is cut short")
        return found

    def words(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}q", self.take(8 * count))

    def any_text(self) -> bytes:
        return self.take(self.unsigned())

    def text(self) -> str:
        try:
            text = self.any_text().decode()
        except UnicodeDecodeError:
            _refuse("it has a text that is not UTF-8")
        fault = text_fault(text)
        if fault:
            _refuse(fault)
        return text


def _refuse(reason: str) -> NoReturn:
    raise BytecodeFault(reason)
