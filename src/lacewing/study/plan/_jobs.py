"""The jobs of a study as plain data: networks, sequences of them, and attacks with the networks that they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lacewing.attacks import Attack
from lacewing.config import Model, Train
from lacewing.methods import Method, Step
from lacewing.results import Kind, Role, repeat

KEYS = 1  # in every job key; raised whenever an old job would mean something else


class World(NamedTuple):
    """Where the training records of a network of [property] come from: the share of the property, and which draw.

    ``poisoned``: an attacker has put records of his own among them.
    """

    share: float
    number: int
    poisoned: bool = False

    def __str__(self) -> str:
        return f"{self.share:g}-{self.number}" + "-poisoned" * self.poisoned


@dataclass(frozen=True, slots=True)
class NetworkJob:
    """Train one network and observe it."""

    key: str
    role: Role
    seed: int
    step: Step
    entry: str  # the name of the [[networks]] entry that it is of
    spec: Method
    train: Train
    model: Model
    # What the study's attacks ask it beyond plain outputs and sensitivity: a kind of question, the key of its answers.
    probes: tuple[tuple[str, str], ...] = ()
    # The network whose mask it is trained under, or its own mask is made from, if that is not its own sequence's.
    mask: NetworkJob | None = None
    origin: NetworkJob | None = None  # of a shadow under its target's mask: where its rewind point is from, a dense one
    stack: str | None = None  # names the networks that are trained together with it, see ``lacewing.training.stack``
    family: str = ""
    kind: Kind | None = None
    name: str = ""  # where it is not the step's: a shadow under an imposed mask
    init: int = 0  # which initialisation and order of training on the seed's split
    own: str = ""  # what its key is made from, but for stacks: no other network shares it
    world: World | None = None  # of [property]: its records are no split's; the attacker's own are shadows

    @property
    def network(self) -> str:
        """The network's name, the same for every role and seed."""
        return self.name or self.step.network

    @property
    def imposed(self) -> bool:
        """Whether it is a shadow that is trained under its target's mask, from its own rewind point."""
        return self.origin is not None

    @property
    def needs(self) -> tuple[NetworkJob, ...]:
        """Networks that are trained before it in other sequences."""
        return tuple(job for job in (self.mask, self.origin) if job is not None)

    @property
    def method(self) -> str:
        """The name of its method, as a study has it."""
        return self.spec.method

    @property
    def level(self) -> int:
        """0 but for those that a sequence's first network leads to."""
        return self.step.level

    @property
    def stop(self) -> int | None:
        """The epoch of its sequence's first training after which it is observed; None: it is trained itself."""
        return self.step.stop

    @property
    def id(self) -> str:
        """As in results: ``imp-03/target/0``, of a later initialisation ``imp-03/target/0.1``."""
        found = f"{self.network}/{self.role}/{self.repeat}"
        return found if self.world is None else f"{found}/{self.world}"

    @property
    def repeat(self) -> str:
        """See `lacewing.results.repeat`."""
        return repeat(self.seed, self.init)

    def stream(self, use: str) -> tuple[Any, ...]:
        """What names a random stream of the network: seed, role and use; and, from the second on, its initialisation.

        The records that it trains on follow from the seed alone, and from its world if it has one. Networks of one seed
        and role share streams, so that they differ by their recipes alone. The training of a network with a guarantee
        has a stream of its own, since guarantees compose only where noise and batches are independent.
        """
        more: list[Any] = [self.init] if self.init else []
        if self.world is not None:
            more += ["world", self.world.share, self.world.number, *(["poisoned"] * self.world.poisoned)]
        names = (self.seed, self.role, use, *more)
        return (*names, self.own) if use == "train" and self.spec.accounted else names

    @property
    def last_epoch(self) -> int:
        """The epoch after which the network is observed."""
        return self.train.epochs if self.stop is None else self.stop


@dataclass(frozen=True, slots=True)
class Side:
    """The networks that an attacker of ``network`` asks about its records."""

    network: NetworkJob
    references: tuple[NetworkJob, ...] = ()
    related: tuple[NetworkJob, ...] = ()  # denser versions of the network, the dense one first; or its checkpoints


@dataclass(frozen=True, slots=True)
class AttackJob:
    """Run one attack on a target network; learn and choose thresholds on the shadow's side."""

    key: str
    entry: Attack
    seed: int
    side: Side
    shadow: Side | None
    other_shadows: tuple[tuple[str, NetworkJob], ...] = ()  # "dense", "mismatched", "imposed"
    trained_queries: tuple[int, ...] | None = None  # of attacks with references: see `Evidence`

    @property
    def attack(self) -> str:
        """The attack's name in the study."""
        return self.entry.name

    @property
    def target(self) -> NetworkJob:
        """The attacked network."""
        return self.side.network

    @property
    def networks(self) -> tuple[NetworkJob, ...]:
        """Every network whose signals the attack reads."""
        sides = [side for side in (self.side, self.shadow) if side is not None]
        found = [job for side in sides for job in (side.network, *side.references, *side.related)]
        return (*found, *(job for _, job in self.other_shadows))

    @property
    def id(self) -> str:
        """As progress names it: ``discriminator on imp-03/target/0``."""
        return f"{self.attack} on {self.target.id}"


