"""The way in, the same for the shell and for Python: run or resume a study, look at a run folder, merge, export."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from lacewing import data, jobs, models
from lacewing._report import ReportData, write
from lacewing._result import Result
from lacewing.cautions import failures
from lacewing.config import SCHEMA, Study, difference, load_study, to_toml
from lacewing.engine._progress import Progress
from lacewing.engine.local import Pool, default_processes, stop_after
from lacewing.errors import BudgetSpent, FolderError, UsageError, did_you_mean
from lacewing.plan import Plan, make_plan, only
from lacewing.results import results_csv
from lacewing.store import Store, write_atomically
from lacewing.tradeoff import as_json, tradeoff

Device = Literal["auto", "cpu", "cuda"]


def run(
    study: str | Path | Mapping[str, Any] = "digits",
    *,
    out: str | Path | None = None,
    budget: float | None = None,
    only: Mapping[str, str] | None = None,
    keep: jobs.Keep = "all",
    device: Device = "auto",
    set: Iterable[str] = (),
    data_root: str | Path | None = None,
    processes: int | None = None,
    quiet: bool = False,
) -> Result:
    """Run a study, or continue it where its folder stands, and write results.csv, tradeoff.json and the report.

    Args:
        study: a built-in name, a TOML file, or a mapping with the same fields.
        out: the run folder; ``runs/<name>`` if not given.
        budget: seconds after which training stops cleanly at an epoch's end.
        only: train a slice, e.g. ``{"role": "target", "seed": "0"}``.
        keep: "signals" drops weights as soon as nothing planned needs them.
        device: "auto" takes a CUDA device if there is one.
        set: changes to the study, ``"train.epochs=10"``.
        data_root: where data sets lie.
        processes: workers; by default one a core.
        quiet: no progress on standard error.

    Returns:
        Networks, attacks and trade-off; ``failed`` names what could not be done.

    Raises:
        UsageError: the study, the data or the folder is not right.
        BudgetSpent: the budget is spent, or SIGTERM came; call again to continue.
    """
    prepared = Prepared(study, out=out, only=only, device=device, set=set, data_root=data_root)
    folder = prepared.folder
    _writable(folder)
    with Store(folder).lock() as lock:
        prepared.claim()
        pending = [job for job in prepared.slice.networks if not jobs.finished(prepared.store, job)]
        attacks = [job for job in prepared.slice.attacks if not jobs.attacked(prepared.store, job)]
        progress = None if quiet else Progress(sum(job.train.epochs for job in pending), len(attacks))
        pool = Pool(
            prepared.study,
            folder,
            lock,
            data_root=prepared.data_root,
            device=prepared.device,
            keep=keep,
            processes=processes or default_processes(prepared.device),
            on_event=progress or (lambda event: None),
        )
        try:
            with _signals(pool.stop) as caught, stop_after(pool, budget):
                outcome = pool.run(prepared.slice)
        finally:
            if progress:
                progress.close()
        if outcome.fatal is not None:
            raise outcome.fatal
        if signal.SIGINT in caught:
            raise KeyboardInterrupt
        write_atomically(folder / "failed.json", json.dumps(outcome.failed))
        result = _assemble(folder)
        if outcome.stopped and result.missing:
            why = "SIGTERM" if caught else "the budget is spent"
            raise BudgetSpent(f"{why}: the state is saved under {folder}; the same command continues.")
        return result


def plan_table(study: str | Path | Mapping[str, Any] = "digits", **options: Any) -> list[dict[str, Any]]:
    """What ``run`` with the same arguments would train: a dict per network, nothing written.

    Keys: name, method, role, seed, parameters, nonzero, density and density_prunable (exact, before any training),
    epochs, done.
    """
    return Prepared(study, **options).table()


def status(folder: str | Path) -> dict[str, Any]:
    """How far a run folder is: networks and attacks done and planned, and what is in work. Imports no user code."""
    study, plan, _ = _recorded(Path(folder))
    store = Store(Path(folder))
    return {
        "schema": SCHEMA,
        "study": study.name,
        "networks": {"planned": len(plan.networks), "done": sum(jobs.finished(store, j) for j in plan.networks)},
        "attacks": {"planned": len(plan.attacks), "done": sum(jobs.attacked(store, j) for j in plan.attacks)},
        "in_work": [progress for _, progress in store.unfinished()],
        "failed": _failed(Path(folder)),
    }


def report(folder: str | Path) -> Result:
    """Write results.csv, tradeoff.json and the report of a run folder again. Imports no user code."""
    return _assemble(Path(folder))


def merge(out: str | Path, folders: Sequence[str | Path]) -> Result:
    """Join slices of one study into ``out``: every finished job, its digests checked, then results and report.

    Raises:
        FolderError: a folder is of another study.
        UsageError: no folder to join.
    """
    if not folders:
        raise UsageError("merge: name at least one folder to join, as in `lacewing merge OUT DIR DIR`.")
    target = Path(out)
    places = [Path(f) for f in folders] + ([target] if (target / "study.toml").exists() else [])
    recorded = [_recorded(place) for place in places]
    study, plan, facts = recorded[0]
    for place, (other, _, other_facts) in zip(places[1:], recorded[1:], strict=True):
        found = difference(study, other) or difference(other, study)
        if found is None and (facts["data_digest"], facts["model"]) != (
            other_facts["data_digest"],
            other_facts["model"],
        ):
            found = "the data set or the model's code is another"
        if found:
            raise FolderError(f"{place} is not of the same study as {places[0]}: {found}.")
    store = Store(target)
    with store.lock():
        for name in ("study.toml", "plan.json"):
            write_atomically(target / name, (places[0] / name).read_text())
        wanted = [(j.key, ("metrics.json", "signals.npz")) for j in plan.networks]
        wanted += [(j.key, ("metrics.json", "scores.npz")) for j in plan.attacks]
        failed = [sentence for place in places for sentence in _failed(place)]
        for key, files in wanted:
            source = next((Store(p) for p in places if Store(p).done(key, *files)), None)
            if source is not None and not store.done(key, *files):
                _adopt(source, store, key)
        for job in plan.attacks:  # target and shadow may have met only here
            if not jobs.attacked(store, job) and all(jobs.finished(store, n) for n in (job.target, job.shadow)):
                jobs.run_attack(store, job, classes=int(facts["classes"]))
        write_atomically(target / "failed.json", json.dumps(sorted({*failed})))
        return _assemble(target)


def export(folder: str | Path, network: str, to: str | Path) -> Path:
    """Write a network as an ordinary safetensors checkpoint: zeros in place, butterfly layers composed.

    Args:
        folder: the run folder.
        network: ``imp-03`` (target, lowest seed), ``imp-03/shadow/1`` or anything between.
        to: the file to write, ending in .safetensors.

    Raises:
        UsageError: no such network, it is not trained yet, or its weights were dropped.
    """
    from safetensors.torch import save

    path = Path(to)
    if path.suffix != ".safetensors":
        raise UsageError(f"--to {path}: the file must end in .safetensors.")
    study, plan, facts = _recorded(Path(folder))
    store = Store(Path(folder))
    name, *place = network.split("/")
    found = [j for j in plan.networks if j.network == name and [j.role, str(j.seed)][: len(place)] == place]
    if not found or len(place) > 2:
        known = {j.network for j in plan.networks} if not place else {j.id for j in plan.networks}
        raise UsageError(f"no network '{network}' in {folder}; {did_you_mean(network, known)}")
    job = found[0]
    if not jobs.finished(store, job):
        raise UsageError(f"{job.id} is not trained yet; continue the study with `lacewing run`.")
    if store.file(job.key, "model.safetensors") is None:
        raise UsageError(f"the weights of {job.id} were dropped or altered; run the study again with --keep all.")
    state = jobs.plain_state(store, job, study, shape=tuple(facts["shape"]), classes=int(facts["classes"]))
    write_atomically(path, save(state, {"network": job.id, "study": study.name}))
    return path


class Prepared:
    """A study with everything decided that must be before the first job: data, device, precision, plan, folder."""

    def __init__(
        self,
        study: str | Path | Mapping[str, Any],
        *,
        out: str | Path | None = None,
        only: Mapping[str, str] | None = None,
        device: Device = "auto",
        set: Iterable[str] = (),
        data_root: str | Path | None = None,
    ) -> None:
        from lacewing.accounting import count_networks

        declared = load_study(study, set)
        _check_attacks(declared)
        self.command = _command(study, declared, out, set, only)
        self.folder = Path(out) if out is not None else Path("runs") / declared.name
        self.store = Store(self.folder)
        self.device = _device(device)
        self.data_root = Path(data_root) if data_root is not None else None
        self.study = declared.resolved(self._precision(declared))
        self.work = jobs.Workspace.open(self.study, self.folder, self.data_root, device=self.device)
        data.four_way(len(self.work.records), 0)
        self.facts: dict[str, Any] = {
            "schema": SCHEMA,
            "data_digest": self.work.dataset.digest,
            "model": models.fingerprint(self.study.model),
            "shape": list(self.work.dataset.shape),
            "classes": self.work.dataset.classes,
            "command": self.command,
        }
        self.plan = make_plan(self.study, data_digest=self.facts["data_digest"], model=self.facts["model"])
        self.slice = _only(self.plan, only)
        self.counts = count_networks(self.study, self.plan, self.work.dataset.shape, self.work.dataset.classes)

    def _precision(self, declared: Study) -> Literal["fp32", "bf16"]:
        """A folder keeps the precision that it was begun with."""
        from lacewing.train import best_precision

        if (self.folder / "study.toml").exists():
            return "bf16" if _read_study(self.folder).train.precision == "bf16" else "fp32"
        return best_precision(self.device)

    def claim(self) -> None:
        """Make the folder this study's, or check that it is; nothing of another study is touched.

        Raises:
            FolderError: the folder is of another study, of an older schema, or of other data or model code.
        """
        if (self.folder / "study.toml").exists():
            old, _, facts = _recorded(self.folder)
            found = difference(old, self.study)
            if found is None and facts["data_digest"] != self.facts["data_digest"]:
                found = "the data set's content is another"
            if found is None and facts["model"] != self.facts["model"]:
                found = "the source of model.factory has changed"
            if found:
                raise FolderError(f"{self.folder} holds another study: {found}. Give --out another folder.")
        elif any(p.name != ".lock" for p in self.folder.iterdir()):
            raise FolderError(f"{self.folder} is not empty and is no run folder; give --out another folder.")
        write_atomically(self.folder / "plan.json", json.dumps(self.facts, indent=1, sort_keys=True))
        write_atomically(self.folder / "study.toml", to_toml(self.study))

    def table(self) -> list[dict[str, Any]]:
        """See ``plan_table``."""
        return [
            {
                "name": job.network,
                "method": job.method,
                "role": job.role,
                "seed": job.seed,
                **self.counts[job.network],
                "epochs": job.train.epochs,
                "done": jobs.finished(self.store, job),
            }
            for job in self.slice.networks
        ]


# ------------------------------------------------------------------------------------------------------- the folder


def _read_study(folder: Path) -> Study:
    try:
        return load_study(folder / "study.toml")
    except UsageError as error:
        raise FolderError(
            f"{folder} holds no study that this version reads ({error}) Was it written by another version of lacewing?"
        ) from None


def _recorded(folder: Path) -> tuple[Study, Plan, dict[str, Any]]:
    """The study, plan and facts of a run folder, without data, user code or torch.

    Raises:
        FolderError: there is no run folder, or of another schema.
    """
    if not (folder / "study.toml").is_file() or not (folder / "plan.json").is_file():
        raise FolderError(f"{folder} is no run folder (no study.toml and plan.json); `lacewing run` makes one.")
    try:
        facts = json.loads((folder / "plan.json").read_text())
        schema = facts["schema"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise FolderError(f"{folder}/plan.json is damaged; run the study again with --out another folder.") from None
    if schema != SCHEMA:
        raise FolderError(f"{folder} has schema {schema} and this version writes {SCHEMA}; give --out another folder.")
    study = _read_study(folder)
    return study, make_plan(study, data_digest=facts["data_digest"], model=facts["model"]), facts


def _failed(folder: Path) -> list[str]:
    try:
        return list(json.loads((folder / "failed.json").read_text()))
    except (OSError, json.JSONDecodeError):
        return []


def _adopt(source: Store, target: Store, key: str) -> None:
    """Copy a finished job: the files that its job.json names and that have their digests, and nothing else."""
    facts = source.read_job(key) or {}
    names = [name for name in facts.pop("files", {}) if source.file(key, name) is not None]

    def write(folder: Path) -> None:
        for name in names:
            (folder / name).write_bytes((source.job(key) / name).read_bytes())

    target.publish(key, facts, write)


def _assemble(folder: Path) -> Result:
    """From what is finished: results.csv, tradeoff.json, figures, report."""
    study, plan, facts = _recorded(folder)
    store = Store(folder)
    done = [job for job in plan.networks if jobs.finished(store, job)]
    networks = [jobs.load_network(store, job) for job in done]
    attacks = [jobs.load_attack(store, job) for job in plan.attacks if jobs.attacked(store, job)]
    found = tradeoff(attacks, attack=study.attacks.names[0]) if attacks else None
    signs = failures(networks, attacks, found, classes=int(facts["classes"])) if found else ()
    failed = _failed(folder)
    missing = len(plan.networks) - len(done) + len(plan.attacks) - len(attacks)
    write_atomically(folder / "results.csv", results_csv(networks, attacks))
    if found:
        write_atomically(folder / "tradeoff.json", json.dumps(as_json(found), indent=1))
    devices = sorted({str((store.read_job(job.key) or {}).get("device")) for job in done})
    if len(devices) > 1:
        signs = (*signs, f"The networks of this study were trained on different devices: {', '.join(devices)}.")
    write(
        folder,
        ReportData(
            study=study.as_dict(),
            networks=networks,
            attacks=attacks,
            tradeoff=found,
            failures=signs,
            environment=_environment(devices),
            jobs_failed=failed,
            command=facts["command"],
            data_digest=facts["data_digest"],
            missing=len(plan.networks) - len(done),
        ),
    )
    return Result(folder, tuple(networks), tuple(attacks), found, tuple(signs), tuple(failed), missing)


def _environment(devices: Sequence[str]) -> dict[str, str]:
    versions = {name: metadata.version(name) for name in ("lacewing", "torch", "numpy", "scikit-learn")}
    return {
        **versions,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": ", ".join(devices),
    }


# ---------------------------------------------------------------------------------------------------------- settings


def _only(plan: Plan, terms: Mapping[str, str] | None) -> Plan:
    return only(plan, terms) if terms else plan


def _check_attacks(study: Study) -> None:
    from lacewing.attacks import ATTACKS

    for name in study.attacks.names:
        if name not in ATTACKS:
            raise UsageError(f"attacks.names: unknown attack '{name}'; {did_you_mean(name, ATTACKS)}")


def _device(device: str) -> str:
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: {did_you_mean(device, ('auto', 'cpu', 'cuda'))}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu.")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _command(
    study: str | Path | Mapping[str, Any],
    declared: Study,
    out: str | Path | None,
    overrides: Iterable[str],
    terms: Mapping[str, str] | None,
) -> str:
    """The command that runs this study again, without the machine's own paths."""
    words = ["lacewing", "run", "study.toml" if isinstance(study, Mapping) else Path(study).name]
    words += [f"--set {override}" for override in overrides]
    return " ".join(words)


def _writable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"no permission to write into {folder}; give --out another folder.")


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[set[int]]:
    """SIGTERM and the first Ctrl-C stop cleanly; a second Ctrl-C interrupts at once. Yields what was caught."""
    caught: set[int] = set()
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def on_signal(number: int, _: object) -> None:
        if number in caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            print("stopping at the end of this epoch; Ctrl-C again to stop at once", file=sys.stderr)
        caught.add(number)
        stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
