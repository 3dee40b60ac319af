"""Bring a small decoder with a paged KV cache up on a target, then with wrong kernels of its cache.

``python scripts/paged_on_target.py --target cuda --out dist/paged`` prefills 64 tokens and decodes
32, alone and in a batch of three sequences, in several dtypes, and prints a row each: how many of
the kernels that the cache calls were replayed and moved, how the model does with the cache on the
device, how many tokens are the source's. Then six kernels are made wrong, one at a time, and the
row says what is named.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "models"))

import broken_pipelines  # noqa: E402 - of the tests
import paged_llm  # noqa: E402

from relax_tapml import bring_up  # noqa: E402
from relax_tapml.bringup.lowered_model import lower_model  # noqa: E402
from relax_tapml.frontend.drives import with_drive  # noqa: E402
from relax_tapml.frontend.model import Model  # noqa: E402
from relax_tapml.partition.pipeline import load_pipeline  # noqa: E402
from relax_tapml.partition.target_kernels import given_kernels  # noqa: E402

DTYPES = ("float32", "float16", "4bit")
DECODE = "batch_decode_paged_kv_cpu"
Change = Callable[[Any], Any]


def decoder(dtype: str, scenarios: list[str]) -> Model:
    """Return the decoder, without the functions that only a draft model needs."""
    left_out = [name for name in paged_llm.spec(is_engine=True) if "hidden_states" in name]
    model = paged_llm.model(
        prompts=(64,),
        steps=32,
        is_quantized=dtype == "4bit",
        dtype="float32" if dtype == "4bit" else dtype,
        is_engine=True,
        left_out=[*left_out, "get_logits"],
    )
    return with_drive(model, scenarios)


def attends_to(change: Change) -> Change:
    """Return the fault of attending to another number of tokens than a sequence has."""

    def changed(store: tirx.BufferStore) -> tirx.BufferStore:
        if store.buffer.name != "kv_chunk_len":
            return store
        return tirx.BufferStore(store.buffer, change(store.value), store.indices)

    return lambda kernel: tvm_ffi.structural_map(kernel, (tirx.BufferStore, changed))


def second_sequence(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Be 1 % off for the second sequence of a batch."""

    def changed(store: tirx.BufferStore) -> tirx.BufferStore:
        if store.buffer.name != "output":
            return store
        dtype = store.value.ty
        factor = tirx.Cast(dtype, store.indices[0] == 1) * tirx.const(0.01, dtype)
        value = store.value * (factor + tirx.const(1, dtype))
        return tirx.BufferStore(store.buffer, value, store.indices)

    return tvm_ffi.structural_map(kernel, (tirx.BufferStore, changed))


FAULTS: dict[str, tuple[str, Change]] = {
    "decode 1 % off": (DECODE, broken_pipelines.scale),
    "rope 1 % off": ("fused_rope", broken_pipelines.scale),
    "merge of split attention 1 % off": ("merge_state_inplace_cpu", broken_pipelines.scale),
    "reads 16 tokens past the page table": (DECODE, attends_to(lambda n: n + 16)),
    "only the second sequence": (DECODE, second_sequence),
    "only beyond 33 tokens": (DECODE, attends_to(lambda n: tirx.min(n, 33))),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="llvm", help="a TVM target (default: %(default)s)")
    parser.add_argument("--session", default="process", help="where it runs")
    parser.add_argument("--dtype", nargs="*", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--drive", nargs="*", default=["chat", "batch"], help="scenarios")
    parser.add_argument("--device-pipeline", metavar="MODULE:ATTR", help="under all runs")
    parser.add_argument("--no-faults", action="store_true", help="only the right kernels")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    args = parser.parse_args()
    is_right = True
    for row, right in rows(args):
        print(row, flush=True)
        is_right = is_right and right
    return 0 if is_right else 1


def rows(args: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    """Yield the rows of the tables, and whether each is as it should be."""
    base = load_pipeline(args.device_pipeline)
    yield "| dtype | verdict | cache kernels: called, moved | cache there | tokens | s |", True
    yield "|---|---|---|---|---|---|", True
    for dtype in args.dtype:
        began = time.monotonic()
        model = decoder(dtype, args.drive)
        result = run(model, args, dtype, base)
        given = set(given_kernels(lower_model(model).module))
        called = [unit for unit in result.units if unit.name in given and unit.cases]
        moved = [unit for unit in called if unit.on_device]
        found = next((s.agreement for s in reversed(result.steps) if s.agreement), None)
        tokens = "-" if found is None else f"{found.same} + {found.ties} ties of {found.total}"
        cache = "-" if result.cache is None else result.cache.verdict
        yield (
            (
                f"| {dtype} | {result.verdict} {', '.join(result.culprits)} | {len(called)}, "
                f"{len(moved)} | {cache} | {tokens} | {time.monotonic() - began:.0f} |"
            ),
            result.verdict == "pass" and len(called) == len(moved),
        )
    if args.no_faults:
        return
    dtype = args.dtype[0]
    model = decoder(dtype, args.drive)
    yield f"\n| wrong kernel ({dtype}) | verdict | named | s |", True
    yield "|---|---|---|---|", True
    for name, (unit, fault) in FAULTS.items():
        began = time.monotonic()
        broken = broken_pipelines.breaks(unit, fault)
        both = broken if base is None else tvm.transform.Sequential([base, broken])
        result = run(model, args, dtype, both, resume=True, strategy="isolated", repair=False)
        seconds = time.monotonic() - began
        named = ", ".join(result.culprits)
        yield f"| {name} | {result.verdict} | {named} | {seconds:.0f} |", result.culprits == [unit]


def run(model: Model, args: argparse.Namespace, dtype: str, pipeline: Any, **options: Any) -> Any:
    given = {"strategy": "bisect", "force": not options.get("resume"), **options}
    return bring_up(
        dataclasses.replace(model, name=f"paged decoder, {dtype}"),
        target=args.target,
        session=args.session,
        out=args.out / dtype,
        device_pipeline=pipeline,
        **given,
    )


if __name__ == "__main__":
    raise SystemExit(main())
