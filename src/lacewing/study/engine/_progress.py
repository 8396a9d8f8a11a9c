"""Progress on standard error: a live view on a terminal, plain lines elsewhere; scalars for TensorBoard if asked."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lacewing.errors import needs_extra
from lacewing.support.durations import duration
from lacewing.support.text import entry, say, visible

if TYPE_CHECKING:
    from rich.progress import TaskID

_SILENCE = 10.0  # seconds between plain lines, but for last epochs and the last attack


class Progress:
    """Shows the events of an engine, and estimates from the speed of this run when the study will be done.

    Args:
        epochs: of all networks of the study.
        attacks: of the study that are still to be run.
        begun: by network id, the epochs that earlier runs trained, of finished and of saved networks.
        stream: where to; standard error if not given. A terminal gets a live view.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        epochs: int,
        attacks: int,
        *,
        begun: Mapping[str, int] | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epochs, self.attacks, self.clock = epochs, attacks, clock
        self.reached = dict(begun or {})
        self.done = sum(self.reached.values())  # epochs, of all networks
        self.trained = 0  # epochs by this run
        self.attacks_done = 0
        self.started = self.said = self.began = clock()
        self.alone = 0  # attacks done since `began`, when the last epoch ended
        self.stream = stream or sys.stderr
        moves = self.stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        self.live = _Live(self.stream, epochs, attacks) if moves else None
        if self.live:
            self.live.overall(self.done, None)

    def seconds_left(self) -> float | None:
        """At the mean speed of this run so far; None before its first epoch."""
        if not self.trained:
            return None
        return (self.clock() - self.started) / self.trained * max(self.epochs - self.done, 0)

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        kind = event["event"]
        if kind == "epoch":
            self.trained += 1
            self.began, self.alone = self.clock(), 0
            self.done += event["epoch"] - self.reached.get(event["job"], 0)
            self.reached[event["job"]] = event["epoch"]
            self._epoch(event)
        elif kind == "done" and event["kind"] == "attack":
            self._attacked()
        elif kind in ("failed", "note"):
            self._say(f"{'FAILED' if kind == 'failed' else 'note:'} {entry(event['message'])}")
            if self.live:
                for job in event["jobs"]:
                    self.live.drop(job)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.live:
            self.live.close()

    def _epoch(self, event: dict[str, Any]) -> None:
        left = self.seconds_left() or 0.0
        figures = f"loss {event['loss']:.3f}, accuracy {event['accuracy']:.3f}"
        if self.live:
            self.live.network(event["job"], event["epoch"], event["epochs"], figures)
            self.live.overall(self.done, left)
        elif (event["epoch"] == event["epochs"] and not event.get("many")) or self.clock() - self.said > _SILENCE:
            self.said = self.clock()
            share = min(self.done / max(self.epochs, 1), 1.0)
            attacks = self.attacks - self.attacks_done
            last = f"{attacks} attack{'s' * (attacks > 1)}" if share == 1 and attacks > 0 else duration(left)
            self._say(
                f"{event['job']} epoch {event['epoch']}/{event['epochs']}: {figures}; "
                f"{share:.0%} of the study's epochs, {last} to go"
            )

    def _attacked(self) -> None:
        """An attack is done; how long the others take is known once the networks are trained."""
        self.attacks_done += 1
        self.alone += 1
        remaining = max(self.attacks - self.attacks_done, 0)
        trained = self.done >= self.epochs
        left = (self.clock() - self.began) / self.alone * remaining if trained and remaining else None
        told = "" if left is None else f"{duration(left)} to go"
        if self.live:
            self.live.attacks(self.attacks_done, told)
        elif not remaining:
            self._say(f"attacks: {self.attacks} done")
        elif self.clock() - self.said > _SILENCE:
            self.said = self.clock()
            self._say(f"attacks: {self.attacks_done} of {self.attacks} done{', ' if told else ''}{told}")

    def _say(self, text: str) -> None:
        if self.live:
            self.live.say(visible(text))
        else:
            say(text, self.stream)


class _Live:
    """The view on a terminal: a bar for the study, one for its attacks, and a line for each network in work."""

    def __init__(self, stream: TextIO, epochs: int, attacks: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=Console(file=stream),
        )
        self.study = self.bars.add_task("epochs of the study", total=max(epochs, 1), figures="")
        self.attack = self.bars.add_task("attacks", total=attacks, figures="") if attacks else None
        self.rows: dict[str, TaskID] = {}
        self.bars.start()

    def overall(self, done: int, left: float | None) -> None:
        """Epochs done, and the seconds that are left if they can be told."""
        self.bars.update(self.study, completed=done, figures="" if left is None else f"{duration(left)} to go")

    def network(self, name: str, epoch: int, epochs: int, figures: str) -> None:
        """Show how far a network is; its line is removed after its last epoch."""
        if epoch >= epochs:
            return self.drop(name)
        if name not in self.rows:
            self.rows[name] = self.bars.add_task(f"  {visible(name)}", total=epochs, figures=figures)
        self.bars.update(self.rows[name], completed=epoch, figures=figures)

    def drop(self, name: str) -> None:
        """Remove the line of a network that is not in training any more."""
        if name in self.rows:
            self.bars.remove_task(self.rows.pop(name))

    def attacks(self, done: int, figures: str) -> None:
        """Show how many attacks are done, and how long the others take."""
        if self.attack is not None:
            self.bars.update(self.attack, completed=done, figures=figures)

    def say(self, text: str) -> None:
        """A line that stays, above the bars."""
        self.bars.console.print(text, markup=False, highlight=False, emoji=False)

    def close(self) -> None:
        """Show the last state, and stop."""
        self.bars.stop()


class Scalars:
    """Loss and accuracy of every network and epoch as TensorBoard reads them, each network in its own folder.

    Args:
        folder: ``<folder>/<network>/<role>/<seed>`` gets the event files.

    Raises:
        UsageError: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise needs_extra("--tensorboard", "tensorboard", "tensorboard") from None
        self.folder, self.writer = folder, SummaryWriter
        self.open: dict[str, Any] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        if event["event"] != "epoch":
            return
        name, epoch = event["job"], event["epoch"]
        if name not in self.open:  # replaces what an interrupted run wrote of this epoch and later ones
            self.open[name] = self.writer(str(self.folder / name), purge_step=epoch)
        for scalar in ("loss", "accuracy"):
            self.open[name].add_scalar(scalar, event[scalar], epoch)
        if epoch == event["epochs"]:  # a writer has a thread of its own: those of finished networks end
            self.open.pop(name).close()

    def close(self) -> None:
        """Write what is not written yet."""
        for writer in self.open.values():
            writer.close()
