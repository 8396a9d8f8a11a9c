"""The commands ``lacewing bench ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lacewing.cli._common import Device, Json, need_command, print_found, whole_numbers

app = typer.Typer(invoke_without_command=True)


@app.callback()
def _benchmarks(context: typer.Context) -> None:
    """Measure how much time sparsity costs and saves here."""
    need_command(context)


@app.command("butterfly")
def bench_butterfly(
    device: Device = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    sizes: Annotated[str, typer.Option(help="Rows and columns of the layers.")] = "256,1024,4096",
    batches: Annotated[str | None, typer.Option(help="Batch sizes (default: 1,64,1024; on CUDA also 16384).")] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(help="fp32 or bf16 (repeatable; default: those that the hardware multiplies)."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Seconds of timing for each method and setting.")] = 0.5,
    networks: Annotated[bool, typer.Option(help="Also time ResNet-20.")] = True,
    out: Annotated[
        Path | None, typer.Option(help="Write butterfly.json, butterfly.txt and figures to this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Time dense, butterfly and pruned layers and networks.

    Measures linear layers and ResNet-20, with their share of the roofline and their memory.
    """
    from lacewing import bench

    found = bench.butterfly(
        device=device,
        threads=threads,
        sizes=whole_numbers("--sizes", sizes, "256,1024"),
        batches=None if batches is None else whole_numbers("--batches", batches, "1,64"),
        dtypes=dtype,
        seconds=seconds,
        networks=networks,
        out=out,
    )
    print_found(found, as_json)


@app.command("train")
def bench_train(
    device: Device = "auto",
    seconds: Annotated[float, typer.Option(help="Seconds of each timing window.")] = 10.0,
    repeats: Annotated[int, typer.Option(min=1, help="Timing windows of each variant; variants alternate.")] = 3,
    stacks: Annotated[bool, typer.Option(help="Also time perceptrons.")] = True,
    as_json: Json = False,
) -> None:
    """Time training against a plain PyTorch loop.

    Trains ResNet-20, one network and several at once, and stacks of perceptrons.
    """
    from lacewing import bench

    found = bench.train(device=device, seconds=seconds, repeats=repeats, stacks=stacks)
    print_found(found, as_json)
