"""Every attack on every network, as numbers: the matrix, the sentences above it, and what adaptive attackers gain."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from lacewing.reporting._data import (
    PAPER_ATTACK,
    SEEDS_LISTED,
    ReportData,
    Series,
    attack_names,
    density_text,
    estimates,
    number,
    percent,
    percent_range,
    results_of,
    seeds_text,
    series,
    signed,
)
from lacewing.reporting._looks import Key
from lacewing.results import AttackResult, Estimate

UNAWARE = "discriminator-unaware"  # fitted on a dense shadow: the attacker who does not know of the sparsity
MATRIX_METRICS = {
    "auc": "AUC",
    "tpr_at_fpr_0.01": "TPR at 1\u202f% FPR",
    "tpr_at_fpr_0.001": "TPR at 0.1\u202f% FPR",
    "balanced_accuracy": "Balanced accuracy",
}
_RATES = {"tpr_at_fpr_0.01": 0.01, "tpr_at_fpr_0.001": 0.001}

Found = Mapping[tuple[str, str], Mapping[int, AttackResult]]


class MatrixCell(NamedTuple):
    """One attack on one network: the mean, its spread, the values behind both, the shade (0 to 1, "" for none)."""

    text: str
    small: str
    title: str
    shade: str
    strongest: bool


class MatrixRow(NamedTuple):
    """A network."""

    label: str
    key: Key
    density: str
    cells: list[MatrixCell]


class Matrix(NamedTuple):
    """Networks x attacks in one metric."""

    metric: str
    title: str
    families: list[tuple[str, int]]
    columns: list[tuple[str, str]]  # name, threat model
    rows: list[MatrixRow]


class AttackRow(NamedTuple):
    """An attack as the table of attacks names it."""

    name: str
    family: str
    variants: str
    adaptive: str
    threat_model: str
    n: str


def matrices(data: ReportData) -> list[Matrix]:
    """The matrix in each metric of `MATRIX_METRICS`; empty where fewer than two attacks are to be compared."""
    names = attack_names(data)
    if len(names) < 2 or not data.attacks:
        return []
    found, shown = results_of(data), series(data)
    families: list[tuple[str, int]] = []
    for name in names:
        family = _family(data, name)
        same = bool(families) and families[-1][0] == family
        families[-1:] = [(family, families[-1][1] + 1)] if same else [*families[-1:], (family, 1)]
    columns = [(name, _threat_model(data, name)) for name in names]
    return [
        Matrix(metric, title, families, columns, [_row(data, found, entry, names, metric) for entry in shown])
        for metric, title in MATRIX_METRICS.items()
    ]


def _row(data: ReportData, found: Found, entry: Series, names: Sequence[str], metric: str) -> MatrixRow:
    values = {name: estimates(found.get((entry.network, name), {}), metric) for name in names}
    means = {name: fmean(e.value for e in of_seed.values()) for name, of_seed in values.items() if of_seed}
    top = max(means, key=means.__getitem__) if len(means) > 1 else None
    cells = []
    for name in names:
        if name not in means:
            why = _why_not(data, found.get((entry.network, name), {}), entry, name, metric)
            cells.append(MatrixCell("–", "", f"{name}: {why}", "", False))
            continue
        shade = f"{_shade(means[name], metric):.3f}"
        missing = len(entry.accuracy) - len(values[name])
        part = f"; {missing} of {len(entry.accuracy)} seeds lack" if missing else ""
        title = f"{name}: {_behind(values[name], metric)}{part}"
        cells.append(MatrixCell(_show(means[name], metric), _spread(values[name], metric), title, shade, name == top))
    return _network_row(data, entry, cells)


def _network_row(data: ReportData, entry: Series, cells: list[MatrixCell]) -> MatrixRow:
    label = data.label(entry.network, entry.method)
    return MatrixRow(label, data.key(entry.method, entry.kind), density_text(entry.density), cells)


def _why_not(data: ReportData, results: Mapping[int, AttackResult], entry: Series, name: str, metric: str) -> str:
    """Why a cell is empty."""
    if results:
        if metric == "balanced_accuracy":
            return "it makes no decisions, as there was nothing to choose a threshold on"
        n = max(result.n_nonmembers for result in results.values())
        need = math.ceil(1 / _RATES.get(metric, 1.0) - 1e-9)
        return f"n too small, {need:,} non-members are needed and {n:,} were audited"
    if (reason := data.refused.get((entry.network, name))) is not None:
        return reason
    return "not run on this network"


def _shade(value: float, metric: str) -> float:
    """0 for guessing, 1 for a perfect attack; rates on a log scale, since 2 % at 0.1 % FPR is already much."""
    if metric in _RATES:
        rate = _RATES[metric]
        return min(max(math.log(max(value, rate) / rate) / math.log(1 / rate), 0.0), 1.0)
    return min(max(2 * value - 1, 0.0), 1.0)


def _show(value: float, metric: str) -> str:
    return number(value) if metric == "auc" else percent(value).replace("\u202f%", "")


def _spread(of_seed: Mapping[int, Estimate], metric: str) -> str:
    """The range over seeds; for a single seed the 95 % interval over records."""
    values = [e.value for e in of_seed.values()]
    only = next(iter(of_seed.values()))
    low, high = (min(values), max(values)) if len(values) > 1 else (only.low, only.high)
    return f"{_show(low, metric)}–{_show(high, metric)}"


def _behind(of_seed: Mapping[int, Estimate], metric: str) -> str:
    """Each seed with its 95 % interval, or the number of many seeds and the width of their intervals."""
    if len(of_seed) > SEEDS_LISTED:
        widest = max(e.high - e.low for e in of_seed.values())
        return f"mean of {len(of_seed)} seeds; their single 95\u202f% intervals are up to {_show(widest, metric)} wide"
    return "; ".join(
        f"seed {seed} {_show(e.value, metric)} [{_show(e.low, metric)}, {_show(e.high, metric)}]"
        for seed, e in of_seed.items()
    )


def sentences(data: ReportData) -> list[str]:
    """Which attack finds most, and by how much against the paper's discriminator."""
    found, shown = results_of(data), series(data)
    names = attack_names(data)
    best: dict[str, str] = {}
    leaks = False
    for entry in shown:
        means = {}
        for name in names:
            of_seed = estimates(found.get((entry.network, name), {}), "auc")
            if of_seed:
                means[name] = fmean(e.value for e in of_seed.values())
                leaks = leaks or any(e.low > 0.5 for e in of_seed.values())
        if len(means) > 1:
            best[entry.network] = max(means, key=means.__getitem__)
    if not best:
        return []
    if not leaks:
        return ["No attack's AUC lies above 0.5 beyond its 95\u202f% interval on any network."]
    (most, times), *_ = Counter(best.values()).most_common()
    return [_most_sentence(data, found, shown, most, times, len(best)), *_low_fpr_sentence(found, shown, names)]


