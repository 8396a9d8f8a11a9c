"""Which networks a study trains: sequences, each with its key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lacewing.config import Train, canonical_key
from lacewing.errors import UsageError
from lacewing.methods import Method, Step
from lacewing.models import fingerprint
from lacewing.results import Role
from lacewing.study.declared import Study, in_order, kind_of
from lacewing.study.plan._attacks import Networks, no_first_layer
from lacewing.study.plan._jobs import KEYS, NetworkJob, World
from lacewing.study.plan._worlds import world_config, worlds_of
from lacewing.training.own_code import source_of


def fingerprints(study: Study) -> dict[str, dict[str, Any]]:
    """What identifies the models of a study: "" is the study's, others by the entry that has its own.

    The source of the user's own training loop, where there is one, counts to what it trains.

    Raises:
        UsageError: see `lacewing.models.fingerprint` and `lacewing.training.own_code.load`.
    """
    found = {"": {**fingerprint(study.model), **_loop(study.train)}}
    for entry in (entry for entry in study.networks if entry.model or "fit" in entry.train):
        try:
            found[entry.entry] = {**fingerprint(study.model_of(entry)), **_loop(study.train_of(entry))}
        except UsageError as error:
            raise type(error)(f"network '{entry.entry}': {error}") from error.__cause__
    return found


def _loop(train: Train) -> dict[str, str]:
    return {} if train.fit is None else {"fit": source_of(train)}


def sequences_of(
    study: Study, *, data_digest: str, models: Mapping[str, Mapping[str, Any]]
) -> list[tuple[NetworkJob, ...]]:
    """The sequences of the networks that the study declares.

    ``models`` holds by name of an entry what identifies its model, see `lacewing.models.fingerprint`; "" is the
    study's, which serves all entries that are not named.
    """
    common = _common(study, data_digest)
    # Under random-halves every network is a target, and the others are its references.
    roles: tuple[Role, ...] = ("target", "shadow") if study.data.split == "four-way" else ("target",)
    entries = in_order(study)
    return [
        sequence
        for seed in study.run.seeds
        for init in range(study.run.inits)
        for role in roles
        for sequence in _sequences(study, entries, common, models, role, seed, init)
    ]


def world_sequences(
    study: Study, *, data_digest: str, models: Mapping[str, Mapping[str, Any]]
) -> list[tuple[NetworkJob, ...]]:
    """The sequences of the networks of [property]: those that are attacked, and the attacker's own as shadows."""
    if study.property is None:
        return []
    common = _common(study, data_digest)
    roles: tuple[Role, ...] = ("target", "shadow")
    entries, declared = in_order(study), study.property
    return [
        sequence
        for poisoned in (False, True)
        for seed in study.run.seeds
        for role in roles
        for place, world in enumerate(worlds_of(declared, poisoned=poisoned))
        for sequence in _sequences(study, entries, common, models, role, seed, 0, (place, world))
    ]


def _common(study: Study, data_digest: str) -> dict[str, Any]:
    """What the keys of all networks are made from."""
    return {
        "schema": KEYS,
        "kind": "network",
        "data": {**_drawn(study), "digest": data_digest},
        "signals": study.signals.model_dump(mode="json", include={"noise", "draws"}),
    }


def _drawn(study: Study) -> dict[str, Any]:
    """What of [data] the networks depend on. A field that came later counts only where it is not its default."""
    of_digest = {"dataset", "labels", "groups", "padding", "target", "ignore", "categories"}  # the digest is of these
    fields = study.data.model_dump(mode="json", exclude=of_digest)
    if study.data.split == "four-way":
        del fields["population"]  # taken from records outside the four sets
    return {name: value for name, value in fields.items() if name not in ("canaries", "tokens") or value}


