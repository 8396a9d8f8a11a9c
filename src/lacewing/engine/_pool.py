"""Runs a plan on workers, wherever they are: what comes next, what failed, when to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lacewing import errors, jobs
from lacewing.plan import AttackJob, NetworkJob, Plan
from lacewing.store import Store

Event = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A chain of networks or one attack: what a worker does without a break. ``needs`` are the networks it reads."""

    kind: str
    keys: tuple[str, ...]
    name: str
    cost: int
    needs: frozenset[str] = frozenset()
    tries: int = 0


@dataclass
class Outcome:
    """How a run of the engine ended."""

    failed: list[str] = field(default_factory=list)  # a sentence for each job that failed
    stopped: bool = False
    fatal: BaseException | None = None  # the whole study cannot go on


class Worker(Protocol):
    """Something that does one task after another, elsewhere."""

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
        """Let it go, and wait until it has."""


class Pool:
    """Runs a plan's unfinished tasks on workers.

    Args:
        store: of the run folder, which this process holds.
        start: starts a worker.
        count: of workers at most.
        on_event: called with each worker's events, from several threads, one at a time.
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
        self.waiting: list[Task] = []
        self.networks: dict[str, NetworkJob] = {}
        self.finished: set[str] = set()  # keys of networks whose results are there
        self.running = 0
        self.workers: list[Worker] = []

    def run(self, plan: Plan) -> Outcome:
        """Do everything that is not done yet; returns when nothing more can be."""
        self.networks = {job.key: job for job in plan.networks}
        self.finished = {key for key, job in self.networks.items() if jobs.finished(self.store, job)}
        self.waiting = [*self._chains(plan.chains), *self._attacks(plan.attacks)]
        if not self.waiting:
            return self.outcome
        count = min(self.count, len(self.waiting))
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(count)]
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
        for worker in self.workers:
            with suppress(OSError, ValueError):
                worker.send({"stop": True})

    def _chains(self, chains: Sequence[tuple[NetworkJob, ...]]) -> Iterator[Task]:
        tasks = []
        for chain in chains:
            missing = [job for job in chain if job.key not in self.finished]
            if missing:
                cost = sum(job.train.epochs for job in missing)
                imposed = chain[0].imposed
                needs = frozenset({imposed.mask.key, imposed.origin.key} if imposed is not None else ())
                tasks.append(Task("chain", tuple(job.key for job in chain), missing[0].id, cost, needs))
        yield from sorted(tasks, key=lambda task: -task.cost)  # the longest first, so that none is left for the end

    def _attacks(self, attacks: Sequence[AttackJob]) -> Iterator[Task]:
        for job in attacks:
            if not jobs.attacked(self.store, job):
                yield Task("attack", (job.key,), job.id, 0, frozenset(network.key for network in job.networks))

    def _take(self) -> Task | None:
        """The next task whose networks are trained; waits for one while others still run; None at the end."""
        with self.changed:
            while not self.outcome.stopped and self.outcome.fatal is None:
                ready = next((task for task in self.waiting if task.needs <= self.finished), None)
                if ready is not None:
                    self.waiting.remove(ready)
                    self.running += 1
                    return ready
                if not self.running:
                    return None
                self.changed.wait(0.5)
            return None

    def _give_back(self, task: Task) -> None:
        with self.changed:
            self.running -= 1
            if task.kind == "chain":  # a chain that failed half-way has left the networks before the failure
                self.finished |= {key for key in task.keys if jobs.finished(self.store, self.networks[key])}
            self.changed.notify_all()

    def _serve(self) -> None:
        """One worker's life: start it, give it tasks, start another if it dies."""
        worker: Worker | None = None
        try:
            while (task := self._take()) is not None:
                try:
                    if worker is None or worker.end() is not None:
                        worker = self.start()
                        self.workers.append(worker)
                    worker.send({"kind": task.kind, "keys": task.keys})
                    if self.outcome.stopped:
                        worker.send({"stop": True})
                    self._listen(worker, task)
                except OSError as error:
                    self._fail(task, {"message": f"{task.name}: its worker process failed: {error}."})
                finally:
                    self._give_back(task)
        except BaseException as error:
            self.outcome.fatal = error

    def _listen(self, worker: Worker, task: Task) -> None:
        for event in worker.listen():
            if event["event"] == "epoch":
                self._tell(event)
            elif event["event"] == "done":
                self._tell({"event": "done", "kind": task.kind, "name": task.name})
                return
            elif event["event"] == "stopped":
                return
            elif event["event"] == "failed":
                self._fail(task, event)
                return
        if self.outcome.stopped:
            return
        if task.tries < self.retries:
            with self.changed:
                self.waiting.insert(0, replace(task, tries=task.tries + 1))
        else:
            self._fail(task, {"message": f"{task.name}: its worker process ended with {worker.end()}; out of memory?"})

    def _fail(self, task: Task, event: Event) -> None:
        message = event["message"]
        if event.get("os_error"):
            self._abandon(OSError(message))
        elif event.get("traceback"):
            self._abandon(RuntimeError(event["traceback"]))
        elif task.kind == "chain" and issubclass(getattr(errors, event.get("error", ""), Exception), errors.UsageError):
            self._abandon(errors.UsageError(message))
        elif task.kind == "attack":
            self._failed(f"{task.name}: {message.removeprefix(f'{task.name}: ')}")
        else:
            done = sum(jobs.finished(self.store, self.networks[key]) for key in task.keys if key in self.networks)
            behind = len(task.keys) - done - 1
            if behind > 0:
                message += f" The {behind} networks behind it in its sequence were not trained."
            self._failed(message)

    def _failed(self, message: str) -> None:
        """One job's failure, which leaves the others as they are."""
        self.outcome.failed.append(message)
        self._tell({"event": "failed", "message": message})

    def _abandon(self, error: BaseException) -> None:
        """What would stop every network: let the others save their state, and end."""
        self.outcome.fatal = self.outcome.fatal or error
        self._halt()

    def _tell(self, event: Event) -> None:
        with self.changed:
            self.on_event(event)

    def _end(self) -> None:
        for worker in self.workers:
            worker.close()


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