@dataclass(frozen=True, slots=True)
class PropertyJob:
    """Tell two worlds of a recipe and seed apart: by the attacker's own networks of both, for those that are attacked.

    Its networks have one recipe and one seed; ``pair`` holds the shares of the first and the second world.
    ``poison_label``: what the attacker labelled the records that he put into all their training sets; None: there are
    no such records.
    """

    key: str
    seed: int
    pair: tuple[float, ...]
    own_first: tuple[NetworkJob, ...]
    own_second: tuple[NetworkJob, ...]
    first: tuple[NetworkJob, ...]
    second: tuple[NetworkJob, ...]
    poison_label: int | None = None

    @property
    def networks(self) -> tuple[NetworkJob, ...]:
        """Every network whose answers it reads."""
        return (*self.own_first, *self.own_second, *self.first, *self.second)

    @property
    def network(self) -> str:
        """The name of the recipe's networks."""
        return self.first[0].network

    @property
    def id(self) -> str:
        """As progress names it: ``property 0.1/0.2 of imp-03, seed 0``."""
        poisoned = ", poisoned" * (self.poison_label is not None)
        return f"property {self.pair[0]:g}/{self.pair[1]:g} of {self.network}, seed {self.seed}{poisoned}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Sequences of networks (the levels of IMP behind the dense network, or a single network), and the attacks on them.

    ``refused``, by (network, attack): why a declared attack does not run on a network of the study.
    """

    sequences: tuple[tuple[NetworkJob, ...], ...]
    attacks: tuple[AttackJob, ...]
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)
    properties: tuple[PropertyJob, ...] = ()

    @property
    def networks(self) -> tuple[NetworkJob, ...]:
        """Every network once, in the order of the study."""
        return tuple(job for sequence in self.sequences for job in sequence)

    @property
    def audited(self) -> tuple[NetworkJob, ...]:
        """The networks that results.csv and the attacks are about: all but those of [property]."""
        return tuple(job for job in self.networks if job.world is None)

    @property
    def readers(self) -> tuple[AttackJob | PropertyJob, ...]:
        """The jobs that read what networks answered."""
        return (*self.attacks, *self.properties)

    @property
    def names(self) -> dict[str, str]:
        """What people call each job, by its key: networks, the questions to them, attacks."""
        found = {job.key: job.id for job in self.networks} | {job.key: job.id for job in self.readers}
        return found | {key: f"the probe ({kind}) of {job.id}" for job in self.networks for kind, key in job.probes}

    @property
    def epochs(self) -> dict[str, int]:
        """By network name: the epochs of training until it is there, see `in_all`."""
        total = self.in_all({job.network: job.train.epochs for job in self.networks})
        return {network: round(epochs) for network, epochs in total.items()}

    def in_all(self, trainings: Mapping[str, float]) -> dict[str, float]:
        """By network name: what it takes until it is there, with the networks that it starts from.

        Args:
            trainings: by network name, what its own training takes. Where two roles or seeds share a name they have one
                recipe, and so one number. A stop takes its share of the training that it is observed in.
        """
        own: dict[str, float] = {}
        needs: dict[str, set[str]] = {}
        for head, *rest in self.sequences:
            first = trainings[head.network]
            own.setdefault(head.network, first)
            before = dict.fromkeys((job.entry for job in rest), first)
            for job in rest:
                if job.stop is None:
                    before[job.entry] += trainings[job.network]
                    own.setdefault(job.network, before[job.entry])
                else:
                    own.setdefault(job.network, first * job.stop / head.train.epochs)
            for job in (head, *rest):
                needs.setdefault(job.network, set()).update(need.network for need in (*head.needs, *job.needs))

        def spent(network: str) -> float:
            return own[network] + sum(map(spent, needs[network]))

        return {network: spent(network) for network in own}

    @property
    def stacks(self) -> dict[str, tuple[tuple[NetworkJob, ...], ...]]:
        """The sequences that are trained together, by the name of their stack."""
        found: dict[str, tuple[tuple[NetworkJob, ...], ...]] = {}
        for sequence in self.sequences:
            if sequence[0].stack is not None:
                found[sequence[0].stack] = (*found.get(sequence[0].stack, ()), sequence)
        return found
