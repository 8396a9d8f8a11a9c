"""What was run: the study's settings, and every choice that the paper does not make but we must."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lacewing.reporting._data import PAPER_ATTACK, ReportData, leading_attack, percent, random_halves
from lacewing.results import STOPPED

TRUST = (
    "Every file that these numbers are made from had the SHA-256 that was recorded when it was written. That finds "
    "damage and partial alteration. It does not find a run folder that was rewritten as a whole: results that somebody "
    "sends you are worth what you trust the sender."
)


class Setting(NamedTuple):
    """A setting of the study and its value, as a person reads it."""

    name: str
    value: str


class Declared(NamedTuple):
    """A choice, what this study does, and whose it is: "paper", "derived" from its numbers, or "ours"."""

    choice: str
    here: str
    whose: str


def settings(data: ReportData) -> list[tuple[str, list[Setting]]]:
    """The resolved study by part, with n of each set and the data's digest."""
    study = data.study
    groups = []
    for part, title in (("data", "Data"), ("model", "Model"), ("train", "Training"), ("signals", "Signals")):
        if study.get(part):
            groups.append((title, list(_flat(study[part]))))
    if groups and groups[0][0] == "Data":
        groups[0][1].extend(_sizes(data))
    networks = [Setting(_network_name(n), _network_text(n)) for n in study.get("networks", ())]
    if networks:
        groups.append(("Networks", networks))
    groups.append(("Attacks and repeats", [*_flat(study.get("attacks", {})), *_flat(study.get("run", {}))]))
    return groups


def _flat(part: Mapping[str, Any]) -> Iterator[Setting]:
    for key, value in part.items():
        yield Setting("attacks" if key == "names" else key.replace("_", " "), _text(value))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{k.replace('_', ' ')} {_text(v)}" for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _sizes(data: ReportData) -> list[Setting]:
    if not data.attacks:
        return [Setting("digest (SHA-256)", data.data_digest)]
    members, others = {a.n_members for a in data.attacks}, {a.n_nonmembers for a in data.attacks}

    def span(counts: set[int]) -> str:
        return "–".join(f"{n:,}" for n in sorted({min(counts), max(counts)}))

    return [
        Setting("members" if random_halves(data) else "target-train (members)", f"n = {span(members)}"),
        Setting("non-members" if random_halves(data) else "target-test (non-members)", f"n = {span(others)}"),
        Setting("digest (SHA-256)", data.data_digest),
    ]


def _network_name(network: Mapping[str, Any]) -> str:
    return str(network.get("name") or network.get("method", "network"))


def _network_text(network: Mapping[str, Any]) -> str:
    rest = {k: v for k, v in network.items() if k not in ("method", "name") and v not in ({}, None)}
    if network.get("method") == STOPPED and not network.get("epochs") and not network.get("shares"):
        rest["epochs"] = "about twenty, evenly spaced on a log scale"
    return _text(rest) or "as above"


def threat_models(data: ReportData) -> list[str]:
    """What the leading attack's attacker is assumed to know and to be able to do; the table of attacks has the rest."""
    lead = leading_attack(data)
    return list(dict.fromkeys(f"{a.attack}: {a.threat_model}" for a in data.attacks if a.attack == lead))