def _most_sentence(
    data: ReportData, found: Found, shown: Sequence[Series], most: str, times: int, compared: int
) -> str:
    text = f"“{most}” finds most: it has the highest AUC on {times} of {compared} network{'s' * (compared > 1)}"
    if most == PAPER_ATTACK:
        return text + ", and it is the paper's own attack."
    if not any(name == PAPER_ATTACK for _, name in found):
        return text + ". The paper's discriminator was not run, so there is nothing to compare it with."
    gaps = [fmean(gap.values()) for entry in shown if (gap := _paired(found, entry.network, most, PAPER_ATTACK))]
    if not gaps:
        return text + ". The paper's discriminator ran on none of its networks."
    text += f". Beside the paper's discriminator its AUC differs by {signed(fmean(gaps))}"
    if len(gaps) == 1:
        return text + " on the one network that both attacked."
    ends = f"{signed(min(gaps))} to {signed(max(gaps))}"
    return text + f" in the mean of the {len(gaps)} networks that both attacked ({ends})."


def _low_fpr_sentence(found: Found, shown: Sequence[Series], names: Sequence[str]) -> list[str]:
    """The strongest attack on the dense network at the lowest FPR that n allows."""
    dense = next((entry for entry in shown if entry.baseline), None)
    if dense is None:
        return []
    for metric in ("tpr_at_fpr_0.001", "tpr_at_fpr_0.01"):
        rates = {name: estimates(found.get((dense.network, name), {}), metric) for name in names}
        means = {name: fmean(e.value for e in of_seed.values()) for name, of_seed in rates.items() if of_seed}
        if not means:
            continue
        top = max(means, key=means.__getitem__)
        at = percent(_RATES[metric], 1 if _RATES[metric] < 0.01 else 0)
        ends = rates[top].values()
        text = (
            f"At a false-positive rate of {at} “{top}” finds most members of the dense network: {percent(means[top])} "
            f"(95\u202f% intervals {percent_range(min(e.low for e in ends), max(e.high for e in ends))})"
        )
        if PAPER_ATTACK in means and top != PAPER_ATTACK:
            text += f", where the paper's discriminator finds {percent(means[PAPER_ATTACK])}"
        return [text + "."]
    return []


