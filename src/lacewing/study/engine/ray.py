"""The Ray engine: the sequences and attacks of a study as tasks of a cluster.

Workers need neither the run folder nor a shared disk: each receives with its task the finished networks that it needs,
and sends back every network when it is finished. This process alone writes the run folder. Where a worker dies, its
sequence continues after the last network that came back.
"""

from __future__ import annotations

import ipaddress
import math
import os
import queue
import secrets
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from lacewing import data
from lacewing.errors import FolderError, UsageError, needs_extra
from lacewing.study import jobs
from lacewing.study.declared import Study, load_study
from lacewing.study.engine._perform import Performer, failure, reporter
from lacewing.study.engine._pool import Event, Pool
from lacewing.study.engine._private import PrivateFolder, parent_of_sockets, private_folder
from lacewing.study.plan import Plan
from lacewing.study.store import Files, Store, write_files
from lacewing.support.child import WORKER_ENVIRONMENT, search_path
from lacewing.support.machine import usable_cores
from lacewing.support.mapped import Mapped

RETRIES = 3
GPU_SHARE = 0.5  # of a GPU for each worker: small networks leave most of one idle
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0": Ray serves this machine alone; on Linux too
_TOKEN = secrets.token_hex(32)  # of clusters of this process; else Ray writes one into the home folder
_PATIENCE = 30  # seconds in which a worker removes its folder


@contextmanager
def pool(
    study: Study,
    folder: Path,
    plan: Plan,
    *,
    handed: Mapping[str, Any],
    dataset: data.Dataset,
    device: str,
    keep: str,
    processes: int | None,
    on_event: Callable[[Event], None],
) -> Iterator[Pool]:
    """Actors on the cluster at ``RAY_ADDRESS``, or on one of this machine's own that ends with the run.

    Args:
        study: resolved.
        folder: the run folder, which this process holds.
        plan: of the whole study.
        handed: by `Workspace.handed_on`.
        dataset: sent to each node once; where its records stay in a file, its path, which every node must have.
        device: "cpu" (one core a worker) or "cuda" (half a GPU).
        keep: "all" or "signals".
        processes: how many workers; by default as many as the cluster has room for.
        on_event: see ``Pool``.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at that address.
    """
    with _connected(processes) as (ray, private):
        gpus = GPU_SHARE if device == "cuda" else 0
        room: dict[str, float] = ray.cluster_resources()
        places = int(min(room.get("CPU", 0), room.get("GPU", 0) / gpus if gpus else math.inf))
        if places < 1:
            raise UsageError(
                f"--engine ray --device {device}: the cluster has no {'GPU' if gpus else 'CPU'} to work on."
            )
        environment = {**WORKER_ENVIRONMENT, "PYTHONPATH": search_path()}
        if private is not None:
            environment["TMPDIR"] = str(private)  # what a worker that is killed leaves there goes with the cluster
        if "LACEWING_STEPS" in os.environ:
            environment["LACEWING_STEPS"] = os.environ["LACEWING_STEPS"]
        actor = ray.remote(_Actor).options(
            num_cpus=1, num_gpus=gpus, max_concurrency=3, runtime_env={"env_vars": environment}
        )
        keys = frozenset(job.key for job in plan.networks) | {job.key for job in plan.readers}
        setup = {"study": study.as_dict(), "handed": handed, "device": device, "keep": keep, "keys": keys}
        mapped = dataset.x.path.resolve() if isinstance(dataset.x, Mapped) else None
        shared = ray.put(dataset if mapped is None else mapped)
        store = Store(folder)
        yield Pool(
            store,
            lambda: _Remote(ray, actor.remote(setup, shared), store, plan),
            min(processes or places, places),
            on_event=on_event,
            retries=RETRIES,
        )


