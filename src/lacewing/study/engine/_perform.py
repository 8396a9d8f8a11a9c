"""What a worker does with a task, wherever it runs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lacewing import models
from lacewing.errors import (
    BudgetSpent,
    DataError,
    DivergedError,
    FolderError,
    LacewingError,
    Terminated,
    UsageError,
    UserCodeError,
    about_folder,
)
from lacewing.results import Epoch
from lacewing.study import jobs
from lacewing.study.engine._pool import OUT_OF_MEMORY, Event
from lacewing.study.plan import NetworkJob, fingerprints, make_plan
from lacewing.support.user_code import blamed, told

_OTHERS = (
    "the study's records, or the source of code that it names, are not those with which this run began: a function of "
    "data.dataset must return the same records at each call, and its source stay as it is while a study runs."
)


class Performer:
    """Does tasks of a study, in a process that it sets up to train.

    Args:
        work: the workspace; its ``stop`` ends a task early.
    """

    def __init__(self, work: jobs.Workspace) -> None:
        import torch

        from lacewing.training.replay import recordings_for

        torch.set_num_threads(1)
        if work.device == "cuda":
            torch.backends.cudnn.deterministic = True
        found = fingerprints(work.study)
        places = jobs.named_places(work)
        plan = make_plan(work.study, data_digest=work.digest, models=found, attacks=work.attacks, places=places)
        self.work, self.stacks = replace(work, recordings=recordings_for(work.device)), plan.stacks
        self.networks = {job.key: job for job in plan.networks}
        self.attacks = {job.key: job for job in plan.readers}

    def perform(self, task: dict[str, Any]) -> Event:
        """Do a task, ``{"kind": ..., "keys": ...}``; returns the event of its end: done, stopped or failed."""
        keys = task["keys"]
        try:
            with about_folder(self.work.store.folder):
                if not self.networks.keys() | self.attacks.keys() >= set(keys):
                    raise FolderError(_OTHERS)
                if task["kind"] == "sequence":
                    jobs.run_sequence(self.work, [self.networks[key] for key in keys])
                elif task["kind"] == "stack":
                    sequences = self.stacks[str(self.networks[keys[0]].stack)]
                    jobs.run_stack(self.work, [[job for job in sequence if job.key in keys] for sequence in sequences])
                else:
                    jobs.run_attack(self.work.store, self.attacks[keys[0]])
        except BudgetSpent:
            return {"event": "stopped"}
        except BaseException as error:
            return self._of_user(keys, error) or failure(error)
        return {"event": "done"}

    def _of_user(self, keys: Sequence[str], error: BaseException) -> Event | None:
        """The event of a failure of the user's model or method, which fails this job alone; else None."""
        if isinstance(error, OSError) and error.__cause__ is not None:
            error = error.__cause__  # as it was before it was said in our words
        memory = type(error).__name__ in OUT_OF_MEMORY  # the pool knows what to do
        if memory or isinstance(error, KeyboardInterrupt | Terminated | DataError | DivergedError | FolderError):
            return None  # these pass through a user's method
        if isinstance(error, UserCodeError):
            return {**failure(error), "user_code": True}
        running = (self.networks[key] for key in keys if key in self.networks)
        job = next((job for job in running if not jobs.finished(self.work.store, job)), None)
        if job is None or not (blamed(error) or (job.spec.source is not None and isinstance(error, UsageError))):
            return None
        if job.spec.source is not None:  # whose frames stand around all that `fit` does
            if isinstance(error, UsageError):  # what it asked of us
                return {**failure(UserCodeError(f"{job.id}: method {job.method}: {error}")), "user_code": True}
            if not blamed(error, alone=True):
                return None
            place = f"method {job.method}"
        elif models.is_own(job.model):
            place = models.named(job.model)
        else:
            return None
        return {**failure(told(f"{job.id}: {place}", error)), "user_code": True}


def reporter(send: Callable[[Event], None]) -> jobs.Report:
    """Sends an event at each epoch's end."""

    def report(job: NetworkJob, epoch: Epoch) -> None:
        send(
            {
                "event": "epoch",
                "job": job.id,
                "epoch": epoch.epoch,
                "epochs": job.last_epoch,
                "loss": epoch.loss,
                "accuracy": epoch.accuracy,
                "many": job.world is not None,
            }
        )

    return report


def failure(error: BaseException) -> Event:
    """The event of an error, with its traceback where the error was not expected."""
    expected = isinstance(error, LacewingError | OSError)
    return {
        "event": "failed",
        "error": type(error).__name__,
        "os_error": isinstance(error, OSError),
        "message": str(error),
        "traceback": None if expected else "".join(traceback.format_exception(error)),
    }
