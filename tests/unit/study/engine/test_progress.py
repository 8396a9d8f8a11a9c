"""Progress: what it says, how long it thinks a run will take, and the view on a terminal."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from lacewing.errors import UsageError
from lacewing.study.engine._progress import Progress, Scalars, duration


class Clock:
    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


def epoch(name: str, number: int, of: int) -> dict[str, Any]:
    return {"event": "epoch", "job": name, "epoch": number, "epochs": of, "loss": 0.5, "accuracy": 0.25}


def attacked() -> dict[str, Any]:
    return {"event": "done", "kind": "attack", "job": "discriminator on dense/target/0"}


def failed(message: str, *jobs: str) -> dict[str, Any]:
    return {"event": "failed", "message": message, "jobs": list(jobs)}


def plain(epochs: int, attacks: int = 0, **options: Any) -> tuple[Progress, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    return Progress(epochs, attacks, stream=stream, clock=clock, **options), stream, clock


def test_a_plain_line_at_the_last_epoch_and_every_ten_seconds() -> None:
    progress, stream, clock = plain(epochs=8, attacks=2)
    for number in (1, 2, 3, 4):
        clock.now += 4
        progress(epoch("dense/target/0", number, 4))
    progress(attacked())
    progress(attacked())
    assert stream.getvalue().splitlines() == [
        "dense/target/0 epoch 3/4: loss 0.500, accuracy 0.250; 38% of the study's epochs, 20 s to go",
        "dense/target/0 epoch 4/4: loss 0.500, accuracy 0.250; 50% of the study's epochs, 16 s to go",
        "attacks: 2 done",
    ]


def test_after_the_last_epoch_the_attacks_are_counted_and_timed() -> None:
    progress, stream, clock = plain(epochs=1, attacks=5)
    clock.now += 4
    progress(epoch("dense/target/0", 1, 1))
    for _ in range(5):
        clock.now += 8
        progress(attacked())
    assert stream.getvalue().splitlines() == [
        "dense/target/0 epoch 1/1: loss 0.500, accuracy 0.250; 100% of the study's epochs, 5 attacks to go",
        "attacks: 2 of 5 done, 24 s to go",
        "attacks: 4 of 5 done, 8 s to go",
        "attacks: 5 done",
    ]


def test_what_earlier_runs_did_counts_as_done_and_not_as_speed() -> None:
    begun = {"dense/target/0": 100, "imp-01/target/0": 60}
    progress, stream, clock = plain(epochs=300, begun=begun)
    assert progress.seconds_left() is None
    before = None
    for number in range(61, 81):
        clock.now += 3
        progress(epoch("imp-01/target/0", number, 100))
        left = progress.seconds_left()
        assert left == pytest.approx(3 * (300 - 100 - number))
        assert before is None or left == pytest.approx(before - 3)
        before = left
    first = stream.getvalue().splitlines()[0]
    assert first.startswith("imp-01/target/0 epoch 64/100: ")
    assert first.endswith("55% of the study's epochs, 7 min to go")


def test_a_network_that_starts_over_has_its_epochs_before_it_again() -> None:
    progress, _, clock = plain(epochs=10, begun={"dense/target/0": 7})
    clock.now += 5
    progress(epoch("dense/target/0", 1, 10))
    assert progress.done == 1
    assert progress.seconds_left() == pytest.approx(45)


def test_the_epochs_of_all_networks_are_not_added_up_again_at_each_event() -> None:
    class Reached(dict[str, int]):
        def values(self) -> Any:
            raise AssertionError("added up")

    progress, _, _ = plain(epochs=9, attacks=2, begun={"dense/target/0": 2, "dense/target/1": 1})
    progress.reached = Reached(progress.reached)
    for number in (3, 4):
        progress(epoch("dense/target/0", number, 5))
    progress(epoch("dense/target/2", 1, 5))
    progress(attacked())
    assert progress.done == 6
    assert progress.seconds_left() is not None


def test_failures_and_notes_are_said_at_once() -> None:
    progress, stream, _ = plain(epochs=8)
    progress(failed("dense/target/0: the loss became nan."))
    progress({"event": "note", "message": "imp-01/target/0: out of memory.", "jobs": []})
    assert stream.getvalue() == "FAILED dense/target/0: the loss became nan.\nnote: imp-01/target/0: out of memory.\n"


HOSTILE = "x\x1b]0;title\x07: [bold]see[/bold] :warning:\nFAILED everything"
SEEN = r"x\x1b]0;title\x07: [bold]see[/bold] :warning:"


def test_what_others_say_moves_no_cursor_and_passes_for_no_line_of_ours() -> None:
    progress, stream, _ = plain(epochs=8)
    progress(failed(HOSTILE))
    assert stream.getvalue() == f"FAILED {SEEN}\n    FAILED everything\n"


def test_a_terminal_shows_what_others_say_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_terminal(monkeypatch, [epoch("[red]\x1b[2J", 1, 10), {"event": "note", "message": HOSTILE, "jobs": []}])
    assert f"note: {SEEN}" in shown
    assert r"[red]\x1b[2J" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b]0" not in shown


def test_durations() -> None:
    assert [duration(s) for s in (45.2, 89.4, 600, 12_000, 864_000)] == [
        "45 s",
        "89 s",
        "10 min",
        "3 h 20 min",
        "10 days",
    ]


def on_terminal(monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]], **options: Any) -> str:
    """What a terminal of 120 columns gets, with its control sequences."""
    for name, value in {"COLUMNS": "120", "LINES": "40", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = os.openpty()
    got: list[bytes] = []

    def read() -> None:
        while True:
            try:
                got.append(os.read(ours, 65536))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as stream:
        progress = Progress(40, 3, stream=stream, clock=Clock(), **options)
        for event in events:
            progress(event)
        progress.close()
    reader.join(timeout=10)
    os.close(ours)
    return b"".join(got).decode()


def test_a_terminal_shows_every_network_in_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [
        epoch("dense/target/0", 3, 10),
        epoch("imp-01/shadow/0", 4, 10),
        epoch("dense/shadow/0", 10, 10),
        attacked(),
    ]
    shown = on_terminal(monkeypatch, events)
    last = shown[shown.rindex("epochs of the study") :]
    assert "17/40" in last
    for name, done in (("dense/target/0", "3/10"), ("imp-01/shadow/0", "4/10"), ("attacks", "1/3")):
        line = next(line for line in last.splitlines() if name in line)
        assert done in line
    assert "loss 0.500, accuracy 0.250" in last
    assert "dense/shadow/0" not in last  # it is finished


def test_a_failure_stays_above_the_bars_and_its_line_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "imp-01/shadow/0: the loss became nan in epoch 5; [train.lr] is too large."
    events = [epoch("imp-01/shadow/0", 4, 10), failed(message, "imp-01/shadow/0")]
    shown = on_terminal(monkeypatch, events)
    assert f"FAILED {message}" in shown
    assert "imp-01" not in shown[shown.rindex("epochs of the study") :]


def test_a_network_whose_name_begins_a_sentence_about_others_keeps_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "imp-01/shadow/0: jobs/00/signals.npz is lost, damaged or was altered; it is made again."
    events = [epoch("imp-01/shadow/0", 4, 10), {"event": "note", "message": message, "jobs": ["dense/target/0"]}]
    shown = on_terminal(monkeypatch, events)
    assert "imp-01/shadow/0" in shown[shown.rindex("epochs of the study") :]


def test_without_the_package_tensorboard_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(UsageError, match=r"the package tensorboard. .* -c constraints.txt '.\[tensorboard\]'"):
        Scalars(tmp_path / "scalars")
    assert not list(tmp_path.iterdir())
