"""A worker process: trains references with the user's own function, one thread, as its parent asks.

Started as ``python -m lacewing.auditing._worker``. It reads JSON lines from standard input: the first says what the
data and the function are, each other which reference to train; it answers each with a JSON line. It ends when its input
does, so that no worker outlives an audit that was killed.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from lacewing.errors import UsageError

WORKING = "LACEWING_AUDIT_WORKER"  # set in a worker's environment: an audit in there is refused


def load(address: Mapping[str, str]) -> Callable[..., Any]:
    """The function that a parent has by this address: its module by name if that is the same file, else by path."""
    module = None
    if address["module"] != "__mp_main__":
        try:
            module = importlib.import_module(address["module"])
        except ModuleNotFoundError as error:
            if error.name != address["module"].partition(".")[0]:
                raise
    if module is None or Path(module.__file__ or "").resolve() != Path(address["file"]):
        spec = importlib.util.spec_from_file_location(address["module"], address["file"])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[address["module"]] = module
        spec.loader.exec_module(module)
    function: Callable[..., Any] = getattr(module, address["name"])
    return function


def serve(tasks: IO[str], events: IO[str]) -> None:
    """Train the references that are asked for until standard input ends."""

    def send(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    setup = json.loads(tasks.readline())
    inbox: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_end_with, args=(tasks, inbox), daemon=True).start()
    try:
        import torch

        torch.set_num_threads(1)
        from lacewing.auditing import _refit

        refit = load(setup["refit"])
        work = _refit.read_work(Path(setup["work"]), refit)
    except BaseException as error:
        send(event="unimportable", message=f"{type(error).__name__}: {error}")
        return
    send(event="ready")
    while True:
        task = inbox.get()
        try:
            seconds = _refit.train_one(work, task["k"], Path(task["path"]))
            send(event="done", seconds=seconds)
        except UsageError as error:
            send(event="refused", message=str(error), traceback=traceback.format_exc())
        except BaseException as error:
            send(event="failed", message=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())


def _end_with(tasks: IO[str], inbox: queue.Queue[dict[str, Any]]) -> None:
    for line in tasks:
        inbox.put(json.loads(line))
    os._exit(0)  # the audit that started us is over, whatever we were doing


if __name__ == "__main__":
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")  # what user code prints must not mix with our lines
    os.dup2(2, 1)
    serve(sys.stdin, private)
