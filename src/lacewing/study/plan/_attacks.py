"""Which networks stand by when an attack runs: shadow, references, denser versions; and which attacks can run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from lacewing import attribute, metrics
from lacewing.attacks import ATTACKS, Attack
from lacewing.config import Model, canonical_key
from lacewing.models import is_own, takes_tokens
from lacewing.study.declared import Study
from lacewing.study.plan._jobs import KEYS, AttackJob, NetworkJob, Side

_ABOUT: Mapping[str, str] = {  # by trait of a network
    "sparse": "sparse networks",
    "masked": "pruned networks",
    "levels": "the levels of a pruning sequence",
}
_REFERENCES = {"references", "in-references"}
_ASKED: Mapping[str, tuple[str, ...]] = {  # by need of an attack: the kinds of questions, see `probe_settings`
    "queries": ("queries",),
    "references": ("queries",),
    "in-references": ("queries",),
    "augmentation": ("queries",),
    "noise": ("noise",),
    "boundary": ("boundary",),
    "gradients": ("gradients",),
    "layers": ("layers",),
    "first-layer": ("first-layer",),
    "population": ("population",),
}


def asked(attack: Attack) -> set[str]:
    """The kinds of questions beyond plain outputs and sensitivity that an attack needs answered."""
    return {kind for need in attack.needs for kind in _ASKED.get(need, ())}


def probe_settings(
    study: Study, attacks: Mapping[str, Attack], places: Sequence[Sequence[int]] | None = None
) -> dict[str, dict[str, Any]]:
    """By kind, how networks are asked what the declared attacks need beyond plain outputs and sensitivity.

    Kinds apart from each other, so that an attack added later has networks asked only what is new. "attribute" is for
    target networks alone, and not for early stops. ``places``: of the columns that [attribute] calls by their names,
    which a file may have in another order later; None: it gives places itself.
    """
    signals = study.signals.model_dump(mode="json", include={"queries", "noise_sizes", "noise_draws"})
    del signals["queries"]
    known = {"queries": {"queries": study.queries()}, "noise": signals, "gradients": {}, "layers": {}}
    known["boundary"] = {"queries": study.signals.boundary_queries}
    known["first-layer"] = {}
    if study.data.split == "four-way" and study.data.population:  # under random halves it is among the records
        known["population"] = {"population": study.data.population}
    kinds = {kind for name in study.attacks.names for kind in asked(attacks[name])}
    found = {kind: settings for kind, settings in known.items() if kind in kinds}
    if study.attribute is not None:
        found["attribute"] = {"version": attribute.VERSION, **study.attribute.model_dump(mode="json")}
        if places is not None:
            found["attribute"]["places"] = [list(each) for each in places]
    return found


def no_first_layer(network: NetworkJob) -> str | None:
    """Why a network has no plain fully connected first layer, as far as its model and method tell; None: it may."""
    if not (network.model.name == "mlp" or is_own(network.model)):
        if takes_tokens(network.model):
            return "a transformer begins with an embedding"
        return "a model of images begins with a convolution"
    if network.spec.reshapes:
        return f"networks of method '{network.method}' have other layers"
    return None


# Needs of attacks. A first layer of factories of one's own, too: it sees embedded ids, if it sees any.
_CHANGED = frozenset({"queries", "augmentation", "noise", "boundary", "first-layer"})


def token_notes(study: Study, attacks: Mapping[str, Attack], *, left_out: bool) -> list[str]:
    """What the attacks of a study of token ids do without; nothing of another study.

    ``left_out``: tell which attacks "all" does not stand for.
    """
    if not study.of_tokens():
        return []
    reading = [name for name in study.attacks.names if "sensitivity" in attacks[name].needs]
    changing = [name for name, attack in ATTACKS.items() if attack.in_all and attack.needs & _CHANGED]
    notes = [f'Token ids have no changed copies, so that "all" leaves out {", ".join(changing)}.'] if left_out else []
    if reading:
        notes.append(
            f"Token ids have no noisy copies: the local sensitivity is 0 for every record, and {', '.join(reading)} "
            f"read{'s' * (len(reading) == 1)} the other quantities alone."
        )
    return notes


class Refusal(NamedTuple):
    """Why an attack does not run on a network."""

    why: str  # the end of a sentence
    of_kind: bool = False  # it is about other kinds of networks, which the study may have


@dataclass(frozen=True)
class Networks:
    """A study's networks, and who can say what about whom."""

    study: Study
    sequences: Sequence[Sequence[NetworkJob]]

    @property
    def halves(self) -> bool:
        """Whether every network is a target and the others its references."""
        return self.study.data.split == "random-halves"

    @cached_property
    def tokens(self) -> bool:
        """Whether records are token ids."""
        return self.study.of_tokens()

    @cached_property
    def queries(self) -> int:
        """How many fixed queries of a record there are."""
        return self.study.queries()

    def own(self) -> Iterable[NetworkJob]:
        """The networks that the study declares: all but those under an imposed mask."""
        return (job for sequence in self.sequences for job in sequence if not job.imposed)

    def targets(self) -> list[NetworkJob]:
        """The networks that are attacked."""
        return [job for job in self.own() if job.role == "target"]

    def shadow(self, target: NetworkJob) -> NetworkJob | None:
        """The network of the target's recipe whose members the attacker knows."""
        if not self.halves:
            return self._places.get((target.network, "shadow", target.seed, target.init))
        seed = shadow_seed(self.study.run.seeds, target.seed)
        return None if seed is None else self._places.get((target.network, "target", seed, target.init))

    def references(self, of: NetworkJob, hidden: NetworkJob | None = None) -> tuple[NetworkJob, ...]:
        """Networks of the recipe of ``of`` that may serve as its references, ``hidden`` being the attacked one.

        They are of its own initialisation number. Other initialisations of its seed train on its very records and would
        give their membership away; with those of other seeds every attack would read ``run.inits`` times as many
        networks, and the leak that is measured would depend on ``run.inits``.

        Under random-halves a network's complement is none: its membership would give away the attacked one's.
        """
        same = [job for job in self._named[of.network, of.init] if job is not of]
        if self.halves:
            excluded = {of.seed ^ 1} | ({hidden.seed, hidden.seed ^ 1} if hidden else set())
            same = [job for job in same if job.seed not in excluded]
        return tuple(sorted(same, key=lambda job: (job.seed, job.role)))

    def denser(self, of: NetworkJob) -> tuple[NetworkJob, ...]:
        """The dense version of a network and, for a pruned one, the levels between, the dense one first."""
        if of.spec.role != "sparse":
            return ()
        if "levels" in of.spec.traits:
            between = (job for job in self._kin[of.key] if 0 < job.level < of.level)
            return (self._sequences[of.key][0], *between)
        dense = self._dense.get((of.role, of.seed, of.init), ())
        return next((only for model, only in dense if model is None or model == of.model), ())

    def checkpoints(self, of: NetworkJob) -> tuple[NetworkJob, ...]:
        """Earlier states of a network's own training that the study observes, the earliest first."""
        sequence = self._sequences[of.key]
        if of is not sequence[0] and of.stop is None:
            return ()  # a training of its own
        stops = {j.stop: j for j in sequence if j.stop is not None and (of.stop is None or j.stop < of.stop)}
        return tuple(stops[epoch] for epoch in sorted(stops))

    def other_shadow(self, kind: str, target: NetworkJob) -> NetworkJob | None:
        """A shadow that is not of the target's recipe: dense, of another density, or under the target's mask."""
        shadow = self.shadow(target)
        if shadow is None:
            return None
        if kind == "dense":
            return next(iter(self.denser(shadow)), None)
        if kind == "mismatched":
            return self._mismatched(shadow)
        return self._imposed.get(target.key)

    def _mismatched(self, shadow: NetworkJob) -> NetworkJob | None:
        """The level before (the one after, for the first); where there are no levels, another entry of the method."""
        if "levels" in shadow.spec.traits:
            kin = {job.level: job for job in self._kin[shadow.key] if job.level}
            return kin.get(shadow.level - 1) or kin.get(shadow.level + 1)
        alike = self._alike[shadow.method, shadow.role, shadow.seed, shadow.init]
        place = next(number for number, job in enumerate(alike) if job is shadow)
        return alike[place - 1] if len(alike) > 1 else None

    @cached_property
    def _sequences(self) -> dict[str, Sequence[NetworkJob]]:
        return {job.key: sequence for sequence in self.sequences for job in sequence}

    @cached_property
    def _kin(self) -> dict[str, Sequence[NetworkJob]]:
        """By key: the networks of the same entry in a network's sequence, which may have thousands of others."""
        found: dict[str, Sequence[NetworkJob]] = {}
        for sequence in self.sequences:
            entries = defaultdict[int, list[NetworkJob]](list)
            for job in sequence:
                entries[id(job.spec)].append(job)
            found |= {job.key: kin for kin in entries.values() for job in kin}
        return found

    @cached_property
    def _dense(self) -> dict[tuple[str, int, int], list[tuple[Model | None, tuple[NetworkJob, ...]]]]:
        """By role, seed and initialisation: the one dense network of each model, at last, under None, that of all."""
        found: dict[tuple[str, int, int], list[tuple[Model | None, tuple[NetworkJob, ...]]]] = {}
        for (method, role, seed, init), jobs in self._alike.items():
            if method == "dense":
                models: list[tuple[Model | None, list[NetworkJob]]] = []
                for job in jobs:
                    same = next((those for model, those in models if model == job.model), None)
                    if same is None:
                        models.append((job.model, same := []))
                    same.append(job)
                found[role, seed, init] = [(model, _named_dense(those)) for model, those in (*models, (None, jobs))]
        return found

    @cached_property
    def _imposed(self) -> dict[str, NetworkJob]:
        """By the key of a target: the shadow under its mask."""
        found = (job for sequence in self.sequences for job in sequence if job.imposed)
        return {job.mask.key: job for job in found if job.mask is not None}

    @cached_property
    def _named(self) -> dict[tuple[str, int], list[NetworkJob]]:
        """By name and initialisation."""
        found = defaultdict[tuple[str, int], list[NetworkJob]](list)
        for job in self.own():
            found[job.network, job.init].append(job)
        return found

    @cached_property
    def _alike(self) -> dict[tuple[str, str, int, int], list[NetworkJob]]:
        """By method, role, seed and initialisation."""
        found = defaultdict[tuple[str, str, int, int], list[NetworkJob]](list)
        for job in self.own():
            found[job.method, job.role, job.seed, job.init].append(job)
        return found

    @cached_property
    def _places(self) -> dict[tuple[str, str, int, int], NetworkJob]:
        return {(job.network, job.role, job.seed, job.init): job for job in self.own()}


