"""What runs and replays found, as types, and the one codec that writes and reads them as JSON.

Whoever finds something out makes these frozen dataclasses: ``UnitResult``, ``StepResult``,
``DeviceResult``, ``PipelineResult``, ``CacheResult``, ``RepairResult``, and of a whole run
``RunResult``; of a replay ``ReplayResult``, of two builds ``BuildComparison``, of a kernel that was
judged ``KernelReport``.
Whoever reports it reads them: the terminal, ``report.html``, ``reproduce``, a resumed run.
``json_codec.encode`` and ``decode`` turn each into JSON and back; ``result_file`` writes and reads
``result.json``. No room has JSON shapes of its own for what is a result.
"""

__all__ = [
    "build_comparison",
    "cache_result",
    "calls_file",
    "device_result",
    "error_map_result",
    "failing_kernels",
    "import_result",
    "json_codec",
    "kernel_report",
    "matrix_result",
    "pipeline_result",
    "repair_result",
    "replay_result",
    "result_file",
    "run_result",
    "step_result",
    "unit_result",
]
