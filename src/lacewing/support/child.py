"""Child processes: one of our modules in a Python of its own, and messages between it and its parent.

Messages are objects of JSON, one a line, on the child's standard input and output. `Child` is the parent's end and
`Parent` the child's. A child ends when its parent does, even where the parent was killed.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Message = dict[str, Any]

_KEEP_MEMORY = {  # else glibc returns and fetches the memory of every activation at each step: about 10 % of the time
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_STREAMS = {"PYTHONIOENCODING": "utf-8:backslashreplace"}  # whatever the console's code page
WORKER_ENVIRONMENT = {**_KEEP_MEMORY, **dict.fromkeys(THREADS, "1"), **_STREAMS}


class Child:
    """A process that runs one of our modules; the module speaks through `Parent`.

    Ctrl-C does not reach it: it is meant for this process, which then says what its children are to do.

    Args:
        module: as ``python -m`` takes it. The child searches modules where this process does.
        setup: the first message. Where the child has ended already, `receive` and `end` say so.
        environment: variables beside those of this process; by default those of a worker, which has one thread.
        quiet: drop what the child writes to standard error.
    """

    def __init__(
        self,
        module: str,
        setup: Mapping[str, Any],
        *,
        environment: Mapping[str, str] = WORKER_ENVIRONMENT,
        quiet: bool = False,
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],  # -P: no folder before those of the given search path
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            encoding="utf-8",
            env={**os.environ, **_STREAMS, **environment, "PYTHONPATH": search_path()},
            **own_group(),
        )
        with suppress(OSError):
            self.send(setup)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message.

        Raises:
            OSError: the child has ended.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Message | None:
        """Wait for the next message; None: the child has ended. A message that its end cut short is dropped."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.endswith("\n"):
            message: Message = json.loads(line)
            return message
        self.process.wait()
        return None

    def listen(self) -> Iterator[Message]:
        """Every message until the child ends."""
        while (message := self.receive()) is not None:
            yield message

    def end(self, *, wait: bool = False) -> str | None:
        """How the child ended, "signal 9" or "exit code 1"; None while it runs and is not waited for."""
        code = self.process.wait() if wait else self.process.poll()
        return None if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End the child at once."""
        self.process.kill()

    def close(self) -> None:
        """Close the pipes, at which the child ends, and wait until it has."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Parent:
    """The process that started this one. This process ends when the parent closes its pipe or is killed.

    From here on standard output goes to standard error and standard input is empty, so that what user code prints or
    asks for does not mix with messages.

    Args:
        handled: called in another thread with each message as it comes; one for which it returns True is not received.
    """

    def __init__(self, handled: Callable[[Message], bool] = lambda message: False) -> None:
        source = os.dup(0)
        self._messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(source, handled), daemon=True).start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message.

        Raises:
            OSError: the parent is gone.
        """
        self._messages.write(json.dumps(message) + "\n")
        self._messages.flush()

    def receive(self) -> Message:
        """Wait for the next message."""
        return self._inbox.get()

    def _read(self, source: int, handled: Callable[[Message], bool]) -> None:
        rest = b""
        while chunk := os.read(source, 1 << 16):  # a thread that waits in sys.stdin would stop the interpreter's end
            *lines, rest = (rest + chunk).split(b"\n")
            for message in map(json.loads, lines):
                if not handled(message):
                    self._inbox.put(message)
        os._exit(0)  # whatever this process was doing


def own_group() -> dict[str, Any]:
    """Options of `subprocess.Popen` that keep a process out of reach of the Ctrl-C that is meant for this one."""
    if hasattr(subprocess, "CREATE_NEW_PROCESS_GROUP"):  # Windows
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def search_path() -> str:
    """Where this process finds modules, for the PYTHONPATH of a child."""
    ours = str(Path(__file__).parents[2])  # `python -m lacewing` in the folder of the package has taken it off its path
    return os.pathsep.join(dict.fromkeys([*filter(None, sys.path), ours]))
