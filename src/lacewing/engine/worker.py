"""A worker process: reads tasks as JSON lines from standard input, writes what happens as JSON lines.

Started as ``python -m lacewing.engine.worker`` by the local engine, one thread each. It ends when its standard input
does, so that no worker outlives a run that was killed.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import IO, Any

from lacewing import jobs, models
from lacewing.config import Study, load_study
from lacewing.errors import BudgetSpent, LacewingError
from lacewing.plan import NetworkJob, Plan, make_plan
from lacewing.results import Epoch


def serve(tasks: IO[str], events: IO[str]) -> None:
    """Do tasks until standard input ends. The first line says what study, folder and device they belong to."""
    stop = threading.Event()
    inbox: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for line in tasks:
            message = json.loads(line)
            if message.get("stop"):
                stop.set()
            else:
                inbox.put(message)
        os._exit(0)  # the run that started us is over, whatever we were doing

    def send(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    def report(job: NetworkJob, epoch: Epoch) -> None:
        send(
            event="epoch",
            id=job.id,
            epoch=epoch.epoch,
            epochs=job.train.epochs,
            loss=epoch.loss,
            accuracy=epoch.accuracy,
        )

    threading.Thread(target=read, daemon=True).start()
    setup = inbox.get()
    try:
        work, plan = _open(setup, stop, report)
    except BaseException as error:
        send(**_failure(error))
        return
    send(event="ready")
    networks = {job.key: job for job in plan.networks}
    attacks = {job.key: job for job in plan.attacks}
    while True:
        task = inbox.get()
        try:
            if task["kind"] == "chain":
                jobs.run_chain(work, [networks[key] for key in task["keys"]])
            else:
                jobs.run_attack(work.store, attacks[task["keys"][0]])
            send(event="done")
        except BudgetSpent:
            send(event="stopped")
        except BaseException as error:
            send(**_failure(error))


def _open(setup: dict[str, Any], stop: threading.Event, report: jobs.Report) -> tuple[jobs.Workspace, Plan]:
    import torch

    torch.set_num_threads(1)
    if setup["device"] == "cuda":
        torch.backends.cudnn.deterministic = True
    study: Study = load_study(setup["study"])
    root = Path(setup["data_root"]) if setup["data_root"] else None
    work = jobs.Workspace.open(
        study, Path(setup["folder"]), root, device=setup["device"], keep=setup["keep"], stop=stop.is_set, report=report
    )
    plan = make_plan(study, data_digest=work.dataset.digest, model=models.fingerprint(study.model))
    return work, plan


def _failure(error: BaseException) -> dict[str, Any]:
    expected = isinstance(error, LacewingError | OSError)
    return {
        "event": "failed",
        "error": type(error).__name__,
        "os_error": isinstance(error, OSError),
        "message": str(error),
        "traceback": None if expected else "".join(traceback.format_exception(error)),
    }


if __name__ == "__main__":
    private = os.fdopen(os.dup(1), "w")  # what user code prints must not mix with our lines
    os.dup2(2, 1)
    serve(sys.stdin, private)
