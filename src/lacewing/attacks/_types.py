"""What an attacker has seen, what an attack returns, and what the registry says about each attack.

Axes: N audited records, C classes, K reference networks, Q fixed queries of a record, S noise sizes, Z records of the
population, F numbers about a network's layers. Rows are in the same order in all arrays of one `Evidence`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from lacewing.errors import UsageError
from lacewing.metrics import Bools, Estimate, Floats
from lacewing.results import Trait as Trait

Need = Literal[
    "sensitivity",  # Observed.sensitivity_N
    "queries",  # Observed.phi_NQ (and References.phi_KNQ where references are needed too)
    "augmentation",  # Observed.right_NQ
    "noise",  # Observed.right_NS
    "boundary",  # Observed.boundary_N
    "gradients",  # Observed.gradient_N2
    "layers",  # Observed.layer_NF
    "first-layer",  # Observed.first_layer and Observed.inputs_ND
    "initialisation",  # FirstLayer.initial_HD
    "shadow",  # a network of the target's recipe whose members are known
    "references",  # networks that did NOT train on a record, for every record
    "in-references",  # and networks that did, for every record
    "population",  # records that no network trained on and that are not audited
    "dense",  # Evidence.related[0] is the dense version of the attacked network
    "levels",  # Evidence.related are all denser versions of the attacked network, the dense one first
    "checkpoints",  # Evidence.related are earlier states of the attacked network's training, the earliest first
    "dense-shadow",  # Evidence.other_shadows["dense"]
    "mismatched-shadow",  # Evidence.other_shadows["mismatched"]
    "imposed-shadow",  # Evidence.other_shadows["imposed"]
]


Task = Literal["classification", "binary", "multi-label", "regression"]
CLASSES: frozenset[Task] = frozenset({"classification", "binary"})  # tasks whose outputs are class probabilities
EVERY_TASK: frozenset[Task] = CLASSES | {"multi-label", "regression"}


@dataclass(frozen=True)
class FirstLayer:
    """The weights of a fully connected first layer: H units, D inputs, fewer training records than inputs.

    Raises `UsageError` where shapes differ, weights are not finite, or there are as many records as inputs.
    """

    weights_HD: npt.NDArray[np.floating]  # after training; zero where they were pruned
    kept_HD: npt.NDArray[np.bool_]  # True: not pruned
    records: int  # that the network was trained on
    initial_HD: npt.NDArray[np.floating] | None = None  # before training; None: the attacker does not know it

    def __post_init__(self) -> None:
        if self.weights_HD.ndim != 2 or self.kept_HD.shape != self.weights_HD.shape:
            raise UsageError(
                f"first-layer weights have shape {self.weights_HD.shape} and their mask {self.kept_HD.shape}: give a "
                "row a unit, a column an input."
            )
        if self.initial_HD is not None and self.initial_HD.shape != self.weights_HD.shape:
            raise UsageError(
                f"first-layer weights have shape {self.weights_HD.shape} and at initialisation {self.initial_HD.shape}."
            )
        if why := spans_everything(self.records, self.weights_HD.shape[1]):
            raise UsageError(f"first layer: {why}.")
        for weights in (self.weights_HD, self.initial_HD):
            if weights is not None and not np.isfinite(weights).all():
                raise UsageError("first-layer weights hold NaN or infinite values: measure the network again.")


def spans_everything(records: int, inputs: int) -> str | None:
    """Why so many training records leave no trace in the span of a first layer of so many inputs; None: they do.

    The end of a sentence.
    """
    if records < inputs:
        return None
    return (
        f"{records:,} training records span all {inputs:,} inputs, so that every record lies in their span; the span "
        "attacks need fewer training records than inputs"
    )


@dataclass(frozen=True)
class Observed:
    """What an attacker saw of one network: N queried records, C classes, rows in the same order everywhere.

    Of multi-label and regression networks each record has one number, higher for members, in two columns (0, number)
    beside the label 1, so that the log-odds of the label are that number.

    Raises `UsageError` where lengths differ, values are not finite, a label is out of range, only members or only
    non-members are present, or a group holds both.
    """

    logits_NC: npt.NDArray[np.floating]  # up to a constant for each row
    label_N: npt.NDArray[np.integer]  # the given (not the predicted) class, 0..C-1
    member_N: npt.NDArray[np.bool_]  # True: the network trained on the record
    sensitivity_N: npt.NDArray[np.floating] | None  # None: not measured
    record_N: npt.NDArray[np.integer]  # the record's index in the data set
    phi_NQ: npt.NDArray[np.floating] | None = None  # log-odds under Q fixed queries; column 0: the record as it is
    right_NQ: npt.NDArray[np.bool_] | None = None  # whether the given label was answered, under the same queries
    right_NS: npt.NDArray[np.floating] | None = None  # share of noisy copies so answered, at S growing noise sizes
    gradient_N2: npt.NDArray[np.floating] | None = None  # L2 norm of the loss gradient: kept weights, pruned weights
    task: Task = "classification"
    group_N: npt.NDArray[np.integer] | None = None  # records of one group count as one; None: each is a group
    # Regression: how much better the answer is than the best constant one. Multi-label: values whose mean over a side
    # is the mean AUC of its labels less 1/2, with its spread. None: argmax says whether an answer is right.
    benefit_N: npt.NDArray[np.floating] | None = None
    boundary_N: npt.NDArray[np.floating] | None = None  # L2 distance to the decision boundary; 0: answered wrong
    asked_N: npt.NDArray[np.integer] | None = None  # queries that the distance took
    layer_NF: npt.NDArray[np.floating] | None = None  # what the loss gradient does in each layer
    inputs_ND: npt.NDArray[np.floating] | None = None  # the records as the network sees them, flattened
    first_layer: FirstLayer | None = None

    def __post_init__(self) -> None:
        if self.logits_NC.ndim != 2 or self.logits_NC.shape[1] < 2:
            raise UsageError(f"logits have shape {self.logits_NC.shape}: give one row a record, one column a class.")
        n, classes = self.logits_NC.shape
        columns: dict[str, npt.NDArray[Any]] = {"label": self.label_N, "member": self.member_N, "record": self.record_N}
        optional = {"sensitivity": self.sensitivity_N, "group": self.group_N, "benefit": self.benefit_N}
        optional |= {"boundary": self.boundary_N, "asked": self.asked_N}
        columns |= {name: values for name, values in optional.items() if values is not None}
        for name, values in columns.items():
            if values.shape != (n,):
                raise UsageError(f"{name} has shape {values.shape} beside {n} rows of logits: give one value a record.")
        tables = {"phi": self.phi_NQ, "right": self.right_NQ, "right_NS": self.right_NS, "gradient": self.gradient_N2}
        tables["layer"] = self.layer_NF
        tables["inputs"] = self.inputs_ND
        for name, table in tables.items():
            if table is not None and (table.ndim != 2 or len(table) != n):
                raise UsageError(f"{name} has shape {table.shape} beside {n} rows of logits: give one row a record.")
        each = {"logits": self.logits_NC, "sensitivity": self.sensitivity_N, "boundary": self.boundary_N}
        for name, numbers in {**each, **tables}.items():
            if numbers is not None and not np.isfinite(numbers).all():
                raise UsageError(f"{name} hold NaN or infinite values: measure the network again in fp32.")
        if self.member_N.dtype != np.bool_ or self.member_N.all() or not self.member_N.any():
            raise UsageError("member must be True for the records trained on, False for others, and hold both kinds.")
        if not np.issubdtype(self.label_N.dtype, np.integer) or self.label_N.min() < 0 or self.label_N.max() >= classes:
            raise UsageError(f"label holds values that are no class: give whole numbers from 0 to {classes - 1}.")
        if (np.diff(np.sort(self.record_N)) == 0).any():
            raise UsageError("record holds an index twice: query each record once.")
        if self.first_layer is not None:
            inputs = self.first_layer.weights_HD.shape[1]
            if self.inputs_ND is None or self.inputs_ND.shape[1] != inputs:
                shape = None if self.inputs_ND is None else self.inputs_ND.shape
                raise UsageError(f"inputs have shape {shape} beside a first layer of {inputs:,}: give one each.")
        if self.group_N is not None:
            both = np.intersect1d(self.group_N[self.member_N], self.group_N[~self.member_N]).size
            if both:
                raise UsageError(f"group: {both} groups hold members and non-members: keep each group on one side.")

    @property
    def classes(self) -> int:
        """The number of classes C."""
        return int(self.logits_NC.shape[1])


@dataclass(frozen=True)
class References:
    """K networks of known membership, asked about the same N records in the same order.

    Raises `UsageError` where shapes disagree.
    """

    logits_KNC: npt.NDArray[np.floating]
    in_KN: npt.NDArray[np.bool_]  # True: network k trained on record n
    name_K: tuple[str, ...]
    phi_KNQ: npt.NDArray[np.floating] | None = None  # the same fixed queries as Observed.phi_NQ
    benefit_KN: npt.NDArray[np.floating] | None = None  # as Observed.benefit_N, each beside its own members
    of_phi: bool = False  # logits were made of phi: right for the given class alone

    def __post_init__(self) -> None:
        if self.logits_KNC.ndim != 3 or self.in_KN.shape != self.logits_KNC.shape[:2]:
            raise UsageError(
                f"reference logits have shape {self.logits_KNC.shape} and reference membership {self.in_KN.shape}: "
                "give (K, N, C) and (K, N)."
            )
        if self.phi_KNQ is not None and self.phi_KNQ.shape[:2] != self.in_KN.shape:
            raise UsageError(f"reference phi has shape {self.phi_KNQ.shape}: give (K, N, Q) = {self.in_KN.shape} + Q.")

    def __len__(self) -> int:
        return len(self.in_KN)


@dataclass(frozen=True)
class Population:
    """Z records of the same source that no network trained on and that are not audited."""

    logits_ZC: npt.NDArray[np.floating]  # of the attacked network
    label_Z: npt.NDArray[np.integer]
    reference_logits_KZC: npt.NDArray[np.floating] | None = None  # of the reference networks, in their order

    def __len__(self) -> int:
        return len(self.label_Z)


@dataclass(frozen=True)
class Evidence:
    """Everything that an attacker of one network holds. ``observed.member_N`` is for scoring the attack alone.

    ``shadow`` is the same evidence about a network of the same recipe whose members the attacker knows: what learns or
    chooses a threshold does it there, on ``shadow.observed`` and its references.
    """

    observed: Observed
    references: References | None = None
    population: Population | None = None
    # Other versions of the attacked network, same records: denser ones, the dense one first, or its checkpoints.
    related: tuple[Observed, ...] = ()
    shadow: Evidence | None = None
    other_shadows: Mapping[str, Evidence] = field(default_factory=dict)  # "dense", "mismatched", "imposed"
    # Columns of phi whose variant of a record the training showed too; None: all. Others dilute what LiRA averages.
    trained_queries: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Scored:
    """What an attack says of the N audited records."""

    scores_N: Floats  # higher for members
    decision_N: Bools | None  # "member"; from a threshold of shadow or references alone. None: there was nothing for it
    variant: str  # whose variant, e.g. "offline, one-sided, pooled, median, K = 14"
    notes: Mapping[str, Any] = field(default_factory=dict)
    oracle: Estimate | None = None  # balanced accuracy of a choice made on the target; None: the best threshold's


class AttackFunction(Protocol):
    """Score the audited records of ``evidence``; ``seed`` is for attacks that learn. Never reads target membership."""

    def __call__(self, evidence: Evidence, *, seed: int) -> Scored: ...


@dataclass(frozen=True)
class Attack:
    """One entry of the registry: what the attacker must know, and the function that attacks."""

    name: str
    family: str  # the documentation page: "discriminator", "lira", "rmia", "threshold", ...
    threat_model: str  # one sentence
    function: AttackFunction
    needs: frozenset[Need]
    about: frozenset[Trait] = frozenset()  # what a network must be for the attack to have a meaning; none: any network
    tasks: frozenset[Task] = CLASSES  # of the networks that it has a meaning for
    fewest: int = 1  # references of a kind that at least some records must have: 2 where a spread is taken
    adaptive: str | None = None  # what it knows of the sparsity, in a few words; None: not an adaptive attack
    alone: str = ""  # the threat model where there is no shadow network to take a threshold from; empty: the same
    in_all: bool = True  # whether "all" stands for it too; else it runs where it is named alone
    source: str | None = None  # of a user's attack: SHA-256 of its module's source, part of the keys of its results
