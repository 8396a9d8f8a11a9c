"""All commands, in the order in which ``lacewing --help`` lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from lacewing.cli import _bench, _data, _list, _model, _reconstruction, _sparsify, _study
from lacewing.cli._common import need_command

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,  # with markup, help texts lose what stands in square brackets
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from lacewing import __version__

        print(f"lacewing {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure how much a network reveals about its training records, how much sparsity reduces that, and what it costs
    in accuracy.
    """
    need_command(context)


for _command in (
    _study.run,
    _study.report,
    _study.status,
    _study.merge,
    _study.export,
    _model.audit,
    _model.audit_attribute,
    _model.audit_property,
    _reconstruction.reconstruct,
    _model.audit_ranges,
    _model.audit_usage,
    _study.compare,
    _sparsify.sparsify,
    _study.init,
):
    app.command()(_command)
app.command("list")(_list.show)
app.add_typer(_data.app, name="data")
app.add_typer(_bench.app, name="bench")
