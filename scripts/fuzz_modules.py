"""Ways to damage IR that is saved as JSON, and IR that runs code that is not ours."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import tvm
from campaign_child import Place
from fuzz_operators import code, damaged_document, paths, terminal
from tvm import relax, tirx
from tvm.ir import IRModule

from relax_tapml._compat import StringImm, TirStringImm

_TYPES = (
    "ffi.Module",
    "ffi.Function",
    "ffi.Bytes",
    "ffi.Tensor",
    "relax.expr.ExternFunc",
    "ir.GlobalVar",
    "tirx.PrimFunc",
    "no.such.type",
    "None",
    "int",
    "ffi.Map",
)


def damaged_module(data: bytes, draw: random.Random, place: Place) -> tuple[bytes, str]:
    """Return IR as JSON with damaged nodes: names, references, types, cycles, or anything."""
    document = json.loads(data)
    nodes: list[dict[str, Any]] = document["nodes"]
    operator = draw.choice(("name", "name", "reference", "cycle", "type", "key", *["any"] * 4))
    if operator == "any":
        damaged, text = damaged_document(document, draw, place, lambda way: way == ("nodes",))
        return json.dumps(damaged).encode(), text
    if operator == "name":
        strings = sorted({node["data"] for node in nodes if node.get("type") == "ffi.String"})
        old, new = draw.choice(strings), draw.choice([*code(place), *paths(place), *terminal()])
        text = _renamed(nodes, old, new)
    elif operator == "type":
        node = draw.choice(nodes)
        text = f"{node.get('type')} is {(new := draw.choice(_TYPES))}"
        node["type"] = new
    elif operator == "key":
        text = _with_key(nodes, draw, place)
    else:
        text = _rewired(nodes, draw, is_cycle=operator == "cycle")
    return json.dumps(document).encode(), f"{operator}: {text}"


def renamed(text: str, old: str, new: str) -> str:
    """Return IR as JSON in which a string is another one everywhere."""
    document = json.loads(text)
    _renamed(document["nodes"], old, new)
    return json.dumps(document)


def _renamed(nodes: list[dict[str, Any]], old: str, new: str) -> str:
    for node in nodes:
        if node.get("type") == "ffi.String" and node["data"] == old:
            node["data"] = new
    return f"{old!r} is {new!r:.60}"


def _with_key(nodes: list[dict[str, Any]], draw: random.Random, place: Place) -> str:
    maps = [node for node in nodes if node.get("type") == "ffi.Map"]
    key = draw.choice([*code(place), *terminal()])
    if not maps:
        return "no map"
    nodes += [{"type": "ffi.String", "data": key}, {"type": "int", "data": 1}]
    draw.choice(maps)["data"] += [len(nodes) - 2, len(nodes) - 1]
    return f"attribute {key!r:.60}"


def _rewired(nodes: list[dict[str, Any]], draw: random.Random, *, is_cycle: bool) -> str:
    """Let a reference of a node lead somewhere else: to itself, onwards, or nowhere."""
    index = draw.randrange(len(nodes))
    data = nodes[index].get("data")
    later = draw.randrange(index, len(nodes))
    ends = (index, later, len(nodes) - 1) if is_cycle else (-1, 2**31, 2**63, len(nodes), 0, later)
    end = draw.choice(ends)
    if isinstance(data, list) and data:
        data[draw.randrange(len(data))] = end
    elif isinstance(data, dict) and data:
        data[draw.choice(sorted(data))] = end
    else:
        nodes[index]["data"] = end
    return f"node {index} leads to {end}"


Plant = Callable[[IRModule, Place], IRModule | None]


def plants() -> dict[str, Plant]:
    """Return what makes a module run foreign code when it is built, run or printed.

    Each returns None where the module has nothing to plant it in.
    """
    return {
        "extern system": lambda m, p: _in_kernel(m, _first(_extern("system", p))),
        "extern unknown": lambda m, p: _in_kernel(m, _first(_extern("nobody_has_this", p))),
        "packed load": lambda m, p: _in_kernel(m, _first(_packed(p, tirx.call_packed))),
        "cpacked load": lambda m, p: _in_kernel(m, _first(_packed(p, tirx.call_cpacked))),
        "import llvm": lambda m, p: _in_kernel(m, _llvm(p)),
        "import c": lambda m, p: _in_kernel(m, _c(p)),
        "relax extern": _relax_extern,
        "relax pure packed": _relax_packed,
        "attribute of a call": _attribute,
        "path as name": _path,
    }


Change = Callable[[Any], Any]


def _first(statement: Any) -> Change:
    """Do a statement before a body."""
    return lambda body: tirx.SeqStmt([statement, body])


def _extern(name: str, place: Place) -> Any:
    return tirx.Evaluate(tirx.call_extern("int32", name, f"touch {place.marks / 'extern'}"))


def _packed(place: Place, call: Callable[..., Any]) -> Any:
    return tirx.Evaluate(call("ffi.ModuleLoadFromFile", str(place.root / "library.so")))


def _llvm(place: Place) -> Change:
    """Call a function that any kernel may call, with a definition of our own."""
    command = f"touch {place.marks / 'llvm'}"
    text = f"""
