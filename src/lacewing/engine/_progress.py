"""Progress on standard error: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """Shows the events of an engine.

    Args:
        epochs: epochs to be trained in all.
        attacks: attacks to be run in all.
    """

    def __init__(self, epochs: int, attacks: int) -> None:
        self.epochs, self.attacks = epochs, attacks
        self.epochs_done, self.attacks_done = 0, 0
        self.started = time.monotonic()
        self.bar: Any = None
        self.said = 0.0
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self.bar = Bar(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task("training", total=max(epochs, 1))
            self.bar.start()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        kind = event["event"]
        if kind == "epoch":
            self.epochs_done += 1
            text = f"{event['id']} epoch {event['epoch']}/{event['epochs']}"
            figures = f"loss {event['loss']:.3f}, accuracy {event['accuracy']:.3f}"
            if self.bar is not None:
                self.bar.update(self.task, completed=self.epochs_done, description=f"{text}: {figures}")
            elif event["epoch"] == event["epochs"] or time.monotonic() - self.said > 10:
                self.said = time.monotonic()
                self._say(f"{text}: {figures}; {self._eta()}")
        elif kind == "done" and event["kind"] == "attack":
            self.attacks_done += 1
            if self.bar is not None:
                self.bar.update(self.task, description=f"attacks: {self.attacks_done} of {self.attacks}")
            elif self.attacks_done == self.attacks:
                self._say(f"attacks: {self.attacks} done")
        elif kind == "failed":
            self._say(f"FAILED {event['message']}")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.stop()

    def _eta(self) -> str:
        spent = time.monotonic() - self.started
        left = spent / self.epochs_done * max(self.epochs - self.epochs_done, 0)
        share = self.epochs_done / max(self.epochs, 1)
        return f"{share:.0%} of the study's epochs, {duration(left)} to go"

    def _say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(text)
        else:
            print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
