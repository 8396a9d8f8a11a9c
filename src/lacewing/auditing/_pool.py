"""Worker processes that train references side by side, one thread each."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from lacewing.auditing._worker import WORKING
from lacewing.errors import UsageError
from lacewing.study.engine.local import WORKER_ENVIRONMENT, own_group, search_path

Task = Mapping[str, Any]


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
    events: queue.SimpleQueue[tuple[Task | None, dict[str, Any]]] = queue.SimpleQueue()
    started: list[subprocess.Popen[str]] = []
    listeners: list[threading.Thread] = []
    try:
        for _ in range(workers):
            started.append(worker := _start())
            listeners.append(threading.Thread(target=_serve, args=(worker, setup, waiting, events), daemon=True))
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
            worker.communicate()  # closes the pipes


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "lacewing.auditing._worker"],  # -P: the path given, and nothing before it
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, **WORKER_ENVIRONMENT, "PYTHONPATH": search_path(), WORKING: "1"},
        **own_group(),  # Ctrl-C reaches this process alone
    )


def _serve(
    worker: subprocess.Popen[str],
    setup: Mapping[str, Any],
    waiting: queue.SimpleQueue[Task],
    events: queue.SimpleQueue[tuple[Task | None, dict[str, Any]]],
) -> None:
    """Hand one worker its tasks, one at a time, and pass on what it answers."""
    task: Task | None = None
    assert worker.stdout is not None
    try:
        _send(worker, setup)
        for line in worker.stdout:
            event = json.loads(line)
            if event["event"] != "ready":
                events.put((task, event))
            if event["event"] not in ("ready", "done"):
                return
            task = None
            with suppress(queue.Empty):
                task = waiting.get_nowait()
            if task is None:
                return
            _send(worker, task)
    except OSError:
        pass
    events.put(
        (task, {"event": "ended", "message": f"its worker process ended (exit code {worker.poll()}); out of memory?"})
    )


def _failure(task: Task | None, event: Mapping[str, Any]) -> UsageError:
    who = "" if task is None or event["event"] == "refused" else f"reference {task['k'] + 1}: "
    error = UsageError(f"{who}{event['message']}")
    if event.get("traceback"):
        error.add_note(event["traceback"])
    return error


def _send(worker: subprocess.Popen[str], message: Mapping[str, Any]) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(message) + "\n")
    worker.stdin.flush()
