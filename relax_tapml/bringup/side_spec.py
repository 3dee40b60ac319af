"""What a side runs on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import tvm

from relax_tapml.partition.pipeline import load_pipeline
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.registry import platform_of


@dataclass(frozen=True, kw_only=True)
class SideSpec:
    """A target, and the pass that is applied to the module before it is built for that target.

    Parameters
    ----------
    target
        The ``tvm.target.Target``.
    pipeline
        A Relax pass, or None.
    """

    target: tvm.target.Target
    pipeline: tvm.transform.Pass | None = None

    @classmethod
    def of(cls, target: Any, pipeline: Any = None, session: str | None = None) -> SideSpec:
        """Return a side from what people write.

        Parameters
        ----------
        target
            A target's kind, tag or JSON; or a ``tvm.target.Target``.
        pipeline
            ``MODULE:ATTR`` or a pass; None for none.
        session
            Where it runs, as for ``parse_target``.

        Raises
        ------
        UsageError
            The target is not known, or the pipeline cannot be imported or is no pass.
        """
        parsed = parse_target(target, session) if isinstance(target, str) else target
        return cls(target=parsed, pipeline=load_pipeline(pipeline))

    def trusted(self) -> SideSpec:
        """Return the side for kernels that are trusted; see ``Platform.trusted``.

        Stages do this to their source. Applied twice, it changes nothing more.
        """
        target = platform_of(self.target).trusted(self.target)
        return self if target is self.target else replace(self, target=target)

    @property
    def options_text(self) -> str:
        """How its kernels are compiled, for people; empty where that is TVM's default."""
        return platform_of(self.target).options_text(self.target)

    @property
    def name(self) -> str:
        """The kind of its target."""
        return str(self.target.kind.name)

    @property
    def described(self) -> str:
        """The kind of its target, and what is special about its compile options, for people."""
        return f"{self.name} ({self.options_text})" if self.options_text else self.name

    @property
    def pipeline_name(self) -> str:
        """The name of its pipeline; empty without one."""
        return "" if self.pipeline is None else str(self.pipeline.info.name)