def _sequences(
    study: Study,
    entries: Sequence[Method],
    common: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    role: Role,
    seed: int,
    init: int,
    of_world: tuple[int, World] | None = None,
) -> Iterator[tuple[NetworkJob, ...]]:
    """Entries that start from a dense network share it where the study trains one alike, all in one sequence.

    ``entries``: those of the study, see `in_order`; ``of_world``: of networks of [property], and its place among them.
    """

    named: dict[str, NetworkJob] = {}

    def job(entry: Method, of: Method, step: Step, stack: str | None = None) -> NetworkJob:
        train, mask = _train_of(study, of, of_world), None if of.mask_of is None else named[of.mask_of]
        method = dict(step.key) if of.source is None else {**step.key, "source": of.source}
        if (version := of.arithmetic(study.model_of(of))) > 1:
            method["arithmetic"] = version
        model = models.get(entry.entry, models[""])
        config = {**common, "model": model, "method": method, "train": train.identity(), "role": role, "seed": seed}
        if init:
            config["init"] = init
        if mask is not None:
            config["mask"] = mask.key
        if of_world is not None and study.property is not None:
            config["world"] = world_config(study.property, of_world[1])
        own = canonical_key({**config, "train": train.model_copy(update={"stack": 1}).identity()})
        if train.stack > 1:
            place = study.run.seeds.index(seed) * study.run.inits + init if of_world is None else of_world[0]
            number, config["place"] = divmod(place, train.stack)
            stack = stack or f"{step.network}/{role}/{number}" + _of_worlds(seed, of_world)
        return NetworkJob(
            canonical_key(config),
            role,
            seed,
            step,
            entry.entry,
            of,
            train,
            study.model_of(of),
            mask=mask,
            stack=stack,
            family=entry.family_of(step),
            kind=kind_of(study, entry) if of is entry else "control",
            init=init,
            own=own,
            world=None if of_world is None else of_world[1],
        )

    sequences: dict[str, list[NetworkJob]] = {}
    names: dict[str, str] = {}  # by key
    for entry in entries:
        head, *rest = entry.steps(study.train_of(entry))
        head_job = job(entry, entry.first(), head)
        sequence = sequences.setdefault(head_job.key, [head_job])
        followers = [job(entry, entry, step, sequence[0].stack) for step in rest]
        sequence += followers
        for each in followers if entry.first() is not entry else [head_job, *followers]:
            named[each.network] = each
            if names.setdefault(each.key, each.network) != each.network:
                raise UsageError(
                    f"networks: method {each.method} makes '{names[each.key]}' and '{each.network}' alike; give each "
                    "step a key of its own."
                )
    yield from (tuple(sequence) for sequence in sequences.values())


def _of_worlds(seed: int, of_world: tuple[int, World] | None) -> str:
    """What the names of stacks of [property] end in: their networks train on records of one seed, poisoned or not."""
    return "" if of_world is None else f"/property/{seed}" + "/poisoned" * of_world[1].poisoned


def _train_of(study: Study, entry: Method, of_world: tuple[int, World] | None) -> Train:
    """An entry's training; networks of [property] may be trained in larger stacks."""
    train = study.train_of(entry)
    stack = None if of_world is None or study.property is None else study.property.stack
    return train if stack is None else train.model_copy(update={"stack": stack if entry.stackable else 1})


def imposed_sequences(study: Study, sequences: Sequence[tuple[NetworkJob, ...]]) -> list[tuple[NetworkJob, ...]]:
    """For each pruned target a shadow that is trained under the target's mask, from its own rewind point."""
    networks = Networks(study, sequences)
    found: list[tuple[NetworkJob, ...]] = []
    for target in networks.targets():
        pruned = target.spec.masked and (target.level or target.mask is not None)
        shadow = networks.shadow(target) if pruned else None
        denser = networks.denser(shadow) if shadow is not None else ()
        if shadow is not None and denser:
            origin = denser[0]
            config = {"schema": KEYS, "kind": "network", "mask": target.key, "origin": origin.key}
            key = canonical_key({**config, "train": target.train.identity()})
            # Under random-halves one network is the shadow of several targets.
            name = f"{target.network}-imposed" + (f"-{target.seed}" if shadow.seed != target.seed else "")
            job = replace(target, key=key, own=key, name=name, role="shadow", seed=shadow.seed, stack=None)
            found.append((replace(job, mask=target, origin=origin),))
    return found


def probed(job: NetworkJob, settings: Mapping[str, Mapping[str, Any]]) -> NetworkJob:
    """The job with the keys of what attacks ask its network, see `probe_settings`."""
    about = {"schema": KEYS, "kind": "probe", "network": job.key}
    left_out = set[str]()
    if job.role != "target" or job.stop is not None or job.imposed:
        left_out.add("attribute")
    if no_first_layer(job) is not None:
        left_out.add("first-layer")
    asked = {kind: how for kind, how in settings.items() if kind not in left_out}
    return replace(job, probes=tuple((kind, canonical_key({**about, kind: how})) for kind, how in asked.items()))
