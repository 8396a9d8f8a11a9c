"""What a worker does with a task, wherever it runs."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from lacewing import jobs, models
from lacewing.engine._pool import Event
from lacewing.errors import BudgetSpent, LacewingError
from lacewing.plan import NetworkJob, Plan, make_plan
from lacewing.results import Epoch


def begin(work: jobs.Workspace) -> Plan:
    """Set this process up to train, and the plan of the study that it works on."""
    import torch

    torch.set_num_threads(1)
    if work.device == "cuda":
        torch.backends.cudnn.deterministic = True
    return make_plan(work.study, data_digest=work.dataset.digest, model=models.fingerprint(work.study.model))


def reporter(send: Callable[[Event], None]) -> jobs.Report:
    """Sends an event at each epoch's end."""

    def report(job: NetworkJob, epoch: Epoch) -> None:
        send(
            {
                "event": "epoch",
                "id": job.id,
                "epoch": epoch.epoch,
                "epochs": job.train.epochs,
                "loss": epoch.loss,
                "accuracy": epoch.accuracy,
            }
        )

    return report


def perform(work: jobs.Workspace, plan: Plan, task: dict[str, Any]) -> Event:
    """Do a task, ``{"kind": ..., "keys": ...}``, and say how it ended: done, stopped or failed."""
    try:
        networks = {job.key: job for job in plan.networks}
        if task["kind"] == "chain":
            jobs.run_chain(work, [networks[key] for key in task["keys"]])
        elif task["kind"] == "stack":
            keys = set(task["keys"])
            chains = plan.stacks[str(networks[task["keys"][0]].stack)]
            jobs.run_stack(work, [[job for job in chain if job.key in keys] for chain in chains])
        else:
            attacks = {job.key: job for job in plan.attacks}
            jobs.run_attack(work.store, attacks[task["keys"][0]])
    except BudgetSpent:
        return {"event": "stopped"}
    except BaseException as error:
        return failure(error)
    return {"event": "done"}


def failure(error: BaseException) -> Event:
    """The event of an error; one that nobody expected brings its traceback."""
    expected = isinstance(error, LacewingError | OSError)
    return {
        "event": "failed",
        "error": type(error).__name__,
        "os_error": isinstance(error, OSError),
        "message": str(error),
        "traceback": None if expected else "".join(traceback.format_exception(error)),
    }
