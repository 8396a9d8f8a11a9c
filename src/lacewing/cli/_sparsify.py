"""The command that makes a model sparse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lacewing.cli._common import Json, print_found, whole_numbers


def sparsify(
    model: Annotated[str, typer.Option(help="pkg.mod:factory, called without arguments (see --shape).")],
    to: Annotated[Path, typer.Option(help="The .safetensors file to write; the same factory loads it.")],
    weights: Annotated[Path | None, typer.Option(help="The model's weights, .safetensors or .pt.")] = None,
    method: Annotated[str, typer.Option(help="magnitude, random or butterfly.")] = "magnitude",
    density: Annotated[
        float | None, typer.Option(help="Target share of parameters kept: stored parameters / all parameters.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Instead of --density: keep N of every M weights along the inputs, e.g. 2:4.")
    ] = None,
    scope: Annotated[
        str, typer.Option(help="Rank weights globally or per layer: global, per-layer or erk.")
    ] = "global",
    ignore: Annotated[list[str] | None, typer.Option(help="A layer to leave dense (repeatable).")] = None,
    factors: Annotated[int | None, typer.Option(min=2, help="For butterfly: number of factors per layer.")] = None,
    layers: Annotated[
        str, typer.Option(help="For butterfly: which kind of layer is replaced: all, linear or conv.")
    ] = "all",
    parts_to: Annotated[Path | None, typer.Option(help="Also write the masks or the factors to this file.")] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Shape of a record, e.g. 3,32,32; the factory is then called with (shape, classes)."),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Number of outputs; needs --shape.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the initialisation and of random scores.")] = 0,
    as_json: Json = False,
) -> None:
    """Prune a model, or project it onto butterfly factors.

    Nothing is trained. The output lists what was done to each layer.
    """
    from lacewing.sparsify import files

    found = files.sparsify_files(
        model=model,
        weights=weights,
        to=to,
        method=method,
        density=density,
        pattern=pattern,
        scope=scope,
        ignore=ignore or (),
        factors=factors,
        layers=layers,
        parts_to=parts_to,
        shape=None if shape is None else whole_numbers("--shape", shape, "3,32,32"),
        classes=classes,
        seed=seed,
    )
    print_found(found, as_json)
