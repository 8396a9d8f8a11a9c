"""precision = "auto": what is timed, what is taken, and what a run folder keeps of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lacewing import cli
from lacewing.config import Model, Train
from lacewing.errors import FolderError
from lacewing.study import auto as _auto
from lacewing.study.declared import Study, load_study
from lacewing.study.folder import recorded
from lacewing.study.jobs import Workspace
from lacewing.study.prepared import Prepared
from lacewing.study.run import merge, run
from lacewing.study.store import Store
from lacewing.training import precision
from lacewing.training.precision import PrecisionChoice, choose, decide, timed

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"dataset": "digits", "records": 200},
    "model": {"name": "mlp", "hidden": [8]},
    "train": {"epochs": 1, "batch_size": 20},
    "networks": [{"method": "dense"}],
    "run": {"seeds": [0]},
}


class Steps:
    """Training steps that take the seconds that they are told, on a clock of their own."""

    def __init__(self, fp32: float, bf16: float) -> None:
        self.takes, self.now, self.done = {"fp32": fp32, "bf16": bf16}, 0.0, list[str]()

    def __call__(self, name: str) -> None:
        self.done.append(name)
        self.now += self.takes[name]
        if len(self.done) < 3:
            self.now += 5.0  # the first steps are slow

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("fp32", "bf16", "chosen"),
    [(1.09, 1.0, "fp32"), (1.11, 1.0, "bf16"), (1.0, 1.35, "fp32"), (1.0, 1.0, "fp32"), (0.004, 0.001, "bf16")],
)
def test_bf16_is_taken_if_it_is_ten_per_cent_faster(fp32: float, bf16: float, chosen: str) -> None:
    steps = Steps(fp32, bf16)
    found = timed(steps, seconds=1.0, clock=steps.clock)
    assert found == {"fp32": pytest.approx(fp32), "bf16": pytest.approx(bf16)}
    choice = decide(found, 64)
    assert choice.chosen == chosen
    assert choice.as_dict()["step_seconds"] == found
    assert ("at least 10 % faster" in choice.why) == (chosen == "fp32")


def test_windows_take_turns_and_one_that_is_disturbed_changes_nothing() -> None:
    steps = Steps(0.02, 0.01)

    def step(name: str) -> None:
        steps(name)
        if 20 < len(steps.done) < 30:
            steps.now += 30.0

    found = timed(step, seconds=1.0, clock=steps.clock)
    assert found == {"fp32": pytest.approx(0.02), "bf16": pytest.approx(0.01)}
    turns = [name for name, before in zip(steps.done[4:], steps.done[3:], strict=False) if name != before]
    assert turns == ["fp32", "bf16"] * precision.ROUNDS


def test_a_close_decision_takes_more_rounds_than_a_clear_one() -> None:
    rounds = {}
    for name, gains in {"clear": [1.5] * 99, "close": [1.05, 1.15, 1.15, 1.05, 1.15, *[1.15] * 99]}.items():
        steps = Steps(0.11, 0.1)
        left = iter(gains)

        def step(precision: str, steps: Steps = steps, left: Any = left) -> None:
            steps.takes["fp32"] = 0.1 * (next(left) if precision == "fp32" else 1.0)
            steps(precision)

        assert decide(timed(step, seconds=2.0, clock=steps.clock), 64).chosen == "bf16"
        rounds[name] = len(steps.done)
    assert rounds["close"] > rounds["clear"] + 6


def test_steps_that_take_seconds_are_done_only_a_few_times() -> None:
    steps = Steps(2.0, 3.0)
    assert timed(steps, seconds=2.0, clock=steps.clock) == {"fp32": 2.0, "bf16": 3.0}
    assert len(steps.done) <= 6


def test_steps_that_this_thread_only_waits_for_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, steps = [0.0], Steps(1e-9, 1e-9)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: wall[0])

    def step(name: str) -> None:
        steps(name)
        wall[0] += 1.0
        assert len(steps.done) < 99

    assert timed(step, clock=steps.clock) == {"fp32": pytest.approx(1e-9), "bf16": pytest.approx(1e-9)}
    assert wall[0] < 3 * precision.LONGEST


def test_a_model_of_which_two_records_take_seconds_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)
    now = [0.0]
    passed = list[int]()

    class Slow(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            now[0] += 3.0
            passed.append(len(x))
            return super().forward(x)

    found = choose(lambda: Slow(6, 3), **_given(), clock=lambda: now[0])
    assert (found.chosen, found.step_seconds) == ("fp32", {})
    assert "a training step of 2 records takes 3 s here" in found.why
    assert passed == [2, 2]


def test_waiting_for_the_processor_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program beside this one makes every other step late: time on the wall would take it for slow bf16."""
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)
    wall, spent = [0.0], [0.0]

    class Beside(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bf16 = torch.is_autocast_enabled("cpu")
            spent[0] += 0.05 if bf16 else 0.1
            wall[0] += 0.35 if bf16 else 0.1
            return super().forward(x)

    monkeypatch.setattr(precision.time, "thread_time", lambda: spent[0])
    monkeypatch.setattr(precision.time, "perf_counter", lambda: wall[0])
    assert choose(lambda: Beside(6, 3), **_given()).chosen == "bf16"


def test_ticks_of_16_ms_are_too_coarse_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = SimpleNamespace(resolution=0.0156)
    monkeypatch.setattr(precision.time, "get_clock_info", lambda name: coarse)
    assert precision._processor_clock() is precision.time.perf_counter


def _given() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 6)).astype(np.float32), rng.integers(0, 3, 50)
    return {"x": x, "y": y, "config": Train(batch_size=32), "normalisation": (x.mean(0), x.std(0)), "device": "cpu"}


