"""A study made ready to run: everything decided that must be before the first job."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lacewing import data
from lacewing.attacks import described
from lacewing.config import CONTROLS, Attacks
from lacewing.errors import FolderError, UsageError
from lacewing.methods import METHODS
from lacewing.metrics import resolves
from lacewing.models import is_own
from lacewing.study import auto, jobs
from lacewing.study.declared import Study, difference, load_study
from lacewing.study.folder import PLAN, PlanFile, Recorded, claim, declaration, facts_of, read_plan_file, unlike
from lacewing.study.plan import NetworkJob, Plan, fingerprints, make_plan, only, token_notes, unavailable
from lacewing.study.reuse import available, copy
from lacewing.study.store import Store
from lacewing.support import loading
from lacewing.support.locks import LOCK, RUN
from lacewing.tradeoff import question

Device = Literal["auto", "cpu", "cuda"]


class Prepared:
    """A study with everything decided that must be before the first job: data, device, precision, plan, folder."""

    def __init__(
        self,
        study: str | Path | Mapping[str, Any],
        *,
        out: str | Path | None = None,
        only: Mapping[str, str] | None = None,
        reuse: str | Path | Iterable[str | Path] = (),
        device: Device = "auto",
        set: Iterable[str] = (),
        data_root: str | Path | None = None,
        elsewhere: bool = False,
        shape: str | None = None,
        planned: bool = False,
    ) -> None:
        from lacewing.signals import IMAGE_QUERIES
        from lacewing.study.accounting import count_networks, notes
        from lacewing.training.loop import choose_device
        from lacewing.training.replay import recordings_for

        asked = load_study(study, set)
        names = [network.method for network in asked.networks]
        loading.refuse_ambiguous(names, loading.METHODS, "networks: method", built_in=METHODS)
        self.command = _command(study, set)
        self.folder = Path(out) if out is not None else Path("runs") / asked.name
        self.declared = None if shape is None else _declared(asked, shape, reuse)
        known = (
            self.declared is None and (self.folder / PLAN).exists()
        )  # a folder holds nothing of data that are not here
        self.before = read_plan_file(self.folder) if known else None
        self.store = Store(self.folder)
        self.device = "cuda" if elsewhere and device == "cuda" else choose_device(device)
        recordings_for(self.device)  # refuses what LACEWING_STEPS asks for before anything is written
        self.data_root = Path(data_root) if data_root is not None else None
        source = self.declared or self.data_root
        work = jobs.Workspace.open(_with_attacks(asked), self.store, source, device=self.device)
        queries = work.study.signals.queries
        if len(work.dataset.shape) == 3 and queries > IMAGE_QUERIES:
            raise UsageError(f"signals.queries = {queries}: at most {IMAGE_QUERIES}, since an image has no more.")
        places = [Path(place) for place in ([reuse] if isinstance(reuse, str | Path) else reuse)]
        sources = [(place, read_plan_file(place)) for place in places]
        self.precision = auto.decide(work, self.before, sources, elsewhere=elsewhere)
        self.study = work.study.resolved(self.precision.chosen if self.precision else "fp32")
        self.work = replace(work, study=self.study)
        _check_steps(self.study, self.device)
        models = fingerprints(self.study)
        self.records = _facts(self.work)
        _check_worlds(self.work)
        self.facts = self._facts(models)
        self.plan = make_plan(
            self.study,
            data_digest=self.facts["data_digest"],
            models=models,
            attacks=self.work.attacks,
            places=self.facts.get("attribute_places"),
        )
        jobs.check_first_layers(self.work, self.plan.attacks)
        jobs.check_columns(self.work)
        self.slice = _only(self.plan, only)
        others = [self._other(place, found) for place, found in sources]
        self.found = available(self.store, self.slice, others, weights=True)
        for job in self.slice.networks:
            if job.mask is not None and self.trained(job.mask) and not self.trained(job):
                jobs.mask_file(self.found.get(job.mask.key, self.store), job, job.mask)
        if self.study.tradeoff.declared():
            self._check_questions()
            attacked = {self.found[job.key].folder for job in self.plan.attacks if job.key in self.found}
            late = any(old.study.tradeoff != self.study.tradeoff for place, old in sources if place in attacked)
            self.facts["declaration"] = declaration(self.study, late=late)
        self.notes = self._notes(others, asked.attacks.names) + self._guarantees()
        if self.precision is not None:
            fresh = self.before is None
            self.notes += auto.notes(asked, self.precision, fresh=fresh, sliced=bool(only), planned=planned)
        jobs.try_networks(self.work, [job for job in self.slice.networks if not self.trained(job)])
        self.counts = count_networks(self.study, self.plan, self.work.dataset.shape, self.work.dataset.classes)
        self.notes += notes(self.plan, self.work.dataset.shape, self.work.dataset.classes)
        for job in self.slice.networks:
            if is_own(job.model) and self.trained(job):
                jobs.check_count(self.found.get(job.key, self.store), job, self.counts[job.network]["nonzero"])

    def _facts(self, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What plan.json holds beside the study."""
        found = {
            "data_digest": self.work.digest,
            "records": asdict(self.records),
            "shape": list(self.work.dataset.shape),
            "classes": self.work.dataset.classes,
            "command": self.command,
            **facts_of(self.study, models),
        }
        if (places := jobs.named_places(self.work)) is not None:
            found["attribute_places"] = [list(each) for each in places]
        if self.data_root is not None:
            found["data_root"] = str(self.data_root)
        if self.precision is not None:
            found["precision"] = self.precision.as_dict()
        if own := {name: described(attack) for name, attack in self.work.attacks.items() if attack.source is not None}:
            found["attacks"] = own
        return found

    def _notes(self, others: Iterable[Store], named: Collection[str]) -> list[str]:
        """What a person should know before the study runs; ``named``: its attacks as it was given."""
        notes = [
            f"--reuse {other.folder}: {path} is lost, damaged or was altered since, and is not copied."
            for other in others
            for _, path in sorted(other.damaged)
        ]
        notes += self.work.dataset.notes
        notes += data.signs(self.records, self.study.data.groups or ())
        notes += token_notes(self.study, self.work.attacks, left_out="all" in named)
        notes += [
            f"networks.{self.study.place(index)}: there is no early stop, since training takes one epoch."
            for index, network in enumerate(self.study.networks)
            if not network.complete and len(network.steps(self.study.train_of(network))) == 1
        ]
        notes += [
            f"{question(each, primary=each == self.study.tradeoff.primary)} It is answered when every attack of it "
            "has run."
            for _, each in self.study.tradeoff.declared()
        ]
        return notes

    def _guarantees(self) -> list[str]:
        """What DP-SGD guarantees or not, a sentence a network.

        Raises:
            UsageError: its settings cannot be met with so many records.
        """
        found = ((job.network, jobs.guarantee(self.work, job)) for job in self.plan.audited)
        return [*dict.fromkeys(f"{network}: {privacy}." for network, privacy in found if privacy is not None)]

    @property
    def recorded(self) -> Recorded:
        """What the folder is of, once it is claimed."""
        return Recorded(self.study, self.plan, self.facts)

    def _other(self, place: Path, found: PlanFile) -> Store:
        """Another run folder that has something of this plan.

        Raises:
            UsageError: nothing of what it has is planned here.
        """
        _, old, facts = found
        store = Store(place)
        keys = [*(job.key for job in self.plan.networks), *(job.key for job in self.plan.readers)]
        if not any(store.read_job(key) for key in keys):
            alike = self.study.model_copy(update={"attacks": old.attacks, "run": old.run})  # these change no network
            why = unlike(self.facts, facts) or difference(old, alike) or "its seeds differ"
            raise UsageError(
                f"--reuse {place}: it has no jobs in common with this study: {why}. Leave it out, or change the study."
            )
        return store

    def _check_questions(self) -> None:
        """Refuse a declared question that these attacks and records can never answer.

        Raises:
            UsageError: it names the field.
        """
        planned = {(job.attack, job.target.family) for job in self.plan.attacks}
        others = {job.target.family for job in self.plan.attacks if job.target.kind == "control"}
        outside, groups = self.work.split(self.study.run.seeds[0]).nonmembers("target"), self.work.records.group_N
        n = len(outside if groups is None else set(groups[outside].tolist()))
        for where, asked in self.study.tradeoff.declared():
            against = others if asked.against == CONTROLS else {asked.against}
            both = (asked.attack, asked.family) in planned and any((asked.attack, name) in planned for name in against)
            if not both:
                raise UsageError(
                    f"{where}.metric: the attack '{asked.attack}' is not run on both families in this study; name "
                    "another."
                )
            if (fpr := asked.fpr) is not None and not resolves(fpr, n):
                raise UsageError(
                    f"{where}.metric: a TPR at an FPR of {fpr:g} needs {round(1 / fpr):,} non-members, and each "
                    f"network has {n:,}{'' if groups is None else ' groups of them'}; ask for another metric."
                )

    def trained(self, job: NetworkJob) -> bool:
        """Whether a network is trained, here or where it will be copied from."""
        return jobs.trained(self.store, job) or job.key in self.found

    def take_over(self, keep: jobs.Keep) -> None:
        """Copy what other run folders have of this plan; with "signals" not the weights of sequences that are whole."""
        copy(self.store, self.found)
        work = replace(self.work, keep=keep)
        for sequence in self.slice.sequences:
            if any(job.key in self.found for job in sequence) and all(
                jobs.finished(self.store, job) for job in sequence
            ):
                jobs.drop_weights(work, sequence)

    def claim(self) -> None:
        """Make the folder this study's, or check that it is; nothing of another study is touched.

        Raises:
            FolderError: see `check_folder`.
        """
        self.check_folder()
        claim(self.folder, self.recorded)

    def check_folder(self) -> None:
        """Refuse a folder that this study may not continue.

        Raises:
            FolderError: the folder is of another study, of an older schema, or of other data or model code.
        """
        if self.declared is not None:
            return
        if (self.folder / PLAN).exists():
            _, old, facts = read_plan_file(self.folder, self.before)  # another run may have written it since
            if facts.get("declaration") is not None:
                self.facts["declaration"] = facts["declaration"]
            found = difference(old, self.study) or unlike(self.facts, facts)
            if found:
                raise FolderError(
                    f"{self.folder} holds another study: {found}. Give --out another folder; with --reuse "
                    f"{self.folder} it copies the jobs that both have in common."
                )
        elif self.folder.is_dir() and any(
            p.name not in (LOCK, RUN) and p.suffix != ".part" for p in self.folder.iterdir()
        ):
            raise FolderError(f"{self.folder} is not empty and is no run folder; give --out another folder.")

    def table(self) -> list[dict[str, Any]]:
        """See ``plan_table``."""
        return [
            {
                "name": job.network,
                "method": job.method,
                "role": job.role,
                "seed": job.seed,
                "init": job.init,
                **self.counts[job.network],
                "epochs": job.last_epoch,
                "done": self.trained(job)
                and all(probe in self.found or self.store.done(probe, "probe.npz") for _, probe in job.probes),
            }
            for job in self.slice.audited
        ]

    def worlds(self) -> dict[str, Any] | None:
        """What [property] adds to the plan, in numbers; None where the study declares none."""
        declared = self.study.property
        if declared is None:
            return None
        networks = [job for job in self.slice.networks if job.world is not None]
        return {
            "of": declared.of,
            "shares": list(declared.worlds),
            "records": declared.records,
            "each": declared.networks,
            "poison": declared.poison,
            "networks": len(networks),
            "done": sum(self.trained(job) for job in networks),
            "comparisons": len(self.slice.properties),
        }

    def columns(self) -> dict[str, Any] | None:
        """What [attribute] adds to the plan: columns, and how many networks they are guessed from; None: nothing."""
        if self.study.attribute is None:
            return None
        asked = [key for job in self.slice.networks for kind, key in job.probes if kind == "attribute"]
        done = sum(key in self.found or self.store.done(key, "probe.npz") for key in asked)
        return {"columns": list(self.study.attribute.names), "networks": len(asked), "done": done}