def choices(data: ReportData) -> list[Declared]:
    """Everything that a second laboratory would have to copy, with what the paper says set apart from our defaults."""
    study = data.study
    part, train, signals = study.get("data", {}), study.get("train", {}), study.get("signals", {})
    found = [_split(data)]
    if part.get("label_noise"):
        share = percent(float(part["label_noise"]))
        text = f"{share} of the labels redrawn once, before the split; attacks and accuracy use them"
        found.append(Declared("Label noise", text, "ours"))
    recipe = f"{_text(train.get('epochs', '?'))} epochs, batch {_text(train.get('batch_size', '?'))}"
    recipe += f", lr {_text(train.get('lr', '?'))} ({train.get('schedule', 'schedule not recorded')})"
    recipe += f", weight decay {_text(train.get('weight_decay', '?'))}"
    recipe += f", augmentation {_text(train.get('augment', []))}, {train.get('precision', 'precision not recorded')}"
    found.append(Declared("Training", recipe, "ours"))
    methods = [n.get("method") for n in study.get("networks", ())]
    if "imp" in methods:
        found += _imp([n for n in study["networks"] if n.get("method") == "imp"])
    if "butterfly" in methods:
        found += _butterfly([n for n in study["networks"] if n.get("method") == "butterfly"])
    if stops := sorted({len(n.curve) for n in data.networks if n.method == STOPPED}):
        text = f"the dense network itself, observed after epochs {', '.join(map(str, stops))} of its training"
        found.append(Declared("Control: dense, stopped early", text, "ours"))
    if any(a.attack == PAPER_ATTACK for a in data.attacks) or PAPER_ATTACK in study.get("attacks", {}).get("names", ()):
        found += _discriminator(signals)
    found += [
        Declared(
            "Attack accuracy A",
            "balanced accuracy on the target; defence D = 2 (1 − A), advantage 2A\u00a0−\u00a01",
            "ours",
        ),
        Declared(
            "Intervals",
            "95\u202f%: exact (Clopper-Pearson) for accuracies; for A those of its two rates, joined (MOVER); for a "
            "TPR at an FPR one that lets the threshold move; DeLong for AUC",
            "ours",
        ),
        Declared(
            "Slope",
            "mean relative gain over mean relative loss of the networks in the paper's band, with Fieller's set over "
            "seeds",
            "ours; the paper may have used least squares through the origin, which stands beside",
        ),
        Declared(
            "Verdicts",
            "only for questions declared before the study ran, families fitted at equal test accuracy, and from three "
            "seeds on",
            "ours",
        ),
    ]
    return found


def _split(data: ReportData) -> Declared:
    if random_halves(data):
        share = percent(float(data.study["data"].get("population", 0.0)), 0)
        text = (
            f"random-halves: {share} of the records kept as population, each network trained on its own random half of "
            "the rest, the other half its non-members; the other networks are its references"
        )
        return Declared("Split", text, "ours")
    split = str(data.study.get("data", {}).get("split", "four-way"))
    return Declared("Split", f"{split}, drawn anew for each seed", "paper: four equal sets")


def _imp(networks: Sequence[Mapping[str, Any]]) -> list[Declared]:
    fractions = ", ".join(dict.fromkeys(percent(float(n.get("fraction", 0.2)), 0) for n in networks))
    derived = all(abs(float(n.get("fraction", 0.2)) - 0.2) < 1e-9 for n in networks)
    rewind = ", ".join(dict.fromkeys(str(n.get("rewind", "epoch 1")) for n in networks))
    return [
        Declared(
            "IMP: share pruned per level",
            f"{fractions} of the remaining weights",
            "derived: 20\u202f%" if derived else "ours (the paper's densities imply 20\u202f%)",
        ),
        Declared(
            "IMP: scope",
            "global magnitude over convolution and linear weights; batch norm and biases are never pruned",
            "ours",
        ),
        Declared("IMP: rewinding", f"to {rewind}, then the whole schedule again with a fresh optimiser", "ours"),
    ]


def _butterfly(networks: Sequence[Mapping[str, Any]]) -> list[Declared]:
    columns = ", ".join(dict.fromkeys(str(n.get("columns", "channel-first")) for n in networks))
    return [
        Declared(
            "Butterfly: chain",
            "the cheapest with full support, monotone inner sizes and blocks of at least 2; ties go to the "
            "lexicographically greatest list of factors",
            "ours; reproduces the paper's densities",
        ),
        Declared("Butterfly: column order", f"{columns} (C, kh, kw unless kernel-first)", "ours"),
        Declared(
            "Butterfly: initialisation",
            "entries of variance 1/c per factor and one fixed gain 1/√3 on the product, as PyTorch's dense variance",
            "ours",
        ),
        Declared("Butterfly: weight decay", "on the factors, not on their product", "ours"),
    ]


