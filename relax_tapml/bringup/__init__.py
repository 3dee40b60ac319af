"""The main job, one file a stage: from a model to ``result.json``.

``lower_model``, ``build_source``, ``trust_source``, ``capture``, ``carve``, ``prepare_target``,
``build_target``, ``replay_alone``, ``migrate``, ``repair_failing``: each takes and returns frozen
dataclasses, and can be used without the others. ``main_job.run_stages`` calls them in order, with
what ``RunFolder`` kept of an earlier run, and ``summarise`` joins what they found. Only the command
line, ``mlc`` and the package itself import this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relax_tapml._lazy import lazily

if TYPE_CHECKING:
    from relax_tapml.bringup.alone import Alone, DeviceSpec, replay_alone
    from relax_tapml.bringup.capture_plan import CapturePlan
    from relax_tapml.bringup.carved_suite import CarvePlan, capture, carve
    from relax_tapml.bringup.ir_dump import IrDump
    from relax_tapml.bringup.lowered_model import Lowered, lower_model, read_lowered
    from relax_tapml.bringup.main_job import bring_up
    from relax_tapml.bringup.migrate_model import Migrated, MigrationPlan, migrate
    from relax_tapml.bringup.options import Options
    from relax_tapml.bringup.repair_stage import Repaired, repair_failing
    from relax_tapml.bringup.side_spec import SideSpec
    from relax_tapml.bringup.summary import Findings, summarise
    from relax_tapml.bringup.target_build import (
        PreparedTarget,
        TargetBuild,
        build_target,
        prepare_target,
    )
    from relax_tapml.bringup.trusted_source import BuiltSource, Trusted, build_source, trust_source

__all__ = [
    "Alone",
    "BuiltSource",
    "CapturePlan",
    "CarvePlan",
    "DeviceSpec",
    "Findings",
    "IrDump",
    "Lowered",
    "Migrated",
    "MigrationPlan",
    "Options",
    "PreparedTarget",
    "Repaired",
    "SideSpec",
    "TargetBuild",
    "Trusted",
    "bring_up",
    "build_source",
    "build_target",
    "capture",
    "carve",
    "lower_model",
    "migrate",
    "prepare_target",
    "read_lowered",
    "repair_failing",
    "replay_alone",
    "summarise",
    "target_kernels",
    "trust_source",
]

_HOMES = {
    "Alone": "relax_tapml.bringup.alone",
    "BuiltSource": "relax_tapml.bringup.trusted_source",
    "CapturePlan": "relax_tapml.bringup.capture_plan",
    "CarvePlan": "relax_tapml.bringup.carved_suite",
    "DeviceSpec": "relax_tapml.bringup.alone",
    "Findings": "relax_tapml.bringup.summary",
    "IrDump": "relax_tapml.bringup.ir_dump",
    "Lowered": "relax_tapml.bringup.lowered_model",
    "Migrated": "relax_tapml.bringup.migrate_model",
    "MigrationPlan": "relax_tapml.bringup.migrate_model",
    "Options": "relax_tapml.bringup.options",
    "PreparedTarget": "relax_tapml.bringup.target_build",
    "Repaired": "relax_tapml.bringup.repair_stage",
    "SideSpec": "relax_tapml.bringup.side_spec",
    "TargetBuild": "relax_tapml.bringup.target_build",
    "Trusted": "relax_tapml.bringup.trusted_source",
    "bring_up": "relax_tapml.bringup.main_job",
    "build_source": "relax_tapml.bringup.trusted_source",
    "build_target": "relax_tapml.bringup.target_build",
    "capture": "relax_tapml.bringup.carved_suite",
    "carve": "relax_tapml.bringup.carved_suite",
    "lower_model": "relax_tapml.bringup.lowered_model",
    "migrate": "relax_tapml.bringup.migrate_model",
    "prepare_target": "relax_tapml.bringup.target_build",
    "read_lowered": "relax_tapml.bringup.lowered_model",
    "repair_failing": "relax_tapml.bringup.repair_stage",
    "replay_alone": "relax_tapml.bringup.alone",
    "summarise": "relax_tapml.bringup.summary",
    "target_kernels": "relax_tapml.bringup.target_build",
    "trust_source": "relax_tapml.bringup.trusted_source",
}

__getattr__ = lazily(__name__, _HOMES)