@text = private constant [{len(command) + 1} x i8] c"{command}\\00"
declare i32 @system(ptr)
define float @tanhf(float %x) {{
  %1 = call i32 @system(ptr @text)
  ret float %x
}}
"""
    use = _first(tirx.Evaluate(tirx.call_extern("float32", "tanhf", tirx.const(0.5, "float32"))))
    return lambda body: _pragma("pragma_import_llvm", text)(use(body))


def _c(place: Place) -> Change:
    command = f"touch {place.marks / 'c'}"
    text = f'__attribute__((constructor)) void f() {{system("{command}");}}'
    return _pragma("pragma_import_c", text)


def _pragma(key: str, text: str) -> Change:
    zero = tirx.const(0, "int32")
    return lambda body: tirx.AttrStmt(zero, key, TirStringImm(text), body)


def _in_kernel(module: IRModule, change: Change) -> IRModule | None:
    """Return the module with another body of its first kernel."""
    changed = module.clone()
    for gvar, function in module.functions.items():
        if not isinstance(function, tirx.PrimFunc):
            continue
        root = function.body
        block = root.block
        body, kind = change(block.body), type(block)
        inside = kind(
            *(block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init),
            *(block.alloc_buffers, block.match_buffers, block.annotations),
        )
        changed_root = type(root)(root.iter_values, root.predicate, inside)
        changed.update_func(gvar, function.with_body(changed_root))
        return changed
    return None


def _relax_extern(module: IRModule, place: Place) -> IRModule | None:
    library = StringImm(str(place.root / "library.so"))
    extern = relax.ExternFunc("ffi.ModuleLoadFromFile")
    return _in_main(module, lambda _: relax.Call(extern, [library], None, [relax.ObjectType()]))


def _relax_packed(module: IRModule, place: Place) -> IRModule | None:
    library = StringImm(str(place.root / "library.so"))
    called = "ffi.ModuleLoadFromFile"
    return _in_main(
        module, lambda _: relax.call_pure_packed(called, library, ty_args=[relax.ObjectType()])
    )


def _attribute(module: IRModule, place: Place) -> IRModule | None:
    evil = code(place)[1]
    attributes = tvm.ir.make_node("ir.DictAttrs", **{evil: 1})

    def call(argument: Any) -> Any:
        return relax.Call(relax.ExternFunc("x"), [argument], attributes, [argument.ty])

    return _in_main(module, call)


def _in_main(module: IRModule, call: Callable[[Any], Any]) -> IRModule | None:
    """Return the module with a call at the beginning of ``main``."""
    if "main" not in [gvar.name_hint for gvar in module.functions]:
        return None
    gvar = module.get_global_var("main")
    main = module[gvar]
    sequence = main.body
    made = relax.BlockBuilder(module).normalize(call(main.params[0]))
    extra = relax.BindingBlock([relax.VarBinding(relax.Var("planted", made.ty), made)])
    body = relax.SeqExpr([extra, *sequence.blocks], sequence.body)
    changed = module.clone()
    impure = relax.Function(main.params, body, main.ret_ty, False, main.attrs)
    changed.update_func(gvar, impure)
    return changed


def _path(module: IRModule, place: Place) -> IRModule | None:
    """Return the module whose first kernel has the path of a file as its name."""
    kernels = [g.name_hint for g, f in module.functions.items() if isinstance(f, tirx.PrimFunc)]
    if not kernels:
        return None
    text = tvm.ir.save_json(module)
    named = renamed(text, kernels[0], str(place.canary / "planted"))
    return copy.copy(tvm.ir.load_json(named))
