"""The functions that a module calls outside itself, and which of them are harmless.

A kernel can call any C function of the process that runs it and any function that TVM has
registered, by name; and it can pass source code and options to a compiler. Computing needs none of
that, apart from mathematical functions and functions of the runtime, which are listed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import tvm

from relax_tapml.foreign._graph import MAPS, SEQUENCES, Graph, Node

# The last part of the operator's name: 0.26 and 0.27 differ in what is before it. The text among
# its first arguments is the name of what it calls.
_BY_NAME = frozenset(
    {
        *("call_extern", "call_pure_extern", "call_ffi_kernel", "call_py_func"),
        *("tvm_call_packed", "tvm_call_cpacked", "tvm_call_packed_lowered"),
        *("tvm_call_cpacked_lowered", "tvm_call_trace_packed", "tvm_call_trace_packed_lowered"),
        *("anylist_setitem_call_packed", "anylist_setitem_call_cpacked"),
        *("call_packed", "call_cpacked", "call_packed_lowered", "call_cpacked_lowered"),
    }
)
_INTRINSICS = frozenset({"call_llvm_intrin", "call_llvm_pure_intrin"})
# They hold source code, run Python, write to structures of the runtime, or use the network.
_CODE = frozenset({"func_call", "call_py_func", "tvm_struct_set", "tvm_kernel_replace_point"})
_CODE_PREFIXES = ("tirx.nvshmem.",)
# Their texts become parts of assembly or source.
_INLINE_PREFIXES = ("tirx.ptx", "tirx.cuda", "tirx.metal", "tirx.webgpu", "tirx.mma", "tirx.nki")
_INLINE_TEXT = re.compile(r"[0-9A-Za-z_.:,+\-= ]*")
# Attributes whose value is source code, or the name of a file of it.
_SOURCE_KEY = re.compile(r"(^|[._])(import_c|import_llvm|external_mods|extern_func)$")
_PRAGMA = "pragma_"
_PRAGMAS = frozenset(
    {
        *("pragma_auto_unroll_max_step", "pragma_unroll_explicit", "pragma_loop_partition_hint"),
        *("pragma_vectorize", "pragma_unroll", "pragma_parallel_launch_point"),
        *("pragma_parallel_stride_pattern", "pragma_parallel_barrier_when_finish"),
        *("pragma_debug_skip_region", "pragma_tensor_core", "pragma_layout"),
    }
)
# Options of LLVM itself, which can write files.
_COMPILER_OPTIONS = frozenset({"cl-opt", "cl_opt"})

_MATH_WORDS = """
acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp10 exp2 expm1
fabs fdim floor fma fmax fmin fmod frexp hypot ldexp lgamma llrint llround log log10 log1p log2 logb
lrint lround modf nan nearbyint nextafter pow remainder rint round rsqrt scalbn sin sinh sqrt tan
tanh tgamma trunc sincos isnan isinf abs
"""
_MATH = frozenset(f"{name}{kind}" for name in _MATH_WORDS.split() for kind in ("", "f", "l"))
_MATH_ON_GPUS = re.compile(
    r"h(exp|exp2|exp10|log|log2|log10|sin|cos|sqrt|rsqrt|rcp|ceil|floor|rint|trunc|tanh)"
    r"|__(nv|ocml|oclc|ockl|spirv)_\w+"
    r"|__[a-z0-9_]*(half|float|double|bfloat16|bfloat162|int|uint|short|ushort|char|uchar|ll|ull)2?"
    r"2[a-z0-9_]+"
    r"|__(exp|exp10|log|log2|log10|sin|cos|tan|pow|fdivide|saturate|frcp|fsqrt|fdiv)f?(_r[nzud])?"
    r"|__h(add|sub|mul|div|fma|neg|abs|max|min|eq|ne|lt|le|gt|ge)2?(_sat|_rn)?"
    r"|__(popc|popcll|clz|clzll|brev|brevll|ffs|ffsll|byte_perm|umulhi|mulhi|dp4a|dp2a\w*)"
    r"|(min|max|abs|labs|llabs|fabs|clamp|native_\w+|half_\w+|convert_\w+|as_\w+)"
)
# Functions of the runtime, by prefix ...
_RUNTIME = (
    *("tvm.contrib.sort.", "tvm.contrib.thrust.", "tvm.contrib.random.", "tvm.contrib.curand."),
    *("tvm.contrib.cblas.", "tvm.contrib.mkl.", "tvm.contrib.dnnl.", "tvm.contrib.nnpack."),
    *("tvm.contrib.cublas.", "tvm.contrib.cublaslt.", "tvm.contrib.cudnn.", "tvm.contrib.vllm."),
    *("tvm.contrib.hipblas.", "tvm.contrib.rocblas.", "tvm.contrib.miopen.", "tvm.contrib.mps."),
    *("tvm.contrib.cutlass.", "cutlass.", "flashinfer.", "fastertransformer.", "moe_align"),
    *("batch_decode_", "batch_prefill_", "batch_mla_", "merge_state", "vm.builtin."),
    *("runtime.disco.allreduce", "runtime.disco.allgather", "runtime.disco.broadcast_from_"),
    *("runtime.disco.scatter_from_", "runtime.disco.gather_to_", "runtime.disco.send_to_"),
    *("runtime.disco.recv_from_", "runtime.disco.worker_", "runtime.disco.cuda_ipc."),
)
# ... without those that read files, run Python, call any function by name, or use the network ...
_NOT_RUNTIME = (
    *("vm.builtin.tensor_cache.load", "vm.builtin.ndarray_cache.load"),
    *("vm.builtin.call_py_func", "vm.builtin.register_py_func", "vm.builtin.get_py_func"),
    *("vm.builtin.clear_py_func_registry", "vm.builtin.invoke_debug_func"),
    *("vm.builtin.kv_cache_disagg_", "vm.builtin.debug_print"),
)
# ... and by their whole names.
_KNOWN = frozenset(
    {
        *(
            "runtime.TVMTensorCopyFromTo",
            "runtime.TVMArrayCopyFromTo",
            "runtime.TVMTensorCreateView",
        ),
        *("runtime.TVMTensorAllocWithScope", "relax_tapml.hand", "relax_tapml.store"),
        *("relax_tapml.runtime_callback.make", "relax_tapml.runtime_callback.store"),
        *("TVMBackendAllocWorkspace", "TVMBackendFreeWorkspace", "relax.run.shape_to_tensor"),
    }
)
_INTRINSIC = re.compile(
    r"llvm\.((exp|exp2|exp10|log|log2|log10|sin|cos|tan|tanh|sqrt|pow|powi|fabs|floor|ceil|trunc|rint"
    r"|round|roundeven|nearbyint|fma|fmuladd|copysign|minnum|maxnum|minimum|maximum|smin|smax|umin"
    r"|umax|abs|ctpop|ctlz|cttz|bswap|bitreverse|fshl|fshr|prefetch|assume|[su]add|[su]sub|[su]mul"
    r"|vector|experimental|get\.active\.lane\.mask|masked|vscale|lrint|llrint|lround|is\.fpclass)"
    r"(\..*)?|(aarch64|arm|x86|riscv|hexagon|amdgcn|nvvm|wasm|ppc|s390|loongarch)\..*)"
)
# The last intrinsic of LLVM, by number: the order is that of names, targets last.
_LAST_INTRINSIC = "llvm.xcore.zext"


@dataclass(frozen=True)
class ExternalCall:
    """A function that a module calls outside itself, or code that it carries.

    Parameters
    ----------
    name
        Of the function, or of the attribute or operator that carries code.
    how
        The operator that calls it, or why it is not harmless.
    is_harmless
        Whether it is on the list of harmless ones.
    """

    name: str
    how: str
    is_harmless: bool


def external_calls(graph: Graph) -> tuple[ExternalCall, ...]:
    """Return the external calls of a module, each name once.

    A name counts as external even if a function of the module has it: each kernel is compiled
    alone, so the name may find another function.
    """
    found: dict[str, ExternalCall] = {}
    for node in graph.nodes:
        for item in _of_node(graph, node):
            found.setdefault(item.name, item)
    return tuple(found.values())


def _of_node(graph: Graph, node: Node) -> Iterator[ExternalCall]:
    if node.type == "relax.expr.ExternFunc":
        name = graph.field(node, "global_symbol")
        if name is not None:
            yield _called(str(name.data), "ExternFunc")
    elif node.type == "ir.EnvFunc":
        name_text = str(node.data)
        yield ExternalCall(
            name_text, "a function of TVM's registry", name_text.startswith("tvm.relax.")
        )
    elif node.type == "tirx.AttrStmt":
        key = graph.field(node, "attr_key")
        if key is not None and _carries_code(str(key.data)):
            yield ExternalCall(
                str(key.data), "an attribute that passes code to the compiler", False
            )
    elif node.type in MAPS:
        for name_of, _ in graph.items(node):
            if name_of is not None and _carries_code(name_of):
                yield ExternalCall(name_of, "an attribute that passes code to the compiler", False)
            elif name_of in _COMPILER_OPTIONS:
                yield ExternalCall(name_of, "options of the compiler", False)
    elif isinstance(node.data, dict) and "op" in node.data and "args" in node.data:
        operator = graph.field(node, "op")
        if operator is not None and operator.type == "ir.Op":
            yield from _of_call(graph, str(operator.data), _arguments(graph, node))


def _of_call(graph: Graph, operator: str, arguments: list[Node]) -> Iterator[ExternalCall]:
    plain = operator.rpartition(".")[2]
    texts = [text for item in arguments if (text := _text(graph, item)) is not None]
    if plain in _CODE or operator.startswith(_CODE_PREFIXES):
        yield ExternalCall(operator, "an operator that carries code", False)
    elif plain in _INTRINSICS:
        yield _intrinsic(graph, operator, arguments)
    elif plain in _BY_NAME:
        # The name is the first text; TVM generates no such call without one.
        yield (
            _called(texts[0], plain)
            if texts
            else ExternalCall(operator, "a call without name", False)
        )
    elif operator.startswith(_INLINE_PREFIXES):
        for text in texts:
            if not _INLINE_TEXT.fullmatch(text):
                yield ExternalCall(text, f"a part of the code that {operator} generates", False)


def _carries_code(key: str) -> bool:
    return bool(_SOURCE_KEY.search(key)) or (key.startswith(_PRAGMA) and key not in _PRAGMAS)


def _called(name: str, how: str) -> ExternalCall:
    return ExternalCall(name, how, is_harmless(name))


def is_harmless(name: str) -> bool:
    """Whether every module may call an external function of a name."""
    if name in _MATH or name in _KNOWN or _MATH_ON_GPUS.fullmatch(name):
        return True
    return name.startswith(_RUNTIME) and not name.startswith(_NOT_RUNTIME)


def _arguments(graph: Graph, call: Node) -> list[Node]:
    arguments = graph.field(call, "args")
    if arguments is None or arguments.type not in SEQUENCES:
        return []
    return [graph.nodes[number] for number in arguments.data]


def _text(graph: Graph, node: Node) -> str | None:
    """Return the text of an argument that is one."""
    value = graph.field(node, "value") if node.type.endswith(".StringImm") else node
    return value.data if value is not None and value.type == "ffi.String" else None


def _intrinsic(graph: Graph, operator: str, arguments: list[Node]) -> ExternalCall:
    first = arguments[0] if arguments else Node("None", None)
    name = _text(graph, first)
    if name is None:
        value = graph.field(first, "value") or first
        name = _intrinsic_name(value.data) if isinstance(value.data, int) else ""
    return ExternalCall(name or operator, "an intrinsic of LLVM", bool(_INTRINSIC.fullmatch(name)))


@cache
def _intrinsic_name(number: int) -> str:
    """Return the name of an intrinsic of LLVM, empty for a number that none has."""
    look_up: Callable[[str], int] | None = tvm.get_global_func(
        "target.llvm_lookup_intrinsic_id", allow_missing=True
    )
    if look_up is None or not 0 < number <= look_up(_LAST_INTRINSIC):
        return ""
    return str(tvm.get_global_func("target.llvm_get_intrinsic_name")(number))
