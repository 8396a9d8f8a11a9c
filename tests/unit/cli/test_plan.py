"""The networks of a dry run as a terminal shows them."""

from __future__ import annotations

from typing import Any

import pytest

from lacewing.cli._study import _print_networks


def _table(seeds: int, inits: int = 1) -> list[dict[str, Any]]:
    counts = {"parameters": 1000, "nonzero": 500, "density": 0.5, "density_prunable": 0.4, "epochs": 7}
    return [
        {"name": name, "role": "target", "seed": seed, "init": init, "done": name == "dense" and seed == 0, **counts}
        for name in ("dense", "imp-01")
        for seed in range(seeds)
        for init in range(inits)
    ]


def test_few_networks_are_listed_one_by_one_and_many_by_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    _print_networks(_table(2))
    few = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in few] == ["seed", "0", "1", "0", "1"]
    _print_networks(_table(1, inits=2))
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["seed.init", "0", "0.1", "0", "0.1"]
    _print_networks(_table(21))
    many = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in many[1:]] == [["dense", "target", "21", "1,000"], ["imp-01", "target", "21", "1,000"]]
    assert many[1][-2:] == ["1", "done"]
    assert many[2][-1] == "7"
