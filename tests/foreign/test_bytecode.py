"""Bytecode that would lead the virtual machine out of its tables is refused."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable

import pytest
import tvm
from tvm import relax

from relax_tapml.foreign.bytecode import BytecodeFault, check_bytecode

Words = list[int]
REGISTER, IMMEDIATE, CONSTANT, FUNCTION = (kind << 56 for kind in range(4))
VOID = 1 << 54


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A function with a heap of dimensions, constants, calls and a branch."""
    made = relax.ExecBuilder()
    with made.function("main", num_inputs=2):
        heap = [made.vm_state(), made.imm(2)]
        made.emit_call("vm.builtin.alloc_shape_heap", args=heap, dst=made.r(2))
        shape = [
            made.r(0),
            made.r(2),
            made.imm(1),
            made.imm(1),
            made.imm(1),
            made.convert_constant("of x"),
        ]
        made.emit_call("vm.builtin.match_shape", args=shape)
        dims = [made.r(2), made.imm(1), made.imm(1), made.imm(1)]
        made.emit_call("vm.builtin.make_shape", args=dims, dst=made.r(3))
        made.emit_if(made.r(1), 2)
        made.emit_call("vm.builtin.copy", args=[made.r(0)], dst=made.r(4))
        made.emit_ret(made.r(3))
    path = tmp_path_factory.mktemp("bytecode") / "program.vm"
    made.get().mod.write_to_file(str(path), "bin")
    return path.read_bytes()


def code_of(data: bytes) -> tuple[bytes, list[Words]]:
    """Return what is before the code, and the words of each of the six instructions."""
    for start in range(len(data) - 64):
        number, *offsets, count = struct.unpack_from("<8q", data, start)
        if number == len(offsets) and offsets[0] == 0 and 8 * count == len(data) - start - 64:
            words = struct.unpack_from(f"<{count}q", data, start + 64)
            ends = [*offsets[1:], count]
            return data[: start + 64], [
                list(words[i:j]) for i, j in zip(offsets, ends, strict=True)
            ]
    raise AssertionError("this TVM writes its code in another way")


ALLOCATE, MATCH, MAKE, BRANCH, COPY, RETURN = range(6)

CHANGES: dict[str, Callable[[list[Words]], object]] = {
    "a register that there is not": lambda code: code[COPY].__setitem__(4, REGISTER | 99),
    "a result without a place": lambda code: code[COPY].__setitem__(1, 99),
    "a constant that there is not": lambda code: code[MATCH].__setitem__(9, CONSTANT | 7),
    "a function that there is not": lambda code: code[COPY].__setitem__(2, 99),
    "a kind of argument that there is not": lambda code: code[COPY].__setitem__(4, 9 << 56),
    "an instruction that there is not": lambda code: code[RETURN].__setitem__(0, 9),
    "a jump out of the function": lambda code: code[BRANCH].__setitem__(2, 99),
    "a jump back": lambda code: code[BRANCH].__setitem__(2, -2),
    "more arguments than there are": lambda code: code[RETURN - 1].__setitem__(3, 1 << 40),
    "a dimension behind the heap, read": lambda code: code[MAKE].__setitem__(7, IMMEDIATE | 2),
    "a dimension behind the heap, written": lambda code: code[MATCH].__setitem__(8, IMMEDIATE | 9),
    "more dimensions than codes": lambda code: code[MAKE].__setitem__(5, IMMEDIATE | 5),
    "a heap that is none": lambda code: code[MAKE].__setitem__(4, REGISTER | 0),
    "no machine": lambda code: code[ALLOCATE].__setitem__(4, REGISTER | VOID),
    "nothing in place of a tensor": lambda code: code[COPY].__setitem__(4, REGISTER | VOID),
    "an argument that is overwritten": lambda code: code[COPY].__setitem__(1, 0),
    "a return of a register that there is not": lambda code: code[RETURN].__setitem__(1, 77),
}


def changed(data: bytes, change: Callable[[list[Words]], object]) -> bytes:
    head, code = code_of(data)
    change(code)
    flat = [word for instruction in code for word in instruction]
    return head + struct.pack(f"<{len(flat)}q", *flat)


def test_sound_bytecode_is_let_through(sound: bytes) -> None:
    names = check_bytecode(sound)
    assert {"vm.builtin.match_shape", "vm.builtin.copy"} <= set(names)
    assert check_bytecode(changed(sound, lambda code: code)) == names


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_is_not_sound_is_refused(
    sound: bytes, change: Callable[[list[Words]], object]
) -> None:
    """Each of these made the machine read or write memory that is not its own, or never end."""
    with pytest.raises(BytecodeFault):
        check_bytecode(changed(sound, change))


def test_any_bytes_are_refused_or_checked(sound: bytes) -> None:
    """No other exception, and no more memory is allocated than the file has."""
    draw = random.Random(0)
    for _ in range(500):
        data = bytearray(sound)
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        for damaged in (bytes(data), bytes(data[: draw.randrange(len(data))])):
            with contextlib.suppress(BytecodeFault):
                check_bytecode(damaged)


def test_the_check_reads_what_tvm_reads(sound: bytes) -> None:
    load = tvm.get_global_func("ffi.Module.load_from_bytes.relax.VMExecutable")
    text = load(sound)["as_text"]()
    assert all(name in text for name in check_bytecode(sound))
