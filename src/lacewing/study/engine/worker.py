"""A worker process: reads tasks as JSON lines from standard input, writes what happens as JSON lines.

Started as ``python -m lacewing.study.engine.worker`` by the local engine, one thread each. It ends when its input
does, so that no worker outlives a run that was killed.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from lacewing.config import load_study
from lacewing.study import jobs
from lacewing.study.engine._perform import Performer, failure, reporter
from lacewing.study.engine._pool import Event
from lacewing.study.store import Store
from lacewing.support.locks import join


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

    def send(event: Event) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    threading.Thread(target=read, daemon=True).start()
    setup = inbox.get()
    try:
        with join(Path(setup["folder"]), setup["token"]):  # until the process ends
            performer = Performer(
                jobs.Workspace.open(
                    load_study(setup["study"]),
                    Store(Path(setup["folder"])),
                    Path(setup["data_root"]) if setup["data_root"] else None,
                    device=setup["device"],
                    keep=setup["keep"],
                    stop=stop.is_set,
                    report=reporter(send),
                )
            )
            send({"event": "ready"})
            while True:
                event = performer.perform(inbox.get())
                if performer.work.store.damaged:
                    send({"event": "damaged", "files": sorted(performer.work.store.damaged)})
                send(event)
    except BaseException as error:
        with suppress(BrokenPipeError):  # the run is over
            send(failure(error))


if __name__ == "__main__":
    private = os.fdopen(os.dup(1), "w", encoding="utf-8")  # what user code prints must not mix with our lines
    os.dup2(2, 1)
    serve(sys.stdin, private)