def _named_dense(networks: Sequence[NetworkJob]) -> tuple[NetworkJob, ...]:
    """The one that is called "dense", or the only one; else none."""
    named = [job for job in networks if job.network == "dense"] or networks
    return (named[0],) if len(named) == 1 else ()


def shadow_seed(seeds: Sequence[int], seed: int) -> int | None:
    """Under random-halves: whose network serves as shadow, the next in order that is not the complement's."""
    order = sorted(seeds)
    after = order[order.index(seed) + 1 :] + order[: order.index(seed)]
    return next((other for other in after if other != seed ^ 1), None)


def attack_job(networks: Networks, attack: Attack, target: NetworkJob) -> AttackJob | Refusal:
    """The job of an attack on a network, or why there is none."""
    if strange := sorted(attack.about - target.spec.traits):
        return Refusal(f"it is about {' and '.join(_ABOUT[trait] for trait in strange)}.", of_kind=True)
    if "first-layer" in attack.needs and (why := no_first_layer(target)) is not None:
        return Refusal(f"it needs a fully connected first layer, and {why}.", of_kind=True)
    if networks.tokens and (changed := sorted(attack.needs & _CHANGED)):
        return Refusal(f"it asks about changed copies of records ({changed[0]}), and token ids have none.")
    shadow = networks.shadow(target)
    lacking = _lacking(attack, networks, target, shadow)
    if lacking is not None:
        return Refusal(lacking)
    needs = attack.needs

    def side(of: NetworkJob, hidden: NetworkJob | None = None) -> Side:
        related = networks.denser(of) if needs & {"dense", "levels"} else ()
        related = related if "levels" in needs else related[:1]
        return Side(
            of,
            networks.references(of, hidden) if needs & _REFERENCES else (),
            networks.checkpoints(of) if "checkpoints" in needs else related,
        )

    known = side(target)
    shadow_side = side(shadow, target) if shadow is not None else None
    others = tuple(
        (kind, job)
        for kind in ("dense", "mismatched", "imposed")
        if f"{kind}-shadow" in needs and (job := networks.other_shadow(kind, target)) is not None
    )
    config: dict[str, Any] = {"schema": KEYS, "kind": "attack", "attack": attack.name, "seed": target.seed}
    if attack.source is not None:
        config["source"] = attack.source
    config["metrics"] = metrics.VERSION
    config |= {"target": target.key, "shadow": shadow_side.network.key if shadow_side else None}
    for label, one in (("target", known), ("shadow", shadow_side)):
        for kind in ("references", "related"):
            jobs = getattr(one, kind) if one else ()
            if jobs:
                config[f"{label}_{kind}"] = [job.key for job in jobs]
    if others:
        config["other_shadows"] = {kind: job.key for kind, job in others}
    if probes := {kind: key for kind, key in target.probes if kind in asked(attack)}:
        config["probes"] = probes
    queries = None
    if needs & _REFERENCES:
        queries = trained_queries(target.train.augment, networks.queries)
        config["trained_queries"] = queries
    return AttackJob(canonical_key(config), attack, target.seed, known, shadow_side, others, queries)