def _check_steps(study: Study, device: str) -> None:
    """Refuse to record steps of a loop that is not ours."""
    from lacewing.training.replay import recordings_for

    way = recordings_for(device)
    loop = next((train.fit for network in study.networks if (train := study.train_of(network)).fit), None)
    if way is not None and loop is not None:
        raise UsageError(
            f"LACEWING_STEPS={way.way} records the steps of our own loop, and train.fit = '{loop}' is another; leave "
            "LACEWING_STEPS unset."
        )


def _facts(work: jobs.Workspace) -> data.Facts:
    """What there is to tell of a study's records, and of their copies in the splits of its seeds.

    Raises:
        DataError: no network can learn from them, or groups of them fit no split.
    """
    drawn, records = work.study.data, work.records
    if work.dataset.declared:
        return data.Facts(len(records), 0, work.dataset.shape[0], 0, [], records.classes, 0, [])
    where = "data.dataset" if drawn.records is None else "data.records"
    copies = data.duplicate_groups(records.x)
    found = data.facts(records.x, records.clean_y, records.classes, f"{where}: {records.dataset}", copies)
    if found.copies or records.group_N is not None:
        splits = map(work.split, work.study.run.seeds)
        counts = [data.across(copies, split.members("target"), split.nonmembers("target")) for split in splits]
        found = replace(found, across=[min(counts), max(counts)])
    if records.group_N is not None:
        found = replace(found, groups=len(np.unique(records.group_N)))
    return found