def _discriminator(signals: Mapping[str, Any]) -> list[Declared]:
    noise, draws = _text(signals.get("noise", 1e-3)), _text(signals.get("draws", 5))
    return [
        Declared(
            "Attack: class given to the attacker", "one-hot of the given label, not of the predicted class", "ours"
        ),
        Declared("Attack: outputs", "softmax probabilities, not logits", "ours"),
        Declared(
            "Attack: local sensitivity",
            f"L2 norm on the softmax, e = {noise} in normalised inputs, mean of {draws} Gaussian draws",
            "ours",
        ),
        Declared("Attack: precision of signals", "fp32, without autocast and TF32, in evaluation mode", "ours"),
        Declared(
            "Attack: discriminators",
            "three perceptrons, hidden layers (30), (30, 30), (100, 100, 100); features standardised on the shadow; "
            "Adam at 0.01, 0.001, 0.0001 for 80 epochs",
            "ours",
        ),
        Declared(
            "Attack: choice among them",
            "best on a held-out part of the shadow's queries; the best on the target stands beside as “Oracle A”",
            "ours",
        ),
    ]


GLOSSARY = (
    ("Member, non-member", "a record the network was trained on; a record from the same source it was not trained on."),
    (
        "Attack accuracy A",
        "how often an attacker tells members from non-members rightly, both weighing the same; 50\u202f% is guessing.",
    ),
    ("Defence D", "2 (1 − A): 100\u202f% where the attack guesses, 0 where it is always right."),
    ("Advantage", "2A − 1, the true-positive minus the false-positive rate: 0 where the attack guesses."),
    (
        "Density",
        "non-zero parameters over all parameters of the dense network; prunable density counts only weights "
        "that the method may set to zero.",
    ),
    (
        "IMP",
        "iterative magnitude pruning: train, set the smallest weights to zero, rewind the rest, train again; repeat.",
    ),
    ("Butterfly", "convolutions replaced by products of a few sparse factors of fixed structure."),
    (
        "Relative loss, relative gain",
        "change against the dense network of the same seed, as a share of the dense network's accuracy or defence.",
    ),
    (
        "Slope",
        "mean relative gain in defence over mean relative loss in accuracy; 3.6 says 3.6\u202f% gained for each per "
        "cent lost.",
    ),
    (
        "Fieller's set",
        "all slopes that the seeds do not rule out; without an upper end where the mean loss may be 0.",
    ),
    ("Seed, cut", "one repetition with its own records and start; a cut is two seeds on complementary halves."),
    (
        "Family, recipe",
        "networks that differ in one thing, such as the density; a recipe is one of them over its seeds.",
    ),
    (
        "Declared, exploratory",
        "a declared question was named in the study file before the study ran; every other number is exploratory.",
    ),
    (
        "Smallest detectable difference",
        "the true difference that four of five such studies would find at 5\u202f%.",
    ),
    ("Target, shadow", "the attacked network; a network trained alike on other records, on which the attacker learns."),
    ("Pareto front", "the networks that no other one beats in both accuracy and defence."),
    (
        "ROC, TPR at FPR",
        "the share of members found (true-positive rate) for each share of non-members wrongly accused "
        "(false-positive rate).",
    ),
    (
        "Oracle A",
        "the best of all attack variants, chosen on the target itself: an upper bound, as no attacker can choose so.",
    ),
    (
        "AUC",
        "the area under the ROC: how often a member's score is above a non-member's; 0.5 is guessing, 1 is always.",
    ),
    (
        "Reference",
        "a network of known membership that was asked about the same records; a shadow is one on which thresholds are "
        "chosen.",
    ),
    ("Adaptive attacker", "one who knows how the network was made sparse, and uses it."),
    ("Canary", "a record mislabelled on purpose before training, to see whether it can be found."),
    (
        "95\u202f% interval",
        "the range of values that these seeds do not rule out; where it is said to be over records, that these records "
        "do not.",
    ),
)