def test_a_real_network_is_timed_and_the_caller_notices_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    found = choose(lambda: nn.Linear(6, 3), **_given())
    assert found.records is not None
    assert 2 <= found.records <= 32
    assert set(found.step_seconds) == {"fp32", "bf16"}
    assert all(seconds > 0 for seconds in found.step_seconds.values())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_instructions_for_bf16_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: False)
    found = choose(lambda: pytest.fail("built"), **_given())
    assert (found.chosen, found.step_seconds) == ("fp32", {})
    assert "no instructions for bf16" in found.why


def test_a_model_that_fails_in_bf16_is_trained_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise TypeError("only fp32")
            return self.linear(x)

    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)
    found = choose(Picky, **_given())
    assert found.chosen == "fp32"
    assert "fails in bf16" in found.why


def test_what_is_left_to_auto_is_named_as_set_names_it() -> None:
    networks = [
        {"method": "dense"},
        {"method": "dense", "name": "half", "train": {"precision": "bf16", "lr": 0.3}},
        {"method": "dense", "name": "own", "train": {"precision": "auto", "lr": 0.2}},
        {"method": "dense", "name": "stacked", "train": {"stack": 4}},
        {"method": "dense", "name": "asked", "train": {"stack": 2, "precision": "auto"}},
    ]
    fixed = {**SMALL, "train": {**SMALL["train"], "precision": "fp32"}, "networks": networks}
    assert load_study(fixed).undecided() == ("networks.2.train.precision",)
    auto = load_study({**SMALL, "networks": networks})
    assert auto.undecided() == ("train.precision", "networks.2.train.precision")
    for name in ("fp32", "bf16"):
        decided = load_study(auto.resolved(name).as_dict())  # as a worker reads it, which refuses stacks in bf16
        assert decided.undecided() == ()
        found = [decided.train_of(network).precision for network in decided.networks]
        assert found == [name, "bf16", name, "fp32", "fp32"]
        again = load_study(fixed).resolved(name)
        assert [again.train_of(network).precision for network in again.networks] == [
            "fp32",
            "bf16",
            name,
            "fp32",
            "fp32",
        ]


