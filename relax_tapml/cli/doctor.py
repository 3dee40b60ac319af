"""``relax-tapml doctor``: all platforms, and what they need on this machine."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from typing import TYPE_CHECKING, Any

from relax_tapml.errors import ExitCode, TapmlError

if TYPE_CHECKING:
    from relax_tapml.targets.platforms.platform import Platform


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "doctor",
        help="list targets, what each needs and the commands that install what is missing",
        description="List the platforms that --target takes, what each needs on this machine and "
        "the command that installs what is missing. Nothing is installed or downloaded. Exit "
        "codes: 0, or 3 if a target that was named is not ready.",
    )
    parser.add_argument("target", nargs="*", metavar="TARGET", help="only these")
    parser.add_argument(
        "--try",
        dest="is_tried",
        action="store_true",
        help="open a device of each target here and run a kernel on it",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: Namespace) -> int:
    """Print the platforms; 0, or 3 if one that was named is not ready."""
    from relax_tapml.targets.platforms.registry import PLATFORMS, platform_named  # imports TVM

    chosen = [platform_named(name) for name in args.target] or PLATFORMS
    examined = [_examine(platform, is_tried=args.is_tried) for platform in chosen]
    if args.json:
        json.dump({"schema": 1, "targets": examined}, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        _print(examined)
    is_ready = all(item["state"] in ("ready", "works") for item in examined)
    return ExitCode.PASS if is_ready or not args.target else ExitCode.INCONCLUSIVE


def _examine(platform: Platform, *, is_tried: bool) -> dict[str, Any]:
    needs = platform.requirements()
    missing = [item.name for item in needs if item.is_needed and not item.found]
    state, detail = ("missing", ", ".join(missing)) if missing else ("ready", "")
    if not missing and not platform.has_device_here():
        state, detail = "kernels only", f"there is no such device here; {platform.elsewhere}"
    if is_tried and state == "ready":
        from relax_tapml.cli.trial import run_a_kernel  # imports TVM

        try:
            state, detail = "works", run_a_kernel(platform)
        except Exception as error:  # It must not hide the other platforms.
            text = str(error) if isinstance(error, TapmlError) else repr(error)
            state, detail = "fails", text
    return {
        "name": platform.name,
        "summary": platform.summary,
        "tried_on": platform.tried_on,
        "sessions": [*platform.sessions(), *platform.remote_sessions],
        "state": state,
        "detail": detail,
        "devices": platform.devices_here(),
        "requirements": [
            {
                "name": item.name,
                "use": item.use,
                "found": item.found,
                "install": item.install,
                "is_needed": item.is_needed,
            }
            for item in needs
        ],
    }


def _print(examined: list[dict[str, Any]]) -> None:
    width = max(len(item["name"]) for item in examined) + 2
    for item in examined:
        state = item["state"] + (f": {item['detail']}" if item["detail"] else "")
        lines = [
            item["summary"],
            f"here      {state}",
            *(f"device    {device}" for device in item["devices"]),
            f"sessions  {', '.join(item['sessions'])}",
            f"tried on  {item['tried_on']}",
        ]
        for need in item["requirements"]:
            if not need["found"]:
                weight = "needed" if need["is_needed"] else "optional"
                lines.append(f"missing   {need['name']} ({weight}): {need['use']}")
                lines.append(f"          {need['install']}")
        for number, line in enumerate(lines):
            sys.stdout.write(f"{'' if number else item['name']:<{width}}{line}\n")
        sys.stdout.write("\n")
