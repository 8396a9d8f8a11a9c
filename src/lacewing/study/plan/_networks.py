"""Which networks a study trains: chains, each with its key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lacewing.config import (
    SCHEMA,
    Dense,
    EarlyStopped,
    Imp,
    Network,
    Study,
    canonical_key,
    family_name,
    kind_of,
    level_name,
    network_name,
    stop_name,
)
from lacewing.results import Role
from lacewing.study.plan._attacks import Networks
from lacewing.study.plan._jobs import Imposed, NetworkJob


def chains_of(study: Study, *, data_digest: str, model: Mapping[str, Any]) -> list[tuple[NetworkJob, ...]]:
    """The chains of the networks that the study declares."""
    common = {
        "schema": SCHEMA,
        "kind": "network",
        "data": {**_drawn(study), "digest": data_digest},
        "model": dict(model),
        "signals": study.signals.model_dump(mode="json", include={"noise", "draws"}),
    }
    # Under random-halves every network is a target, and the others are its references.
    roles: tuple[Role, ...] = ("target", "shadow") if study.data.split == "four-way" else ("target",)
    return [chain for seed in study.run.seeds for role in roles for chain in _chains(study, common, role, seed)]


def _drawn(study: Study) -> dict[str, Any]:
    """What of [data] the networks depend on. A field that came later counts only where it is not its default."""
    fields = study.data.model_dump(mode="json", exclude={"dataset", "labels"})
    if study.data.split == "four-way":
        del fields["population"]  # taken from records outside the four sets
    return {name: value for name, value in fields.items() if name != "canaries" or value}


def _chains(study: Study, common: Mapping[str, Any], role: Role, seed: int) -> Iterator[tuple[NetworkJob, ...]]:
    """IMP and early stops start from the study's dense network where one is trained alike, all in one chain."""

    def job(
        spec: Network,
        network: str,
        method: dict[str, Any],
        level: int = 0,
        stop: int | None = None,
        declared: Network | None = None,
    ) -> NetworkJob:
        train = study.train_of(spec)
        config = {**common, "method": method, "train": train.identity(), "role": role, "seed": seed}
        stack = None
        if train.stack > 1:
            number, place = divmod(study.run.seeds.index(seed), train.stack)
            config["place"] = place
            stack = f"{network_name(spec)}/{role}/{number}"
        return NetworkJob(
            canonical_key(config),
            network,
            str(method["method"]),
            role,
            seed,
            level,
            spec,
            train,
            stack=stack,
            stop=stop,
            family=family_name(declared or spec),
            kind="control" if declared else kind_of(study, spec),
        )

    networks = {
        network_name(s): job(s, network_name(s), s.model_dump(mode="json", exclude={"name", "family", "train"}))
        for s in study.networks
        if not isinstance(s, Imp | EarlyStopped)
    }
    chains = {single.key: [single] for single in networks.values()}
    for spec in study.networks:
        if isinstance(spec, Imp):
            head = job(Dense(train=spec.train), level_name(spec, 0), {"method": "dense"}, declared=spec)
            chain = chains.setdefault(head.key, [head])
            settings = spec.model_dump(mode="json", include={"method", "fraction", "rewind"})
            for level in range(1, spec.levels + 1):
                chain.append(job(spec, level_name(spec, level), {**settings, "level": level}, level))
        elif isinstance(spec, EarlyStopped):
            train = study.train_of(spec)
            head = job(Dense(train=spec.train), stop_name(spec, train.epochs), {"method": "dense"}, declared=spec)
            chain = chains.setdefault(head.key, [head])
            for place, epoch in enumerate(spec.stops(train), 1):
                settings = {"method": spec.method, "epoch": epoch}
                chain.append(job(spec, stop_name(spec, epoch), settings, place, epoch))
    yield from (tuple(chain) for chain in chains.values())


def imposed_chains(study: Study, chains: Sequence[tuple[NetworkJob, ...]]) -> list[tuple[NetworkJob, ...]]:
    """For each pruned target a shadow that is trained under the target's mask, from its own rewind point."""
    networks = Networks(study, chains)
    found: list[tuple[NetworkJob, ...]] = []
    for target in networks.targets():
        shadow = networks.shadow(target) if isinstance(target.spec, Imp) else None
        if shadow is not None and target.level:
            origin = networks.denser(shadow)[0]
            config = {"schema": SCHEMA, "kind": "network", "mask": target.key, "origin": origin.key}
            key = canonical_key({**config, "train": target.train.identity()})
            imposed = Imposed(target, origin)
            # Under random-halves one network is the shadow of several targets.
            name = f"{target.network}-imposed" + (f"-{target.seed}" if shadow.seed != target.seed else "")
            job = replace(target, key=key, network=name, role="shadow", seed=shadow.seed, imposed=imposed, stack=None)
            found.append((job,))
    return found


def probed(job: NetworkJob, settings: Mapping[str, Mapping[str, Any]]) -> NetworkJob:
    """The job with the keys of what attacks ask its network, see `probe_settings`."""
    about = {"schema": SCHEMA, "kind": "probe", "network": job.key}
    return replace(job, probes=tuple((kind, canonical_key({**about, kind: how})) for kind, how in settings.items()))
