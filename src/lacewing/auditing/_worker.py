"""A worker process: trains references with the user's own function, one thread, as its parent asks.

The first message says what the data and the function are, each other which reference to train; it answers each.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lacewing.errors import UsageError
from lacewing.support.child import Parent


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


def serve() -> None:
    """Train the references that are asked for until the parent ends."""
    parent = Parent()
    setup = parent.receive()
    try:
        import torch

        torch.set_num_threads(1)
        from lacewing.auditing import _refit, _work

        refit = load(setup["refit"])
        work = _work.read_work(Path(setup["work"]), refit)
    except BaseException as error:
        parent.send({"event": "unimportable", "message": f"{type(error).__name__}: {error}"})
        return
    parent.send({"event": "ready"})
    while True:
        task = parent.receive()
        try:
            seconds = _refit.train_one(work, task["k"], Path(task["path"]))
            event = {"event": "done", "seconds": seconds}
        except UsageError as error:
            event = {"event": "refused", "message": str(error), "traceback": traceback.format_exc()}
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
            event = {"event": "failed", "message": message, "traceback": traceback.format_exc()}
        parent.send(event)


if __name__ == "__main__":
    serve()
