"""Modules from outside: refused before TVM reads them, or in a child that they crash."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import foreign_work
import pytest
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml._compat import TirStringImm
from relax_tapml.errors import StoreError
from relax_tapml.foreign import loading
from relax_tapml.foreign.calls import is_harmless
from relax_tapml.foreign.module import allow_calls_of, read_module

FIX = "Write it again."
Document = dict[str, Any]


@I.ir_module
class Add:
    @T.prim_func(private=True, s_tir=True)
    def add(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
        for i, j in T.grid(4, 8):
            with T.sblock("add"):
                vi, vj = T.axis.remap("SS", [i, j])
                y[vi, vj] = x[vi, vj] + T.float32("-inf")

    @R.function
    def main(x: R.Tensor((4, 8), "float32")):
        cls = Add
        with R.dataflow():
            y = R.call_tir(cls.add, (x,), out_ty=R.Tensor((4, 8), "float32"))
            z = R.call_dps_packed("vm.builtin.reshape", (y,), out_ty=R.Tensor((8, 4), "float32"))
            R.output(z)
        return z


def read(document: Document | tvm.IRModule, *, trust: bool = False) -> tvm.IRModule:
    text = json.dumps(document) if isinstance(document, dict) else tvm.ir.save_json(document)
    return read_module(text.encode(), "unit.json", fix=FIX, trust=trust)


def document_of(module: tvm.IRModule = Add) -> Document:
    found: Document = json.loads(tvm.ir.save_json(module))
    return found


def calling(call: Any) -> tvm.IRModule:
    """A module of one kernel that does a call."""
    return tvm.IRModule({"kernel": tirx.PrimFunc([], tirx.Evaluate(call))})


def first(document: Document, kind: str) -> dict[str, Any]:
    return next(node for node in document["nodes"] if node["type"] == kind)


def test_a_module_is_read_as_it_was_written() -> None:
    tvm.ir.assert_structural_equal(read(Add), Add)


def test_a_statement_may_come_from_several_places() -> None:
    """As those of TVM's attention kernels for GPUs, which are made of functions."""
    parts = [tvm.ir.Span(tvm.ir.SourceName(name), 1, 1, 1, 1) for name in ("one", "other")]
    statement = tirx.Evaluate(tirx.const(0, "int32"), tvm.ir.SequentialSpan(parts))
    module = tvm.IRModule({"kernel": tirx.PrimFunc([], statement)})
    assert len(read(module)["kernel"].body.span.spans) == 2


def test_a_kernel_may_be_bound_to_threads() -> None:
    """With an axis that has no range of its own."""

    @I.ir_module
    class Bound:
        @T.prim_func(private=True)
        def kernel(a: T.Buffer((4,), "float32")):
            for i in T.thread_binding(4, thread="threadIdx.x"):
                a[i] = 1.0

    tvm.ir.assert_structural_equal(read(Bound), Bound)


def test_types_of_plain_values_are_part_of_a_module() -> None:
    """An operator's attribute may be a dtype."""

    @I.ir_module
    class Cast:
        @R.function
        def main(x: R.Tensor((4,), "float32")):  # type: ignore[no-untyped-def]
            return R.astype(x, "float16")

    assert tvm_ffi.structural_equal(read(Cast), Cast)


def name_of_another_type(document: Document) -> None:
    array = document["nodes"].index(first(document, "ffi.Array"))
    first(document, "ir.GlobalVar")["data"]["name_hint"] = array


def cycle(document: Document) -> None:
    number = next(n for n, node in enumerate(document["nodes"]) if node["type"] == "ffi.Array")
    document["nodes"][number]["data"] = [number]


def no_value(document: Document) -> None:
    empty = next(n for n, node in enumerate(document["nodes"]) if node["type"] == "None")
    first(document, "tirx.BufferStore")["data"]["value"] = empty


def no_type(document: Document) -> None:
    document["nodes"].append({"type": "ir.Type", "data": {"span": 0}})
    first(document, "ir.Call")["data"]["ty"] = len(document["nodes"]) - 1


def no_such_node(document: Document) -> None:
    first(document, "tirx.For")["data"]["body"] = 10**6


def deep(document: Document) -> None:
    nodes = document["nodes"]
    for _ in range(100_000):
        nodes.append({"type": "ffi.Array", "data": [len(nodes) - 1]})
    first(document, "ir.IRModule")["data"]["global_infos"] = len(nodes) - 1


def other_type(document: Document) -> None:
    first(document, "tirx.For")["type"] = "no.such.type"


def native_code(document: Document) -> None:
    first(document, "ffi.String")["type"] = "ffi.Module"


def many_bits(document: Document) -> None:
    first(document, "ir.IntImm")["data"]["value"] = 2**70


def control_characters(document: Document) -> None:
    first(document, "ffi.String")["data"] = "soft\x1b[31mmax"


def absolute_name(document: Document) -> None:
    name = first(document, "ir.GlobalVar")["data"]["name_hint"]
    document["nodes"][name]["data"] = "/some/where/evil"


def code_as_key(document: Document) -> None:
    key = first(document, "ir.DictAttrs")["data"]["__dict__"]
    document["nodes"][document["nodes"][key]["data"][0]]["data"] = "a=__import__('os').abort(), b"


@pytest.mark.parametrize(
    "change",
    [
        *(cycle, no_value, no_type, no_such_node, deep, other_type, native_code, many_bits),
        *(control_characters, absolute_name, code_as_key, name_of_another_type),
    ],
)
def test_an_unsound_module_is_refused_with_its_file(change: Callable[[Document], None]) -> None:
    """A cycle and a field without a value ended the process; a key could be any Python."""
    document = document_of()
    change(document)
    with pytest.raises(StoreError, match=r"unit\.json.*Write it again") as caught:
        read(document, trust=True)
    assert str(caught.value).isprintable()


