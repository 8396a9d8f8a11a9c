"""``lacewing reconstruct``: which training records can be rebuilt from a model of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lacewing.cli._common import Json, in_options, print_found


def reconstruct(
    model: Annotated[str, typer.Option(help="pkg.mod:factory, called as factory(shape, classes).")],
    weights: Annotated[Path, typer.Option(help="The model's weights, .safetensors.")],
    data: Annotated[
        Path, typer.Option(help=".npz with x, y, member: 1 for all records that it trained on, else 0; or images.")
    ],
    pixels: Annotated[str | None, typer.Option(help="How images are taken: 0-1, 0-255 or MEAN/STD.")] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(help="informed, inversion or stationarity (repeatable; default: what can run)."),
    ] = None,
    l2: Annotated[float | None, typer.Option(help="Weight decay on the last layer (default: what fits best).")] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train the last layer to a stationary point with --l2 first.")
    ] = False,
    targets: Annotated[int, typer.Option(help="Most members that are once the missing one.")] = 50,
    task: Annotated[str, typer.Option(help="classification or binary: what labels are.")] = "classification",
    outputs: Annotated[
        str | None, typer.Option(help="What the model answers: logits, probabilities, log-probabilities or sigmoid.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for results and finished attacks; continues there.")] = None,
    show_records: Annotated[
        bool,
        typer.Option(
            "--show-records", help="Also write pictures of rebuilt records beside training records (private data)."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Rebuild training records from your model.

    Attacks rebuild records from your model's weights; they stand beside an adversary who knows other records alone.
    """
    from lacewing import auditing

    options: dict[str, Any] = {"task": task, "outputs": outputs, "attacks": attack or "all", "l2": l2, "seed": seed}
    options["pixels"] = pixels
    options |= {"retrain": retrain, "targets": targets, "out": out, "show_records": show_records}
    with in_options():
        found = auditing.reconstruct_files(model=model, weights=weights, data=data, **options)
    print_found(found, as_json)