@contextmanager
def _connected(processes: int | None) -> Iterator[tuple[Any, Path | None]]:
    """Ray with a cluster; and the private folder of a cluster of our own, which ends and goes with the run."""
    address = os.environ.get("RAY_ADDRESS")
    alone = address in (None, "", "local")
    wanted = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": None if alone else address}
    if alone:
        wanted |= {_LOOPBACK: "0"} | ({} if "RAY_AUTH_TOKEN_PATH" in os.environ else {"RAY_AUTH_TOKEN": _TOKEN})
    with _environment({"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE"), **wanted}):
        try:
            import ray
        except ImportError:
            raise needs_extra("--engine ray", "ray", "ray") from None
        if ray.is_initialized():
            yield ray, None
        elif alone:
            with private_folder(parent_of_sockets()) as private:
                try:
                    _start(ray, private, processes or usable_cores())
                    yield ray, private
                finally:
                    ray.shutdown()
        else:
            try:
                _connect(ray, str(address))
                yield ray, None
            finally:
                ray.shutdown()


@contextmanager
def _environment(wanted: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables of the environment, None removes one, for Ray and the processes that it starts."""
    before = {name: os.environ.get(name) for name in wanted}
    _set(wanted)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _start(ray: Any, private: Path, cores: int) -> None:
    """A cluster of this machine alone, on the loopback interface; whoever connects needs the token.

    Raises:
        UsageError: Ray listens on another interface.
    """
    import ray._private.ray_constants as constants

    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False  # where Ray was imported before
    try:
        ray.init(
            address="local",
            num_cpus=cores,
            include_dashboard=False,
            _temp_dir=str(private / "ray"),  # a folder in ours, since Ray opens it to every account
            _node_ip_address="127.0.0.1",
            **_quiet(ray),
        )
    finally:
        constants.ENABLE_RAY_CLUSTER = before
    host = ray.get_runtime_context().gcs_address.rpartition(":")[0].strip("[]")
    if not ipaddress.ip_address(host).is_loopback:
        raise UsageError(
            f"--engine ray: Ray {ray.__version__} listens on {host} and not on the loopback interface alone; install "
            "a version from 2.60 on, or set RAY_ADDRESS to a cluster."
        )


def _connect(ray: Any, address: str) -> None:
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, **_quiet(ray))
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"--engine ray: no cluster at RAY_ADDRESS={address}: {str(error).splitlines()[0]}") from None


def _quiet(ray: Any) -> dict[str, Any]:
    """Options without messages, and without the working directory on the search path of the workers."""

    class Job(ray.job_config.JobConfig):  # type: ignore[misc]
        def _runtime_env_has_working_dir(self) -> bool:  # else Ray puts it, and the script's folder, first
            return True

    return {"log_to_driver": False, "logging_level": "ERROR", "job_config": Job()}


class _Remote:
    """The end of an actor in this process."""

    def __init__(self, ray: Any, actor: Any, store: Store, plan: Plan) -> None:
        self.ray, self.actor, self.store = ray, actor, store
        self.networks = {job.key: job for job in plan.networks}
        self.attacks = {job.key: job for job in plan.readers}
        self.events: Any = None
        self.why: str | None = None

    def send(self, message: dict[str, Any]) -> None:
        if message.get("stop"):
            self.actor.stop.remote()
        else:
            given = {key: self.store.contents(key) for key in self._needed(message)}
            work = {key: _unfinished(self.store, key) for key in message["keys"]}
            self.events = self.actor.run.options(num_returns="streaming").remote(message, given, work)

    def _needed(self, task: Mapping[str, Any]) -> Iterator[str]:
        """Keys of the finished jobs that a task goes on from or reads."""
        if task["kind"] == "attack":
            networks = list(self.attacks[task["keys"][0]].networks)
        else:
            networks = [self.networks[key] for key in task["keys"]]
            networks += [other for job in networks for other in job.needs]
        for job in networks:
            yield job.key
            yield from (probe for _, probe in job.probes)

    def listen(self) -> Iterator[Event]:
        try:
            for reference in self.events:
                event: Event = self.ray.get(reference)
                if event["event"] == "published":
                    self.store.publish(event["key"], event["facts"], partial(write_files, files=event["files"]))
                    self.store.drop_work(event["key"])
                elif event["event"] == "dropped":
                    self.store.drop_file(event["key"], event["name"])
                else:
                    for key, files in event.pop("work", {}).items():
                        write_files(self.store.work(key), files)
                    yield event
        except self.ray.exceptions.RayError as error:
            self.why = str(error).splitlines()[0]

    def end(self) -> str | None:
        return self.why

    def close(self) -> None:
        with suppress(self.ray.exceptions.RayError):  # it ends as it answers, or is gone
            self.ray.get(self.actor.close.remote(), timeout=_PATIENCE)
        self.ray.kill(self.actor, no_restart=True)


class _Actor:
    """The actor: a workspace in a temporary folder."""

    def __init__(self, setup: dict[str, Any], dataset: data.Dataset | Path) -> None:
        self.setup, self.dataset = setup, dataset
        self.inbox: queue.Queue[Event] = queue.Queue()
        self.stopping = threading.Event()
        self.private = PrivateFolder()
        self.store = _Outbox(self.private.path / "run", self.inbox.put)
        self.opened: Performer | None = None

    def _open(self) -> Performer:
        study = load_study(self.setup["study"])
        if isinstance(self.dataset, Path):
            ids = [name for name in study.data.groups or () if name != data.DUPLICATES]
            self.dataset = data.load(str(self.dataset), groups=ids)
        work = jobs.Workspace.receive(
            self.setup["handed"],
            study,
            self.store,
            self.dataset,
            device=self.setup["device"],
            keep=self.setup["keep"],
            stop=self.stopping.is_set,
            report=reporter(self.inbox.put),
        )
        performer = Performer(work)
        if self.setup["keys"] - performer.networks.keys() - performer.attacks.keys():
            raise FolderError(
                "a worker's lacewing, model.factory or attacks are not those of this machine; install the same there."
            )
        return performer

    def run(self, task: dict[str, Any], given: dict[str, Any], work: dict[str, Files]) -> Iterator[Event]:
        """Do a task; what it publishes, and how it ends, as events."""
        try:
            self.opened = opened = self.opened or self._open()
        except BaseException as error:
            yield failure(error)
            return
        shutil.rmtree(self.store.folder, ignore_errors=True)
        for key, (facts, files) in given.items():
            if files:
                self.store.receive(key, facts, files)
        for key, saved in work.items():
            if saved:
                write_files(self.store.work(key), saved)
        thread = threading.Thread(target=lambda: self.inbox.put(opened.perform(task)))
        thread.start()
        while True:
            event = self.inbox.get()
            if event["event"] == "stopped":
                event["work"] = {key: _unfinished(self.store, key) for key in task["keys"]}
            yield event
            if event["event"] in ("done", "stopped", "failed"):
                thread.join()
                return

    def stop(self) -> None:
        """Save the state at the end of the epoch, and end the task."""
        self.stopping.set()

    def close(self) -> None:
        """Remove the folder and end at once."""
        self.private.remove()
        os._exit(0)


class _Outbox(Store):
    """A store that reports what is published in it."""

    def __init__(self, folder: Path, tell: Callable[[Event], None]) -> None:
        super().__init__(folder)
        self.tell = tell

    def receive(self, key: str, facts: Mapping[str, Any], files: Files) -> None:
        """Publish what came from elsewhere without reporting it."""
        super().publish(key, facts, partial(write_files, files=files))

    def publish(self, key: str, facts: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        super().publish(key, facts, write)
        facts, files = self.contents(key)
        self.tell({"event": "published", "key": key, "facts": facts, "files": files})

    def drop_file(self, key: str, name: str) -> None:
        super().drop_file(key, name)
        self.tell({"event": "dropped", "key": key, "name": name})


def _unfinished(store: Store, key: str) -> Files:
    """The saved state of a job, if there is one."""
    folder = store.folder / "work" / key
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}