@pytest.mark.needs_forks
def test_what_kills_tvm_kills_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a crash of TVM does; the tool continues and names the file."""
    monkeypatch.setattr(loading, "load_json", lambda _: os.abort())
    with pytest.raises(StoreError, match=r"unit\.json.*SIGABRT.*Write it again"):
        read(Add.with_attr("seen", "never before"))


@pytest.fixture
def _without_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "FORKS_ARE_SAFE", False)


@pytest.mark.usefixtures("_without_forks")
def test_without_forks_a_new_process_reads() -> None:
    """What it refuses is refused with the same message."""
    sound = tvm.ir.save_json(Add)
    loading.try_load({"unit.json": sound}, fix=FIX)
    with pytest.raises(StoreError, match=r"^other\.json is damaged: .*Write it again\.$"):
        loading.try_load({"unit.json": sound, "other.json": "{"}, fix=FIX)


@pytest.mark.usefixtures("_without_forks")
def test_without_forks_what_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is wrong in the tool is no fault of a file."""
    monkeypatch.setattr(loading, "_CPU_SECONDS", 3)
    files = loading.ForeignFiles(contents={"a.json": b"", "b.json": b""}, fix=FIX)
    with pytest.raises(StoreError, match=r"^b\.json: TVM needed more than 3 s while reading it"):
        loading.run_limited(foreign_work.forever, files, what="reading")
    with pytest.raises(RuntimeError, match="a fault of the tool"):
        loading.run_limited(foreign_work.wrong, files, what="reading")


@pytest.mark.needs_forks
def test_what_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def forever(_: str) -> None:
        while True:
            pass

    monkeypatch.setattr(loading, "load_json", forever)
    monkeypatch.setattr(loading, "_CPU_SECONDS", 1)
    with pytest.raises(StoreError, match=r"unit\.json.*more than 1 s"):
        read(Add.with_attr("seen", "never before, too"))


def extern(name: str, *args: Any) -> tvm.IRModule:
    return calling(tirx.call_extern("int32", name, *args))


def packed(name: str) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    ty = relax.TensorType((4,), "float32")
    x = relax.Var("x", ty)
    with builder.function("main", [x]):
        builder.emit_func_output(
            builder.emit(relax.Call(relax.ExternFunc(name), [x], ty_args=[ty]))
        )
    return builder.get()


OUTSIDE = {
    "a C function": (extern("system", TirStringImm("true")), "system"),
    "a pure C function": (calling(tirx.call_pure_extern("int32", "getpid")), "getpid"),
    "a packed function": (calling(tirx.call_packed("runtime.ModuleLoadFromFile")), "ModuleLoad"),
    "a C packed function": (calling(tirx.call_cpacked("evil")), "evil"),
    "a packed function of Relax": (packed("runtime.SaveParamsToFile"), "SaveParamsToFile"),
    "Python through the runtime": (packed("vm.builtin.call_py_func"), "call_py_func"),
    "source": (Add.with_attr("pragma_import_c", "int x;"), "pragma_import_c"),
}


@pytest.mark.parametrize(("module", "name"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_external_calls_are_refused(module: tvm.IRModule, name: str) -> None:
    with pytest.raises(StoreError, match=f"{name}.*trust") as caught:
        read(module)
    assert "unit.json" in str(caught.value)
    assert isinstance(read(module, trust=True), tvm.IRModule)
    # Trust in one call does not extend to the next.
    with pytest.raises(StoreError, match="trust"):
        read(module)


def test_a_function_of_the_module_excuses_no_call_of_its_name() -> None:
    """Kernels are compiled one by one: the call would find the C library's."""
    kernel = extern("system", TirStringImm("true"))["kernel"]
    with pytest.raises(StoreError, match="system"):
        read(tvm.IRModule({"kernel": kernel, "system": kernel}))


@pytest.mark.parametrize(
    "name",
    [
        *("expf", "erf", "fmaxf", "hexp", "__float2half_rn", "__nv_tanhf", "vm.builtin.make_shape"),
        *("vm.builtin.paged_attention_kv_cache_create", "tvm.contrib.sort.argsort"),
        *(
            "tvm.contrib.thrust.sort",
            "tvm.contrib.cublas.matmul",
            "flashinfer.merge_state_in_place",
        ),
        *("runtime.TVMTensorCopyFromTo", "relax_tapml.hand", "runtime.disco.allreduce"),
        *("relax_tapml.runtime_callback.make", "relax_tapml.runtime_callback.store"),
    ],
)
def test_what_models_call_is_let_through(name: str) -> None:
    assert is_harmless(name)
    read(packed(name) if "." in name else extern(name))


@pytest.mark.parametrize(
    "name",
    [
        *("system", "execve", "fopen", "dlopen", "abort", "mmap", "socket", "printf"),
        *("vm.builtin.tensor_cache.load", "vm.builtin.invoke_debug_func", "tvm.contrib.nvcc"),
        *("runtime.ModuleLoadStaticLibrary", "runtime.disco.SocketSession", "rpc.Connect", ""),
    ],
)
def test_what_touches_files_processes_or_the_network_is_not(name: str) -> None:
    assert not is_harmless(name)


def test_what_the_users_own_model_calls_its_suite_may_call() -> None:
    module = packed("my.own.function")
    with pytest.raises(StoreError, match=r"my\.own\.function"):
        read(module)
    allow_calls_of(module)
    read(module)
