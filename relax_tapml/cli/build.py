"""``relax-tapml build`` and ``python -m relax_tapml.build``: bring a model up on a target."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relax_tapml.cli.exit import guarded, parsed
from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.frontend.load.registry import FRONTENDS
from relax_tapml.migrate.strategies.registry import CHOICES

_DESCRIPTION = (
    "Carve operator tests from a trusted run of a model, replay them on a target, and migrate "
    "the model to it unit by unit."
)
_EPILOG = (
    "Defaults are in parentheses. Exit codes: 0 all pass, 1 something is wrong (the culprits in "
    "the result), 2 usage, 3 inconclusive, 70 internal error, 130, 143 and 129 ended by Ctrl-C, "
    "SIGTERM and SIGHUP."
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m relax_tapml.build``."""
    parser = argparse.ArgumentParser(
        prog="python -m relax_tapml.build", description=_DESCRIPTION, epilog=_EPILOG
    )
    _add_arguments(parser)
    parser.add_argument("--verbose", action="store_true", help="print tracebacks of errors")
    return parser


def add_parser(subparsers: Any) -> None:
    """Add ``relax-tapml build``."""
    _add_arguments(
        subparsers.add_parser(
            "build",
            help="bring a model up on a target",
            description=f"{_DESCRIPTION} The same as python -m relax_tapml.build.",
            epilog=_EPILOG,
        )
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="; ".join(frontend.summary for frontend in FRONTENDS),
    )
    add("--source", default="llvm", metavar="TARGET", help="trusted TVM target (llvm)")
    add("--target", default="llvm", metavar="TARGET", help="TVM target to bring up (llvm)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--session",
        default="process",
        help="where the device runs: process (a local process, for webgpu a headless browser), "
        "inline, browser, node, rpc:HOST:PORT or tracker:HOST:PORT:KEY; 'relax-tapml doctor' "
        "lists those of each platform (process)",
    )
    where.add_argument(
        "--show",
        dest="session",
        action="store_const",
        const="browser",
        help="use your own browser, at the printed URL; the same as --session browser",
    )
    add(
        "--inputs",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help=".npz or .safetensors files, one sample each, or folders of them; for mlc:CONFIG a "
        "sample is one array of token ids (random ones without --inputs)",
    )
    add(
        "--text",
        action="append",
        default=[],
        help="input of a text model; may be repeated",
    )
    add(
        "--dim",
        action="append",
        default=[],
        type=_dim,
        metavar="NAME=N[,N]",
        help="size of a dimension that model.onnx or model.tflite leaves open: one fixes it, "
        "several keep it symbolic (ONNX only); may be repeated (those of the inputs; without "
        "--inputs 1 for a first dimension, else 64)",
    )
    add("--quantization", metavar="NAME", help="of mlc:CONFIG, such as q4f16_1 (as in CONFIG)")
    add(
        "--drive",
        action="append",
        default=[],
        metavar="NAME",
        help="how a decoder with a paged KV cache is run: chat, batch, fork, tree, grow, window, "
        "hidden, drafts, softmax, logits, draw, top_p or verify; may be repeated (all that the "
        "model allows); or MODULE:FUNCTION, which runs a sample of any model",
    )
    add("--device-pipeline", metavar="MODULE:ATTR", help="Relax pass for the device's module")
    add("--host-pipeline", metavar="MODULE:ATTR", help="Relax pass for the host's module")
    add(
        "--migrate",
        default="all",
        metavar="all|next|N",
        help="how many groups to move now (all)",
    )
    add(
        "--by",
        default="unit",
        choices=["unit", "kind", "layer", "function", "site"],
        help="what moves to the device in one step (unit)",
    )
    add(
        "--strategy",
        choices=list(CHOICES),
        help="; ".join(f"{name}: {summary}" for name, summary in CHOICES.items())
        + " (linear; bisect if that would take more than ten minutes)",
    )
    add(
        "--boundary",
        type=Path,
        metavar="FILE",
        help="a boundary.json, as a run writes it for each step: only what it lists may move",
    )
    add(
        "--repeat",
        type=int,
        default=1,
        metavar="N",
        help="run each case and each step N times, for a device whose results vary (1)",
    )
    add(
        "--capture-calls",
        default="all",
        metavar="all|N|SIZE[/K]",
        help="operator calls to capture: all; N of each unit in a run of a function, from its "
        "first to its last; or as many of each unit as fit into a SIZE such as 2GB. With /K only "
        "of every K-th run of a function, as in a decoding loop (all)",
    )
    add(
        "--cases-per-unit",
        type=int,
        default=3,
        metavar="N",
        help="carve at most N cases (3)",
    )
    add(
        "--no-probes",
        action="store_true",
        help="carve recorded calls only, no made inputs",
    )
    add(
        "--no-import-check",
        action="store_true",
        help="only warn if the source's outputs differ from the framework's",
    )
    add("--trust", action="store_true", help=TRUST_HELP)
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds for one device call (60)")
    add(
        "--repair",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="look for other kernels where units fail, and move these units with them (yes)",
    )
    add(
        "--repair-budget",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds for that search, all units together (300)",
    )
    add(
        "--dump-ir",
        type=Path,
        metavar="DIR",
        help="write the module after each pass of each phase to DIR, which must be new or empty",
    )
    add("--out", type=Path, metavar="DIR", help="output folder (dist/MODEL)")
    add("--resume", action="store_true", help="continue the run in DIR")
    add("--force", action="store_true", help="replace the run in DIR")
    add("--all", action="store_true", help="list the units that pass and all metrics, too")
    add("--json", action="store_true", help="print result.json on stdout")