def _declared(study: Study, shape: str, reuse: object) -> data.Dataset:
    """The data set that --shape declares. Raises `UsageError`: it is impossible, or this study has to read its data."""
    needs = {"[property]": study.property, "[attribute]": study.attribute}
    needs |= {f"data.{name}": getattr(study.data, name) for name in ("groups", "target", "ignore", "categories")}
    for field, asked in needs.items():
        if asked is not None:
            raise UsageError(f"--shape {shape}: {field} depends on the data themselves; leave one out.")
    if reuse:
        raise UsageError(
            f"--shape {shape}: another folder has no networks of data that are not here; leave out --reuse."
        )
    return data.declared(study.data.dataset, shape)


def _check_worlds(work: jobs.Workspace) -> None:
    """Refuse a [property] whose training sets these records cannot make.

    Raises:
        UsageError: it names the field.
    """
    declared = work.study.property
    if declared is None:
        return
    for seed in work.study.run.seeds:
        pools, _ = work.pools(seed)
        if declared.poison:
            work.poison(seed)
        for role in data.ROLES:
            for share in declared.worlds:
                data.world(pools, role, share, declared.records, seed, 0)


def _only(plan: Plan, terms: Mapping[str, str] | None) -> Plan:
    return only(plan, terms) if terms else plan


def _with_attacks(study: Study) -> Study:
    """The study with "all" replaced by the attacks that it has what it takes for, after those that it names."""
    from lacewing.attacks import ATTACKS

    named = [name for name in study.attacks.names if name != "all"]
    if len(named) == len(study.attacks.names):
        return study
    lacking = unavailable(study.model_copy(update={"attacks": Attacks(names=tuple(ATTACKS))}))
    every = (name for name, attack in ATTACKS.items() if attack.in_all and name not in lacking)
    names = dict.fromkeys([*named, *every])
    return study.model_copy(update={"attacks": Attacks(names=tuple(names))})


def _command(study: str | Path | Mapping[str, Any], overrides: Iterable[str]) -> str:
    """The command that made the networks, for others: without folders of this machine."""
    words = ["lacewing", "run", "study.toml" if isinstance(study, Mapping) else Path(study).name]
    for override in overrides:
        words += ["--set", override]
    return shlex.join(words)