def _paired(found: Found, network: str, name: str, other: str) -> dict[int, float]:
    """AUC of ``name`` minus AUC of ``other`` on the same network, by seed."""
    ours = estimates(found.get((network, name), {}), "auc")
    theirs = estimates(found.get((network, other), {}), "auc")
    return {seed: ours[seed].value - theirs[seed].value for seed in ours if seed in theirs}


class Adaptive(NamedTuple):
    """Attackers who know the sparsity against the one who does not: AUC differences by network, paired by seed."""

    columns: list[tuple[str, str]]  # name, what it knows
    rows: list[MatrixRow]  # text: mean difference
    note: str


def adaptive(data: ReportData) -> Adaptive | None:
    """Each adaptive attack's AUC minus that of `UNAWARE`, on every network where both ran; None: nothing to compare."""
    found = results_of(data)
    names = [n for n in attack_names(data) if n != UNAWARE and (known := data.registry.get(n)) and known.adaptive]
    rows = []
    for entry in series(data):
        gaps = {name: _paired(found, entry.network, name, UNAWARE) for name in names}
        if not any(gaps.values()):
            continue
        cells = [_gap_cell(name, gap) for name, gap in gaps.items()]
        rows.append(_network_row(data, entry, cells))
    if not rows:
        return None
    ran = {name for _, name in found}
    kept = [i for i, name in enumerate(names) if name in ran]
    columns = [(names[i], data.registry[names[i]].adaptive or "") for i in kept]
    widths = [
        (e.high - e.low) / 2
        for (_, name), of_seed in found.items()
        if name == UNAWARE
        for e in estimates(of_seed, "auc").values()
    ]
    note = (
        f"A single AUC of “{UNAWARE}” is known to about ±{number(fmean(widths))} (half of its 95\u202f% interval, "
        "records alone); a smaller difference of one seed may be chance."
    )
    return Adaptive(columns, [row._replace(cells=[row.cells[i] for i in kept]) for row in rows], note)


def _gap_cell(name: str, gap: Mapping[int, float]) -> MatrixCell:
    if not gap:
        return MatrixCell("–", "", f"{name}: not run on this network", "", False)
    values = list(gap.values())
    mean, up = fmean(values), sum(v > 0 for v in values)
    spread = f"{signed(min(values))} to {signed(max(values))}" if len(values) > 1 else "one seed"
    title = f"{name}: higher in {up} of {len(values)} seed{'s' * (len(values) > 1)} ({seeds_text(list(gap))})"
    return MatrixCell(signed(mean), spread, title, f"{min(max(mean, 0.0) / 0.2, 1.0):.3f}", False)


def described(data: ReportData) -> list[AttackRow]:
    """Each attack that ran: its family, the variants met, what it knows of the sparsity, its threat model, n."""
    rows = []
    for name in attack_names(data):
        of_name = [a for a in data.attacks if a.attack == name]
        if not of_name:
            continue
        variants = list(dict.fromkeys(a.variant for a in of_name if a.variant))
        shown = "; ".join(variants[:3]) + (f"; and {len(variants) - 3} more" if len(variants) > 3 else "")
        known = data.registry.get(name)
        sizes = sorted({a.n_members + a.n_nonmembers for a in of_name})
        n = "–".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
        knows = (known.adaptive if known else None) or "–"
        rows.append(AttackRow(name, _family(data, name), shown, knows, of_name[0].threat_model, n))
    return rows


def _family(data: ReportData, name: str) -> str:
    known = data.registry.get(name)
    return known.family if known is not None else "other"


def _threat_model(data: ReportData, name: str) -> str:
    known = data.registry.get(name)
    if known is not None:
        return known.threat_model
    return next((a.threat_model for a in data.attacks if a.attack == name), "")
