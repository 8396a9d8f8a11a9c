"""What the head of a report says of canaries: how many are found at a low FPR, and a one-run epsilon."""

from __future__ import annotations

from typing import NamedTuple

from lacewing import risk
from lacewing.reporting._data import ReportData, leading_attack, percent, percent_range, series
from lacewing.results import AttackResult
from lacewing.risk import Canaries

# The attack that is asked is fixed before any result is seen, so that its bound needs no correction for the others: the
# first of these that ran, else the one that the headline is about.
_ASKED = ("lira-online", "rmia-online", "lira-offline", "rmia-offline")
DELTA = 1e-5


class OnCanaries(NamedTuple):
    """The canaries of the dense network of the lowest seed, under one attack."""

    result: AttackResult
    found: Canaries


def on_canaries(data: ReportData) -> OnCanaries | None:
    """None where the study has no canaries, or their dense network was not attacked."""
    dense = next((s.network for s in series(data) if s.baseline), None)
    able = [a for a in data.attacks if a.network.network == dense and a.canary_N.any()]
    ran = {a.attack for a in able}
    attack = next((name for name in (*_ASKED, leading_attack(data)) if name in ran), None)
    if attack is None:
        return None
    result = min((a for a in able if a.attack == attack), key=lambda a: a.network.seed)
    found = risk.canaries(result, delta=DELTA)
    return None if found is None else OnCanaries(result, found)


def canary_sentences(data: ReportData) -> list[str]:
    """The two sentences about canaries, or none."""
    asked = on_canaries(data)
    if asked is None:
        return []
    found, where = asked.found, f"“{asked.result.attack}” on the dense network of seed {asked.result.network.seed}"
    told = []
    if (share := found.found) is not None:
        told.append(
            f"Of {found.n_members} canaries among its members (records mislabelled on purpose) {where} finds "
            f"{percent(share.value)} (95\u202f% interval {percent_range(share.low, share.high)}) at a false-positive "
            "rate of 1\u202f% among the other records."
        )
    told.append(
        f"Privacy loss epsilon, measured in one run by {where}: {epsilon_text(found)}; 0 is no leak, and what DP-SGD "
        f"guarantees is an upper bound of the same number ({epsilon_detail(found)})."
    )
    return told


def epsilon_text(found: Canaries) -> str:
    """The bound in words."""
    return f"at least {found.epsilon:.2f}" if found.epsilon > 0 else "no bound above 0"


def epsilon_detail(found: Canaries) -> str:
    """What the bound is from, and what it takes for granted."""
    canaries = found.n_members + found.n_nonmembers
    return (
        f"{found.correct} of {found.guesses} guesses about {canaries} canaries right, delta {DELTA:g}, "
        "95\u202f% confidence, as if a fair coin had made each canary a member or not"
    )
