"""Put faults into TVM's importer, and see whether the node that is imported wrongly is named.

Each fault is a wrong converter of one operator, used for an architecture of the zoo that has that
operator. Right is: nodes of that operator are named, and no other. Faults that change no output
beyond its tolerance are not noticed by the import check, and count as such.

``python scripts/bench_import_faults.py`` takes about five minutes.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import tvm
from import_faults import FAULTS
from rich.console import Console
from rich.table import Table

from relax_tapml.bringup import build_source, lower_model, trust_source
from relax_tapml.bringup._import_fault import find_import_fault
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import TapmlError
from relax_tapml.frontend.torch_export import from_torch

_TARGET = {"kind": "llvm", "opt-level": 1}
MODELS = ("llama", "gpt2", "bert", "falcon", "t5", "gemma2", "resnet", "vit", "whisper", "swin")


@dataclass(frozen=True, kw_only=True)
class FaultRow:
    """One fault in one architecture.

    Parameters
    ----------
    model, fault, operator
        Which.
    named
        The operators of the nodes that were named.
    nodes
        How many nodes were.
    outcome
        ``named``, ``not noticed``, or what went wrong.
    seconds
        What the search took.
    """

    model: str
    fault: str
    operator: str
    named: tuple[str, ...] = ()
    nodes: int = 0
    outcome: str
    seconds: float = 0.0

    @property
    def is_right(self) -> bool:
        """Whether exactly the nodes of the operator were named."""
        return self.outcome == "named"


def try_fault(
    model: str,
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    fault: str,
    kernels: Path,
) -> FaultRow:
    """Import an architecture with a fault, and look for it."""
    operator, converter = FAULTS[fault]
    imported = from_torch(module, example, name=model, convert_map={operator: converter})
    source = build_source(
        imported, lower_model(imported), SideSpec(target=tvm.target.Target(_TARGET)), kernels
    )
    trusted = trust_source(source)
    with tempfile.TemporaryDirectory() as folder:
        finding = find_import_fault(trusted, Path(folder) / "import", kernels).finding
    if trusted.check is None or trusted.check.verdict is not Verdict.MISMATCH:
        return FaultRow(model=model, fault=fault, operator=operator, outcome="not noticed")
    named = () if finding is None else finding.nodes
    operators = tuple(dict.fromkeys(node.operator.removeprefix("aten.") for node in named))
    return FaultRow(
        model=model,
        fault=fault,
        operator=operator,
        named=operators,
        nodes=sum(1 + len(node.alike) for node in named),
        outcome="named" if operators == (operator,) else "WRONG",
        seconds=0.0 if finding is None else finding.seconds,
    )


def faults_of(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> list[str]:
    """Return the faults whose operator an architecture has."""
    with torch.no_grad():
        program = torch.export.export(module, example)
    nodes = program.run_decompositions().graph.nodes
    names = {getattr(node.target, "__name__", "") for node in nodes if node.op == "call_function"}
    return [fault for fault, (operator, _) in FAULTS.items() if operator in names]


def main() -> int:
    """Try the faults; return 0 if each that was noticed is named, and nothing else."""
    from zoo_models import ARCHITECTURES, BATCH, TOKENS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="MODEL", help="of the zoo; ten by default")
    parser.add_argument("--each", type=int, default=2, help="faults of each model (default: 2)")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - ARCHITECTURES.keys())
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(ARCHITECTURES)}")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    rows: list[FaultRow] = []
    tried: dict[str, int] = dict.fromkeys(FAULTS, 0)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as kernels:
        for model in args.names or MODELS:
            noticed = 0
            built = ARCHITECTURES[model].build()
            example = built.inputs(0, BATCH, TOKENS)
            # Those that were tried least come first.
            for fault in sorted(faults_of(built.module, example), key=tried.__getitem__):
                if noticed == args.each:
                    break
                try:
                    row = try_fault(model, built.module, example, fault, Path(kernels))
                except TapmlError as error:
                    text = " ".join(str(error).split())[:120]
                    row = FaultRow(
                        model=model,
                        fault=fault,
                        operator=FAULTS[fault][0],
                        outcome=f"error: {text}",
                    )
                tried[fault] += 1
                noticed += row.outcome != "not noticed"
                rows.append(row)
                print(f"{row.model}: {row.fault}: {row.outcome} {', '.join(row.named)}", flush=True)
    _print(rows)
    noticed_rows = [row for row in rows if row.outcome != "not noticed"]
    count = sum(row.is_right for row in noticed_rows)
    print(
        f"{count} of {len(noticed_rows)} faults in {len({row.model for row in noticed_rows})} "
        f"architectures are named, and nothing else; {len(rows) - len(noticed_rows)} change no "
        f"output beyond its tolerance; {time.perf_counter() - began:.0f} s"
    )
    return int(count != len(noticed_rows))


def _print(rows: list[FaultRow]) -> None:
    table = Table(box=None)
    for name in ("model", "fault", "operator", "outcome", "named", "nodes", "seconds"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        cells = (row.model, row.fault, row.operator, row.outcome, ", ".join(row.named))
        table.add_row(*cells, str(row.nodes), f"{row.seconds:.1f}")
    Console(width=180).print(table)


if __name__ == "__main__":
    sys.exit(main())
