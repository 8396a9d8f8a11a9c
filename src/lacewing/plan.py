"""The plan: a study's jobs as pure data. The stored unit is a network, the scheduled one a chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lacewing.config import SCHEMA, Dense, Imp, Network, Study, Train, canonical_key, level_name, network_name
from lacewing.errors import UsageError, did_you_mean
from lacewing.results import Role

ROLES: tuple[Role, ...] = ("target", "shadow")


@dataclass(frozen=True, slots=True)
class NetworkJob:
    """Train one network and observe it. ``level`` is 0 but for pruned networks."""

    key: str
    network: str
    method: str
    role: Role
    seed: int
    level: int
    spec: Network
    train: Train

    @property
    def id(self) -> str:
        """As in results: ``imp-03/target/0``."""
        return f"{self.network}/{self.role}/{self.seed}"


@dataclass(frozen=True, slots=True)
class AttackJob:
    """Run one attack on a target network, with the shadow network of the same recipe and seed as its reference."""

    key: str
    attack: str
    seed: int
    target: NetworkJob
    shadow: NetworkJob

    @property
    def id(self) -> str:
        """As progress names it: ``discriminator on imp-03/target/0``."""
        return f"{self.attack} on {self.target.id}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Chains of networks (an IMP sequence, or a single network), and the attacks on them."""

    chains: tuple[tuple[NetworkJob, ...], ...]
    attacks: tuple[AttackJob, ...]

    @property
    def networks(self) -> tuple[NetworkJob, ...]:
        """Every network once, in the order of the study."""
        return tuple(job for chain in self.chains for job in chain)


def make_plan(study: Study, *, data_digest: str, model: Mapping[str, Any]) -> Plan:
    """The jobs of a resolved study.

    Args:
        study: with its precision decided.
        data_digest: SHA-256 of the data set.
        model: what identifies the model (``models.fingerprint``).
    """
    common = {
        "schema": SCHEMA,
        "kind": "network",
        "data": {**study.data.model_dump(mode="json", exclude={"dataset", "labels"}), "digest": data_digest},
        "model": dict(model),
        "signals": study.signals.model_dump(mode="json"),
    }
    chains: list[tuple[NetworkJob, ...]] = []
    for seed in study.run.seeds:
        for role in ROLES:
            chains += _chains(study, common, role, seed)
    by_place = {(job.network, job.role, job.seed): job for chain in chains for job in chain}
    attacks = []
    for name in study.attacks.names:
        for (network, role, seed), target in by_place.items():
            if role == "target":
                shadow = by_place[network, "shadow", seed]
                config = {"schema": SCHEMA, "kind": "attack", "attack": name, "seed": seed}
                key = canonical_key({**config, "target": target.key, "shadow": shadow.key})
                attacks.append(AttackJob(key, name, seed, target, shadow))
    return Plan(tuple(chains), tuple(attacks))


def _chains(study: Study, common: Mapping[str, Any], role: Role, seed: int) -> Iterator[tuple[NetworkJob, ...]]:
    """IMP starts from the study's dense network where one is trained alike; sequences that share it share a chain."""

    def job(spec: Network, network: str, method: dict[str, Any], level: int = 0) -> NetworkJob:
        train = study.train_of(spec)
        config = {**common, "method": method, "train": train.model_dump(mode="json"), "role": role, "seed": seed}
        return NetworkJob(canonical_key(config), network, str(method["method"]), role, seed, level, spec, train)

    networks = {
        network_name(s): job(s, network_name(s), s.model_dump(mode="json", exclude={"name", "train"}))
        for s in study.networks
        if not isinstance(s, Imp)
    }
    chains = {single.key: [single] for single in networks.values()}
    for spec in study.networks:
        if isinstance(spec, Imp):
            head = job(Dense(train=spec.train), level_name(spec, 0), {"method": "dense"})
            chain = chains.setdefault(head.key, [head])
            settings = spec.model_dump(mode="json", include={"method", "fraction", "rewind"})
            for level in range(1, spec.levels + 1):
                chain.append(job(spec, level_name(spec, level), {**settings, "level": level}, level))
    yield from (tuple(chain) for chain in chains.values())


def only(plan: Plan, terms: Mapping[str, str]) -> Plan:
    """The slice of a plan that ``--only`` asks for; an attack is in it when both of its networks are.

    Args:
        plan: the whole plan.
        terms: field -> wanted value, over ``role``, ``seed``, ``method`` and ``network``. A pruned network brings the
            networks that its chain needs.

    Raises:
        UsageError: an unknown field, or nothing fits.
    """
    fields = ("role", "seed", "method", "network")
    for term in terms:
        if term not in fields:
            raise UsageError(f"--only: unknown field '{term}'; {did_you_mean(term, fields)}")

    def wanted(job: NetworkJob) -> bool:
        return all(str(getattr(job, term)) == value for term, value in terms.items())

    chains = []
    for chain in plan.chains:
        last: dict[str, int] = {}  # of each sequence in the chain, the highest level asked for
        for job in filter(wanted, chain):
            last[network_name(job.spec)] = max(job.level, last.get(network_name(job.spec), 0))
        if last:
            chains.append(tuple(j for j in chain if j.level == 0 or j.level <= last.get(network_name(j.spec), 0)))
    if not chains:
        asked = ",".join(f"{k}={v}" for k, v in terms.items())
        raise UsageError(f"--only {asked}: no network of the study fits; `lacewing run ... --dry-run` lists them.")
    keys = {job.key for chain in chains for job in chain}
    attacks = tuple(a for a in plan.attacks if a.target.key in keys and a.shadow.key in keys)
    return Plan(tuple(chains), attacks)
