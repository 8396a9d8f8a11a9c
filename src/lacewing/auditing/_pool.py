"""Worker processes that train references side by side, one thread each."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from lacewing.errors import UsageError
from lacewing.support.child import WORKER_ENVIRONMENT, Child

WORKING = "LACEWING_AUDIT_WORKER"  # set in a worker's environment: an audit in there is refused
Task = Mapping[str, Any]
_Events = queue.SimpleQueue[tuple[Task | None, Mapping[str, Any]]]


def run(
    setup: Mapping[str, Any], tasks: Sequence[Task], workers: int, on_done: Callable[[Task, float], None]
) -> str | None:
    """Do all tasks on ``workers`` processes; None, or why workers cannot be set up (tasks may be left then).

    ``on_done`` is called in this thread, with a task and its seconds. Raises `UsageError` for a task that failed, with
    the worker's traceback as a note; the tasks that others were at are lost, what is done stays.
    """
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for each in tasks:
        waiting.put(each)
    events: _Events = queue.SimpleQueue()
    started: list[Child] = []
    listeners: list[threading.Thread] = []
    environment = {**WORKER_ENVIRONMENT, WORKING: "1"}
    try:
        for _ in range(workers):
            started.append(worker := Child("lacewing.auditing._worker", setup, environment=environment))
            listeners.append(threading.Thread(target=_serve, args=(worker, waiting, events), daemon=True))
            listeners[-1].start()
        done = 0
        while done < len(tasks):
            task, event = events.get()
            if event["event"] == "unimportable":
                return str(event["message"])
            if event["event"] != "done":
                raise _failure(task, event)
            assert task is not None
            done += 1
            on_done(task, float(event["seconds"]))
        return None
    finally:
        for worker in started:
            worker.kill()
        for worker, listener in zip(started, listeners, strict=False):
            listener.join()
            worker.close()


def _serve(worker: Child, waiting: queue.SimpleQueue[Task], events: _Events) -> None:
    """Hand one worker its tasks, one at a time, and pass on what it answers."""
    task: Task | None = None
    with suppress(OSError):  # it has ended
        for event in worker.listen():
            if event["event"] != "ready":
                events.put((task, event))
            if event["event"] not in ("ready", "done"):
                return
            task = None
            with suppress(queue.Empty):
                task = waiting.get_nowait()
            if task is None:
                return
            worker.send(task)
    message = f"its worker process ended with {worker.end(wait=True)}; out of memory?"
    events.put((task, {"event": "ended", "message": message}))


def _failure(task: Task | None, event: Mapping[str, Any]) -> UsageError:
    who = "" if task is None or event["event"] == "refused" else f"reference {task['k'] + 1}: "
    error = UsageError(f"{who}{event['message']}")
    if event.get("traceback"):
        error.add_note(event["traceback"])
    return error