@pytest.mark.parametrize("name", ["digits", "digits-halves", "cifar10-small", "paper-short"])
def test_studies_with_published_results_fix_their_precision(name: str) -> None:
    study = load_study(name)
    assert study.undecided() == ()
    published = Path(__file__).parents[3] / "docs" / "results" / name / "study.toml"
    if published.exists():
        assert study.train.precision == load_study(published).train.precision


# ------------------------------------------------------------------------------------------------------------ folders


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the timings find, one after another; each is used up."""
    left: list[str] = []

    def fake(*args: object, **options: object) -> PrecisionChoice:
        return decide({"fp32": 2.0, "bf16": {"fp32": 2.0, "bf16": 1.0}[left.pop(0)]}, 20)

    monkeypatch.setattr(precision, "choose", fake)
    return left


def _facts(folder: Path) -> dict[str, Any]:
    return recorded(folder)[2]


def test_a_folder_records_its_choice_and_is_not_timed_again(timings: list[str], tmp_path: Path) -> None:
    timings += ["bf16"]
    first = run(SMALL, out=tmp_path / "run", processes=1, quiet=True)
    recorded = _facts(first.folder)["precision"]
    assert recorded["chosen"] == "bf16"
    assert recorded["step_seconds"] == {"fp32": 2.0, "bf16": 1.0}
    assert first.precision == recorded
    assert "bf16" in (first.folder / "study.toml").read_text()
    assert "2 s in fp32 and 1 s in bf16" in (first.folder / "report.html").read_text()
    assert "ms" not in (first.folder / "results.csv").read_text()
    before = (first.folder / "results.csv").read_bytes()
    more = {**SMALL, "run": {"seeds": [0, 1]}, "networks": [*SMALL["networks"], {"method": "imp", "levels": 1}]}
    for study in (SMALL, more):  # a timing now would find no figures
        again = Prepared(study, out=tmp_path / "run")
        assert again.study.train.precision == "bf16"
        assert again.facts["precision"] == recorded
    run(SMALL, out=tmp_path / "run", processes=1, quiet=True)
    assert _facts(first.folder)["precision"] == recorded
    assert (first.folder / "results.csv").read_bytes() == before


def test_a_study_that_fixes_its_precision_is_not_timed(timings: list[str], tmp_path: Path) -> None:
    fixed = {**SMALL, "train": {**SMALL["train"], "precision": "fp32"}}
    prepared = Prepared(fixed, out=tmp_path / "run")
    assert "precision" not in prepared.facts
    assert not any("precision" in note for note in prepared.notes)
    assert Prepared("digits", out=tmp_path / "digits").study.train.precision == "fp32"


def test_a_folder_without_a_record_keeps_what_its_networks_have(timings: list[str], tmp_path: Path) -> None:
    """Folders of before recorded no choice; one begun with a fixed precision has none either."""
    own = {"method": "dense", "name": "own", "train": {"precision": "bf16"}}
    fixed = {**SMALL, "train": {**SMALL["train"], "precision": "fp32"}, "networks": [*SMALL["networks"], own]}
    prepared = Prepared(fixed, out=tmp_path / "run")
    prepared.folder.mkdir()
    prepared.claim()
    auto = {**fixed, "networks": [*SMALL["networks"], {**own, "train": {"precision": "auto"}}]}
    again = Prepared(auto, out=tmp_path / "run")
    again.claim()
    assert again.study == prepared.study
    assert Prepared({**fixed, "train": SMALL["train"]}, out=tmp_path / "run").study == prepared.study


def test_a_slice_says_what_the_others_must_set_and_others_do_not_merge(timings: list[str], tmp_path: Path) -> None:
    timings += ["bf16", "fp32"]
    for seed, chosen in ((0, "bf16"), (1, "fp32")):
        prepared = Prepared({**SMALL, "run": {"seeds": [0, 1]}}, out=tmp_path / str(seed), only={"seed": str(seed)})
        assert any(f"--set train.precision={chosen}" in note for note in prepared.notes)
        prepared.folder.mkdir()
        prepared.claim()
        again = Prepared({**SMALL, "run": {"seeds": [0, 1]}}, out=tmp_path / str(seed), only={"seed": str(seed)})
        assert any(f"--set train.precision={chosen}" in note for note in again.notes)
    with pytest.raises(FolderError, match=r"'dense' in fp32 and not in bf16.*--set train\.precision=bf16"):
        merge(tmp_path / "whole", [tmp_path / "0", tmp_path / "1"])


def test_a_folder_to_be_reused_gives_its_precision(timings: list[str], tmp_path: Path) -> None:
    timings += ["bf16"]
    first = run(SMALL, out=tmp_path / "one", processes=1, quiet=True)
    again = Prepared(SMALL, out=tmp_path / "two", reuse=first.folder)
    assert again.study.train.precision == "bf16"
    assert str(first.folder) in again.facts["precision"]["why"]


@pytest.mark.parametrize(("device", "says"), [("cpu", "the cluster's machines were not asked"), ("cuda", "no GPU")])
def test_a_cluster_is_told_what_was_looked_at(
    timings: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, says: str
) -> None:
    timings += ["bf16"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    work = Workspace.open(load_study(SMALL), Store(tmp_path), None, device=device)
    found = _auto.decide(work, None, (), elsewhere=True)
    assert found is not None
    assert says in found.why


def test_a_dry_run_says_which_precision_and_why(
    timings: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from lacewing.study.declared import to_toml

    (tmp_path / "small.toml").write_text(to_toml(load_study(SMALL)))
    monkeypatch.chdir(tmp_path)
    timings += ["bf16"]
    monkeypatch.setattr(sys, "argv", ["lacewing", "run", "small.toml", "--dry-run", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    found = json.loads(capsys.readouterr().out)
    (note,) = (note for note in found["notes"] if note.startswith("precision"))
    assert note.startswith("precision: probably bf16, since a training step of 20 records takes 2 s in fp32 and 1 s in")
    assert "--set train.precision=bf16 fixes this one" in note
    timings += ["bf16"]
    assert [
        note for note in Prepared(SMALL, out=tmp_path / "run").notes if "probably" in note
    ] == []  # a run records it
    assert found["precision"]["chosen"] == "bf16"
    assert found["study"]["train"]["precision"] == "bf16"
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_runs_of_digits_give_equal_bytes(tmp_path: Path) -> None:
    quick = ["train.epochs=1", "run.seeds=[0]"]
    folders = [run("digits", out=tmp_path / name, set=quick, quiet=True).folder for name in "ab"]
    for name in ("results.csv", "tradeoff.json"):
        first, second = ((folder / name).read_bytes() for folder in folders)
        assert first == second


def test_the_model_that_is_timed_is_the_study_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def fake(build: Any, x: Any, y: Any, config: Train, **options: Any) -> PrecisionChoice:
        seen.update(model=build(), x=x, config=config, **options)
        return PrecisionChoice("fp32", "it was asked", {})

    monkeypatch.setattr(precision, "choose", fake)
    fixed = {**SMALL["train"], "precision": "fp32"}
    own = {"method": "dense", "name": "own", "train": {"precision": "auto", "batch_size": 7}}
    prepared = Prepared({**SMALL, "train": fixed, "networks": [*SMALL["networks"], own]}, out=tmp_path / "run")
    assert seen["config"].batch_size == 7
    assert seen["x"].shape == (200, 1, 8, 8)
    assert sum(p.numel() for p in seen["model"].parameters()) == 64 * 8 + 8 + 8 * 10 + 10
    assert isinstance(prepared.study, Study)
    assert isinstance(prepared.study.model, Model)
