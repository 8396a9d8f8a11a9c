"""Runs a plan on workers: which task comes next, what failed, when to stop."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lacewing import errors
from lacewing.study import jobs
from lacewing.study.engine._waiting import Task, Waiting
from lacewing.study.plan import AttackJob, NetworkJob, Plan, PropertyJob
from lacewing.study.store import Store

Event = dict[str, Any]
_LOST_PAGE = f"signal {int(getattr(signal, 'SIGBUS', 7))}"  # of a process whose mapped file has lost its end
OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError", "_ArrayMemoryError")  # of torch on a GPU, Python, numpy


@dataclass
class Outcome:
    """How a run of the engine ended."""

    failed: list[str] = field(default_factory=list)  # a sentence for each job that failed
    stopped: bool = False
    fatal: BaseException | None = None  # the whole study cannot go on


class Worker(Protocol):
    """A process or an actor that does one task after another."""

    def send(self, message: dict[str, Any]) -> None:
        """A task, ``{"kind": ..., "keys": ...}``, or ``{"stop": True}`` to the one that runs.

        Raises:
            OSError: the worker is gone.
        """

    def listen(self) -> Iterator[Event]:
        """What happens, until the worker ends."""

    def end(self) -> str | None:
        """Why the worker ended, in words; None while it lives."""

    def close(self) -> None:
        """End it, and wait until it has ended."""


class Pool:
    """Runs a plan's unfinished tasks on workers.

    Where a worker runs out of memory, its task begins again with half as many workers; with one worker it fails.

    Args:
        store: of the run folder, which this process holds.
        start: starts a worker.
        count: of workers at most.
        on_event: called with each worker's events, and with ``{"event": "note", "message": ..., "jobs": [...]}`` for
            what a person should know, from several threads, one at a time. ``jobs`` are the ids of the networks or the
            attack that are not in work any more, or begin again.
        retries: how often a task begins again, from what it has published, when its worker dies.
    """

    def __init__(
        self,
        store: Store,
        start: Callable[[], Worker],
        count: int,
        *,
        on_event: Callable[[Event], None],
        retries: int = 0,
    ) -> None:
        self.store, self.start, self.count, self.on_event, self.retries = store, start, count, on_event, retries
        self.outcome = Outcome()
        self.changed = threading.Condition()
        self.waiting = Waiting()
        self.networks: dict[str, NetworkJob] = {}
        self.finished: set[str] = set()  # keys of networks whose results are there
        self.running = 0
        self.limit = count  # of tasks at once; lowered where memory has no room for them
        self.serving = 0  # threads, each with one worker at most
        self.open = 0  # workers that were started and have not ended
        self.names: dict[str, str] = {}  # of jobs, by key
        self.noted: set[str] = set()
        self.damaged = 0  # of the store's damaged files, those that were looked at
        self.workers: list[Worker] = []

    def run(self, plan: Plan) -> Outcome:
        """Do everything that is not done yet; returns when nothing more can be done."""
        self.networks = {job.key: job for job in plan.networks}
        self.finished = {key for key, job in self.networks.items() if jobs.finished(self.store, job)}
        self.waiting = Waiting([*self._sequences(plan), *self._attacks(plan.readers)], self.finished)
        self.names = plan.names
        self._note_own_damage()
        if not len(self.waiting):
            return self.outcome
        self.limit = self.serving = min(self.count, len(self.waiting))
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self.limit)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # with a timeout, so that signals are heard
        finally:
            self._end()
        left = [task for task in self.waiting if not self.outcome.stopped and self.outcome.fatal is None]
        self.outcome.failed += [f"{task.name}: not run, since a network that it needs failed." for task in left]
        return self.outcome

    def stop(self) -> None:
        """Ask every worker to save its state at the end of its epoch, and start nothing more."""
        self.outcome.stopped = True
        self._halt()

    def _halt(self) -> None:
        for worker in list(self.workers):
            with suppress(OSError, ValueError):
                worker.send({"stop": True})

    def _sequences(self, plan: Plan) -> Iterator[Task]:
        tasks = []
        together = [("stack", tuple(itertools.chain(*sequences))) for sequences in plan.stacks.values()]
        alone = [("sequence", sequence) for sequence in plan.sequences if sequence[0].stack is None]
        for kind, networks in together + alone:
            missing = [job for job in networks if job.key not in self.finished]
            if missing:
                epochs = jobs.own_epochs(networks, self.finished)
                cost = sum(epochs[job.key] for job in missing)
                needs = frozenset(other.key for job in networks for other in job.needs)
                tasks.append(Task(kind, tuple(job.key for job in networks), missing[0].id, cost, needs))
        yield from sorted(tasks, key=lambda task: -task.cost)  # the longest first, so that none is left for the end

    def _attacks(self, attacks: Sequence[AttackJob | PropertyJob]) -> Iterator[Task]:
        for job in attacks:
            if not jobs.attacked(self.store, job):
                yield Task("attack", (job.key,), job.id, 0, frozenset(network.key for network in job.networks))

    def _take(self, worker: Worker | None) -> Task | None:
        """The next task whose networks are trained; waits for one while others still run; None at the end.

        None too for a thread too many, since the limit was lowered. ``worker`` is the one that the thread has.
        """
        with self.changed:
            while not self.outcome.stopped and self.outcome.fatal is None:
                if self.serving > self.limit:
                    self.serving -= 1
                    return None
                ready = self.waiting.first()
                if ready is None and not self.running:
                    return None
                if ready is not None and self.open - (worker is not None) < self.limit:  # none is still ending
                    self.waiting.take()
                    self.running += 1
                    return replace(ready, limit=self.limit)
                self.changed.wait(0.5)
            return None

    def _give_back(self, task: Task) -> None:
        self._note_own_damage()
        with self.changed:
            self.running -= 1
            if task.kind != "attack":  # a sequence that failed half-way has left the networks before the failure
                done = {key for key in task.keys if jobs.finished(self.store, self.networks[key])}
                self.waiting.finish(done - self.finished)
                self.finished |= done
            self.changed.notify_all()

    def _serve(self) -> None:
        """One worker's life: start it, give it tasks, start another if it dies."""
        worker: Worker | None = None
        try:
            while (task := self._take(worker)) is not None:
                try:
                    worker = self._do(task, worker)
                finally:
                    self._give_back(task)
        except BaseException as error:
            self.outcome.fatal = error
        finally:
            self._let_go(worker)  # at once, since the others may need its memory

    def _do(self, task: Task, worker: Worker | None) -> Worker | None:
        """Have a task done, by a new worker if there is none that lives; returns the one that can do another."""
        try:
            if worker is None or worker.end() is not None:
                self._let_go(worker)
                worker = self._start()
            worker.send({"kind": task.kind, "keys": task.keys})
            if self.outcome.stopped:
                worker.send({"stop": True})
            if self._listen(worker, task):
                return worker
        except OSError as error:
            self._fail_alone(task, f"{self._in_work(task)}: its worker process failed: {error}.")
        self._let_go(worker)
        return None

    def _start(self) -> Worker:
        worker = self.start()
        with self.changed:
            self.open += 1
            self.workers.append(worker)
        return worker

    def _let_go(self, worker: Worker | None) -> None:
        with self.changed:
            if worker is None or worker not in self.workers:
                return
            self.workers.remove(worker)
        worker.close()
        with self.changed:
            self.open -= 1
            self.changed.notify_all()

    def _listen(self, worker: Worker, task: Task) -> bool:
        """Wait until a task ends; returns whether its worker can do another."""
        for event in worker.listen():
            if event["event"] == "epoch":
                self._tell(event)
            elif event["event"] == "damaged":
                self._note_damage((key, path) for key, path in event["files"])
            elif event["event"] == "done":
                self._tell({"event": "done", "kind": task.kind, "job": task.name})
                return True
            elif event["event"] == "stopped":
                return True
            elif event["event"] == "failed" and event.get("error") in OUT_OF_MEMORY:
                self._out_of_memory(task)
                return False  # what it still holds of the memory is the others'
            elif event["event"] == "failed":
                self._fail(task, event)
                return True
        if self.outcome.stopped:
            return False
        if task.tries < self.retries:
            with self.changed:
                self.waiting.again(replace(task, tries=task.tries + 1))
        else:
            end = worker.end()
            why = "was a file of records cut short, or is the disk full?" if end == _LOST_PAGE else "out of memory?"
            self._fail_alone(task, f"{self._in_work(task)}: its worker process ended with {end}; {why}")
        return False

    def _out_of_memory(self, task: Task) -> None:
        """Go on with half as many workers as when the task began, from what it has saved; fail if there was one."""
        if task.limit == 1:
            mend = "it needs a machine with more" if task.kind == "attack" else "lower train.batch_size"
            return self._fail_alone(task, f"{self._in_work(task)}: out of memory with no other job running; {mend}.")
        with self.changed:
            self.waiting.again(task)
            lowered = self.limit == task.limit  # once for all that ran out together
            if lowered:
                self.limit = task.limit // 2
        if lowered:
            message = f"{self._in_work(task)}: out of memory; the study goes on with {self.limit} at a time."
            self._note(message, self._ids(task))

    def _fail(self, task: Task, event: Event) -> None:
        message = event["message"]
        if event.get("os_error"):
            self._abandon(OSError(message))
        elif event.get("traceback"):
            self._abandon(RuntimeError(event["traceback"]))
        elif task.kind == "attack":
            self._fail_alone(task, f"{task.name}: {message}")
        elif not event.get("user_code") and _is_study_wide(event.get("error", "")):
            self._abandon(errors.UsageError(message))
        else:
            self._fail_alone(task, message)

    def _fail_alone(self, task: Task, message: str) -> None:
        """A task's failure that leaves the others as they are; ``message`` begins with the job, lines may follow it."""
        behind = len(self._missing(task)) - 1
        sentence, line_end, lines = message.partition("\n")
        if behind > 0:
            after = (
                "The network after it in its sequence was"
                if behind == 1
                else (f"The {behind} networks after it in its sequence were")
            )
            sentence += f" {after} not trained."
        message = f"{sentence}{line_end}{lines}"
        self.outcome.failed.append(message)
        self._tell({"event": "failed", "message": message, "jobs": self._ids(task)})

    def _missing(self, task: Task) -> list[NetworkJob]:
        """The networks of a task that are not finished now, in the order in which they are trained."""
        networks = [self.networks[key] for key in task.keys if key in self.networks]
        return [job for job in networks if not jobs.finished(self.store, job)]

    def _in_work(self, task: Task) -> str:
        """The id of what a worker of this task is at: its attack, or its first network that is not finished."""
        missing = self._missing(task)
        return missing[0].id if missing else task.name

    def _ids(self, task: Task) -> list[str]:
        """The ids of a task's jobs."""
        return [self.names[key] for key in task.keys]

    def _abandon(self, error: BaseException) -> None:
        """End the study for what would stop every network; the others save their state first."""
        self.outcome.fatal = self.outcome.fatal or error
        self._halt()

    def _note_own_damage(self) -> None:
        """Report what this process has found damaged since it last did."""
        found = tuple(self.store.damaged)
        if len(found) > self.damaged:
            self.damaged = len(found)
            self._note_damage(found)

    def _note_damage(self, files: Iterable[tuple[str, str]]) -> None:
        """Report files that are not what was published. Their jobs count as not done, and are done again."""
        for key, path in sorted(files):
            if key in self.names:
                self._note(f"{self.names[key]}: {path} is lost, damaged or was altered; it is made again.", [])

    def _note(self, message: str, ids: Sequence[str]) -> None:
        if message not in self.noted:
            self.noted.add(message)
            self._tell({"event": "note", "message": message, "jobs": ids})

    def _tell(self, event: Event) -> None:
        with self.changed:
            self.on_event(event)

    def _end(self) -> None:
        for worker in list(self.workers):
            self._let_go(worker)


def _is_study_wide(error: str) -> bool:
    """Whether a network that fails by an error of this name fails as every other would."""
    return issubclass(getattr(errors, error, Exception), errors.UsageError)


@contextmanager
def stop_after(pool: Pool, seconds: float | None) -> Iterator[None]:
    """Ask the pool to stop once its budget is spent."""
    timer = threading.Timer(seconds, pool.stop) if seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