def trained_queries(augment: Collection[str], queries: int) -> tuple[int, ...]:
    """Which of the fixed queries, in the order of `lacewing.signals.probe`, augmentation showed in training too."""
    flip, crop = "flip" in augment, "crop" in augment
    shown = [True, flip, *[crop] * 8, *[crop and flip] * 8]  # the record, mirrored, shifted, mirrored and shifted
    return tuple(query for query, seen in enumerate(shown[:queries]) if seen)


def _lacking(attack: Attack, networks: Networks, target: NetworkJob, shadow: NetworkJob | None) -> str | None:
    study, needs = networks.study, attack.needs
    if networks.halves and shadow is None:
        return "random-halves needs at least two networks that are no complements: name more run.seeds."
    if "in-references" in needs and not networks.halves:
        return 'it needs networks trained on every record: set data.split = "random-halves".'
    if needs & _REFERENCES:
        found = networks.references(target)
        least = attack.fewest + 1  # a pair of complements has one of each kind; a third network gives some a second
        if len(found) < least:
            return f"it needs {least} reference networks, and there are {len(found)}: name more run.seeds."
        seeds = {job.seed for job in found}
        if networks.halves and not any(seed ^ 1 in seeds for seed in seeds):
            return "seeds 2j and 2j+1 train on complementary halves: name both of at least two such pairs in run.seeds."
    if "population" in needs and not study.data.population:
        return "it needs records that no network trains on: set data.population, e.g. to 0.1."
    if needs & {"dense", "levels"} and not networks.denser(target):
        return "it needs the dense network of the same seed: add a [[networks]] entry with method = 'dense'."
    if "checkpoints" in needs and not networks.checkpoints(target):
        return "it needs earlier states of the network's training: add a [[networks]] entry 'early-stopped' for it."
    for kind in ("dense", "mismatched", "imposed"):
        if f"{kind}-shadow" in needs and networks.other_shadow(kind, target) is None:
            return {
                "dense": "it needs a dense shadow: add a [[networks]] entry with method = 'dense'.",
                "mismatched": "it needs a second network of the method: add a level or a [[networks]] entry.",
                "imposed": "it needs a shadow under the target's mask, which only pruned networks have.",
            }[kind]
    return None