def _dim(text: str) -> tuple[str, tuple[int, ...]]:
    """Read ``NAME=1,8``."""
    name, separator, sizes = text.rpartition("=")
    try:
        if not separator or not name:
            raise ValueError
        return name, tuple(int(size) for size in sizes.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected NAME=1 or NAME=1,8, got {text!r}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return guarded(run, is_folded=True)(parsed(parser(), argv))


def run(args: argparse.Namespace) -> int:
    """Bring the model up, print what was found, and return the exit code."""
    # Imported here so that --help and usage errors do not wait for TVM.
    from relax_tapml.bringup.main_job import bring_up
    from relax_tapml.cli.present import present
    from relax_tapml.cli.progress import Progress

    out = args.out or Path("dist") / _folder_name(args.model)
    result = bring_up(
        args.model,
        out=out,
        inputs=args.inputs,
        texts=args.text,
        quantization=args.quantization,
        dims=dict(args.dim),
        drive=args.drive,
        resume=args.resume,
        force=args.force,
        reporter=Progress(),
        source=args.source,
        target=args.target,
        session=args.session,
        host_pipeline=args.host_pipeline,
        device_pipeline=args.device_pipeline,
        strategy=args.strategy,
        by=args.by,
        boundary=args.boundary,
        migrate=args.migrate,
        repeat=args.repeat,
        capture_calls=args.capture_calls,
        cases_per_unit=args.cases_per_unit,
        is_probed=not args.no_probes,
        timeout_s=args.timeout,
        repair=args.repair,
        repair_budget_s=args.repair_budget,
        is_import_checked=not args.no_import_check,
        trust=args.trust,
        dump_ir=args.dump_ir,
    )
    if args.json:
        sys.stdout.write(json.dumps(result.document) + "\n")
    else:
        present(result, out=out, show_all=args.all)
    return int(result.exit_code)


def _folder_name(model: str) -> str:
    if model.startswith("mlc:"):
        path = Path(model.removeprefix("mlc:")).resolve()
        # With the prefix, as MLC itself writes a model to dist/NAME.
        return f"mlc.{path.parent.name if path.suffix == '.json' else path.name}"
    return Path(model.replace(":", ".")).stem if "/" in model else model.replace(":", ".")
