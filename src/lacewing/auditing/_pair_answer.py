"""What an audit of a dense and a sparse network says in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lacewing.auditing import _answer

if TYPE_CHECKING:
    from lacewing.auditing._pair_difference import AccuracyDifference, PairedDifference
    from lacewing.auditing._pair_result import PairAudit

CLAIM = (
    "This compares two trained networks on these records. The intervals are over records: they say nothing of networks "
    "of other seeds, nor of sparsity as such."
)
CHANGE = "+z.3f"  # how a difference is quoted


def sentence(pair: PairAudit) -> str:
    """Which of the two networks gives away less, by the established differences; or that the audit cannot tell."""
    n = f"n = {pair.n_members} members and {pair.n_nonmembers} non-members{_answer.counted(pair.sparse.records)}"
    failed = [
        f"of the {name} network: {check.sentence}"
        for name, audit in (("dense", pair.dense), ("sparse", pair.sparse))
        for check in _answer.deciding(audit.selfchecks)
        if check.decides == "every attack"
    ]
    if failed:
        return f"This audit cannot say which network gives away less. A self-check failed {' And '.join(failed)}"
    less, more = ([d for d in pair.differences if d.established == side] for side in ("less", "more"))
    attacks = len({d.attack for d in pair.differences})
    if less and more:
        return (
            f"Which of these two networks gives away less depends on the attack: by {_most(less)} it is the sparse "
            f"one, by {_most(more)} the dense one; {attacks} attacks, {n}."
        )
    if less or more:
        found = less or more
        which = "The sparse network gives away less" if less else "The sparse network gives away more"
        count = len({d.attack for d in found})
        of = f"{count} of {attacks} attacks establish a difference" if attacks > 1 else "one attack"
        return f"{which} than the dense one: by {_most(found)}; {of}, {n}.{_doubts(pair, found)}"
    leading = _leading(pair)
    return (
        f"No difference in what the two networks give away is established: by {_told(leading)}; {attacks} "
        f"attack{'s' * (attacks > 1)}, {n}."
    )


def strongest(pair: PairAudit) -> str:
    """The strongest attack on each network, since a defence is judged by it, and on both networks together."""
    adaptive = {attack.name for attack in pair.about}
    texts = [
        f"on the {name} network '{best.attack}' with an AUC of {_answer.shown(best.metrics['auc'])}"
        + (", by someone who knows of the sparsity" if best.attack in adaptive else "")
        for name, best in (("dense", pair.dense.strongest), ("sparse", pair.sparse.strongest))
    ]
    said = f"The strongest attack is {' and '.join(texts)}."
    if pair.together is not None:
        best = pair.together.strongest
        said += (
            f" Someone who queries both networks reaches an AUC of {_answer.shown(best.metrics['auc'])} "
            f"('{best.attack}'): that is what publishing both gives away."
        )
    return said


def accuracy(pair: PairAudit) -> str:
    """Accuracy and density of both networks, and whether the sparse one pays for what it hides."""
    inside, outside = pair.accuracies
    lines = f"{pair.grade} on {outside.records}: {_accuracy(outside)}; on {inside.records}: {_accuracy(inside)}."
    densities = _densities(pair)
    return f"{lines} {densities}" if densities else lines


def price(pair: PairAudit) -> str | None:
    """What must be said where the network that gives away less is less accurate too; None: that is not established."""
    outside = pair.accuracies[1].difference
    found = {d.established for d in pair.differences}
    if outside.high < 0 and "less" in found:
        worse, better = "sparse", "dense"
    elif outside.low > 0 and "more" in found:
        worse, better = "dense", "sparse"
    else:
        return None
    return (
        f"The {worse} network is less accurate than the {better} one: an ordinary network of its accuracy may give "
        "away as little, or less."
    )


def _accuracy(each: AccuracyDifference) -> str:
    return f"dense {each.dense:.3f}, sparse {each.sparse:.3f}, difference {each.difference.text(CHANGE)}"


def _densities(pair: PairAudit) -> str:
    said = [
        f"{name} {100 * density:.1f} %"
        for name, density in (("dense", pair.density_dense), ("sparse", pair.density_sparse))
        if density is not None
    ]
    return f"Density (non-zero parameters over those of the dense network): {', '.join(said)}." if said else ""


def _most(found: Sequence[PairedDifference]) -> str:
    """The largest of several established differences, an AUC before a rate."""
    areas = [d for d in found if d.metric == "auc"]
    return _told(max(areas or found, key=lambda d: abs(d.difference.value)))


def _told(d: PairedDifference) -> str:
    what = "AUC" if d.metric == "auc" else f"TPR at {100 * (d.fpr or 0):g} % FPR"
    return (
        f"'{d.attack}' ({what} {d.dense:.3f} on the dense and {d.sparse:.3f} on the sparse network, difference "
        f"{d.difference.text(CHANGE)})"
    )


def _leading(pair: PairAudit) -> PairedDifference:
    """The AUC of the attack that is strongest on either network, of those that ran on both."""
    areas = [d for d in pair.differences if d.metric == "auc"]
    return max(areas, key=lambda d: max(d.dense, d.sparse))


def _doubts(pair: PairAudit, found: Sequence[PairedDifference]) -> str:
    """Where all established differences rest on references that are unlike a network."""
    if not all(_answer.rests_on_references(d.attack) for d in found):
        return ""
    failed = [
        f"of the {name} network: {check.sentence}"
        for name, audit in (("dense", pair.dense), ("sparse", pair.sparse))
        for check in _answer.deciding(audit.selfchecks)
    ]
    return f" But this rests on references, and a self-check failed {' And '.join(failed)}" if failed else ""
