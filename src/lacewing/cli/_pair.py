"""The options of ``audit`` for a sparse network against a dense one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lacewing.errors import UsageError

_PANEL = "Dense against sparse"

Against = Annotated[
    Path | None,
    typer.Option(help="Weights of the dense network that --weights are the sparse version of.", rich_help_panel=_PANEL),
]
RefitDense = Annotated[
    str | None, typer.Option(help="pkg.mod:function, the training of the dense network.", rich_help_panel=_PANEL)
]
Variation = Annotated[
    list[str] | None,
    typer.Option(help="NAME=pkg.mod:function, a further sparse training (repeatable).", rich_help_panel=_PANEL),
]
Control = Annotated[
    list[str] | None,
    typer.Option(
        help="FAMILY/NAME=pkg.mod:function, an ordinary dense training to compare with at equal accuracy (repeatable; "
        "those of a family vary one thing).",
        rich_help_panel=_PANEL,
    ),
]
EqualMetric = Annotated[
    str | None,
    typer.Option(help="What is compared at equal accuracy [default: lira-online.auc].", rich_help_panel=_PANEL),
]
PairDryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Train a network or two and print what all would take.", rich_help_panel=_PANEL),
]


def check_pair(against: Path | None, options: dict[str, Any], gates: list[str]) -> None:
    """Raises `UsageError`: ``options`` about two networks without a dense one, or gates that nothing can judge."""
    if against is None and (extra := [name for name, value in options.items() if value]):
        raise UsageError(f"{extra[0]} is about a sparse network and a dense one: give the dense one as --against.")
    if options["--dry-run"] and gates:
        raise UsageError("--dry-run audits nothing, so that no gate can be judged: leave out --fail-if.")


def pair_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options of the command as arguments of ``audit_pair_files``.

    Raises `UsageError` where one does not apply to two networks.
    """
    found = {name.replace("-", "_"): value for name, value in options.items()}
    for name in ("checkpoint", "initial"):
        if found.pop(name):
            raise UsageError(f"--{name} is about one network: leave it out, or --against.")
    found["variations"] = found.pop("variation") or ()
    found["controls"] = found.pop("control") or ()
    if found["metric"] is None:
        del found["metric"]
    return found
