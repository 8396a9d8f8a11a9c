"""Every choice that the paper leaves open: what this study does, and whose choice that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lacewing.methods import SHARED
from lacewing.models import READ_TOKENS
from lacewing.reporting._data import PAPER_ATTACK, ReportData, percent, random_halves
from lacewing.reporting._settings import entry_name, text_of
from lacewing.results import STOPPED
from lacewing.tradeoff import BUTTERFLY, IMP, ordered


class Declared(NamedTuple):
    """A choice, what this study does, and whose it is: "paper", "derived" from its numbers, or "ours"."""

    choice: str
    here: str
    whose: str


_MEASURES = (
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
        "mean relative gain over mean relative loss of the networks in the paper's band, with Fieller's set over seeds",
        "ours; the paper may have used least squares through the origin, which the tables show as well",
    ),
    Declared(
        "Verdicts",
        "only for questions declared before the study ran, families fitted at equal test accuracy, and from three "
        "seeds on",
        "ours",
    ),
)


def choices(data: ReportData) -> list[Declared]:
    """Everything that somebody who repeats the study has to copy, and which of it the paper says."""
    study = data.study
    part, train, signals = study.get("data", {}), study.get("train", {}), study.get("signals", {})
    found = [_split(data)]
    if part.get("label_noise"):
        share = percent(float(part["label_noise"]))
        text = f"{share} of the labels redrawn once, before the split; attacks and accuracy use them"
        found.append(Declared("Label noise", text, "ours"))
    recipe = f"{text_of(train.get('epochs', '?'))} epochs, batch {text_of(train.get('batch_size', '?'))}"
    recipe += f", lr {text_of(train.get('lr', '?'))} ({train.get('schedule', 'schedule not recorded')})"
    if train.get("warmup"):
        recipe += f", warm-up {percent(float(train['warmup']))} of the steps"
    recipe += f", weight decay {text_of(train.get('weight_decay', '?'))}"
    recipe += f", augmentation {text_of(train.get('augment', []))}, {train.get('precision', 'precision not recorded')}"
    recipe += "".join(
        f", {name.replace('_', ' ')} {text_of(train[name])}"
        for name in ("label_smoothing", "mixup", "dropout")
        if train.get(name)
    )
    if train.get("optimizer", "sgd") != "sgd" or train.get("optimizer_options"):
        options = text_of(train.get("optimizer_options") or {})
        recipe = f"{train.get('optimizer')}{f' ({options})' * bool(options)}, {recipe}"
    if train.get("fit"):
        recipe += f", by the user's own loop {train['fit']}"
    if train.get("clip_norm"):
        recipe += f", gradients clipped at norm {text_of(train['clip_norm'])}"
    found.append(Declared("Training", recipe, "ours"))
    found += _networks(data)
    if any(a.attack == PAPER_ATTACK for a in data.attacks) or PAPER_ATTACK in study.get("attacks", {}).get("names", ()):
        found += _discriminator(signals, of_tokens(study))
    return [*found, *_MEASURES]


def _networks(data: ReportData) -> list[Declared]:
    """The choices behind the networks: in detail those of the paper's two methods, of all others their settings."""
    entries = data.study.get("networks", ())
    found = []
    for method in ordered(str(entry.get("method")) for entry in entries):
        of_method = [entry for entry in entries if entry.get("method") == method]
        if method in _OF_PAPER:
            found += _OF_PAPER[method](of_method)
        elif method not in ("dense", STOPPED):
            text = "; ".join(dict.fromkeys(_own_settings(data, entry) for entry in of_method))
            found.append(Declared(f"{data.look(method).label}: settings", text, "ours"))
    if stops := sorted({len(n.curve) for n in data.networks if n.stopped}):
        text = f"the dense network itself, observed after epochs {', '.join(map(str, stops))} of its training"
        found.append(Declared("Control: dense, stopped early", text, "ours"))
    for part, what in (("train", "Training"), ("model", "Model")):
        own = (f"{entry_name(data, entry)}: {text_of(entry[part])}" for entry in entries if entry.get(part))
        if text := "; ".join(dict.fromkeys(own)):
            found.append(Declared(f"{what} that differs by network", text, "ours"))
    return found


def _own_settings(data: ReportData, entry: Mapping[str, Any]) -> str:
    own = {k: v for k, v in entry.items() if k != "method" and k not in SHARED}
    return f"{entry_name(data, entry)}: {text_of(own) or 'none'}"


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
    chains = []
    if any(n.get("density") is None for n in networks):
        chains.append(
            Declared(
                "Butterfly: chain",
                "the cheapest with full support, monotone inner sizes and blocks of at least 2; ties go to the "
                "lexicographically greatest list of factors",
                "ours; reproduces the paper's densities",
            )
        )
    if any(n.get("density") is not None for n in networks):
        chains.append(
            Declared(
                "Butterfly: chains of a density",
                "about the same density in every layer but the last one, depthwise convolutions, embeddings and what "
                "the entry ignores; of each layer the densest chain with full support and blocks of at least 2 that "
                "fits",
                "ours",
            )
        )
    return [
        *chains,
        Declared("Butterfly: column order", f"{columns} (C, kh, kw unless kernel-first)", "ours"),
        Declared(
            "Butterfly: initialisation",
            "entries of variance 1/c per factor and one fixed gain 1/√3 on the product, as PyTorch's dense variance",
            "ours",
        ),
        Declared("Butterfly: weight decay", "on the factors, not on their product", "ours"),
    ]


_OF_PAPER: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], list[Declared]]] = {IMP: _imp, BUTTERFLY: _butterfly}


def of_tokens(study: Mapping[str, Any]) -> bool:
    """Whether the records of a study are token ids, as `Study.of_tokens` says."""
    names = {part.get("name") for part in (study["model"], *(n.get("model", {}) for n in study["networks"]))}
    return bool(study["data"].get("tokens")) or not names.isdisjoint(READ_TOKENS)


def _discriminator(signals: Mapping[str, Any], tokens: bool) -> list[Declared]:
    noise, draws = text_of(signals.get("noise", 1e-3)), text_of(signals.get("draws", 5))
    sensitivity = f"L2 norm on the softmax, e = {noise} in normalised inputs, mean of {draws} Gaussian draws"
    return [
        Declared(
            "Attack: class given to the attacker", "one-hot of the given label, not of the predicted class", "ours"
        ),
        Declared("Attack: outputs", "softmax probabilities, not logits", "ours"),
        Declared(
            "Attack: local sensitivity",
            "0 for every record: token ids have no noisy copies" if tokens else sensitivity,
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
            "best on a held-out part of the shadow's queries; the best on the target is shown as “Oracle A”",
            "ours",
        ),
    ]
