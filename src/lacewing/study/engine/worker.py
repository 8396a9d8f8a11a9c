"""A worker process of the local engine: does one task after another, on one thread."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from lacewing.study import jobs
from lacewing.study.declared import load_study
from lacewing.study.engine._perform import Performer, failure, reporter
from lacewing.study.store import Store
from lacewing.support.child import Message, Parent
from lacewing.support.locks import join


def serve() -> None:
    """Do tasks until the parent ends. The first message says what study, folder and device they belong to."""
    stop = threading.Event()

    def is_stop(message: Message) -> bool:
        if message.get("stop"):
            stop.set()
        return bool(message.get("stop"))

    parent = Parent(is_stop)
    setup = parent.receive()
    try:
        with join(Path(setup["folder"]), setup["token"]):  # until the process ends
            performer = Performer(
                jobs.Workspace.receive(
                    setup["handed"],
                    load_study(setup["study"]),
                    Store(Path(setup["folder"])),
                    Path(setup["data_root"]) if setup["data_root"] else None,
                    device=setup["device"],
                    keep=setup["keep"],
                    stop=stop.is_set,
                    report=reporter(parent.send),
                )
            )
            parent.send({"event": "ready"})
            told = set[tuple[str, str]]()
            while True:
                event = performer.perform(parent.receive())
                if found := performer.work.store.damaged - told:
                    parent.send({"event": "damaged", "files": sorted(found)})
                    told |= found
                parent.send(event)
                performer.work.spare_memory()
    except BaseException as error:
        with suppress(BrokenPipeError):  # the run is over
            parent.send(failure(error))


if __name__ == "__main__":
    serve()
