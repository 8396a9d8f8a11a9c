"""``lacewing compare``: two networks of a run folder on the records that both were audited on."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lacewing import metrics
from lacewing.errors import FolderError, UsageError, did_you_mean
from lacewing.metrics import Bools, Estimate, Floats, Paired
from lacewing.results import SCHEMA, AttackResult
from lacewing.study import jobs
from lacewing.study.folder import recorded
from lacewing.study.plan import Plan
from lacewing.study.store import Store
from lacewing.support.text import html_table

FPRS = (0.01, 0.001)
EXPLORATORY = "An exploratory comparison: one of many that could be made."


@dataclass(frozen=True)
class Row:
    """One measure of both networks: means over the seeds, and the difference first - second with its interval.

    Where the records do not allow a measure, the numbers are None and ``note`` says why.
    """

    measure: str  # "test_accuracy", "balanced_accuracy", "auc", "tpr_at_fpr_0.01", ...
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    note: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Two networks on the same records: what the first has over the second, in accuracy and in leakage."""

    first: str
    second: str
    attack: str
    pairs: tuple[tuple[str, str], ...]  # ids of networks that were compared, one pair a seed and init
    n_members: int  # shared records, over all seeds
    n_nonmembers: int
    rows: tuple[Row, ...]
    interval: str  # what the intervals were drawn over
    sentence: str
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain JSON, with a ``schema`` number."""
        return {"schema": SCHEMA, **asdict(self)}

    def __str__(self) -> str:
        width = max(len(row.measure) for row in self.rows)
        head = f"{'':<{width}}  {self.first:>16}  {self.second:>16}  difference"
        lines = [self.sentence, "", head]
        for row in self.rows:
            first, second, difference = _cells(row)
            lines.append(f"{row.measure:<{width}}  {first:>16}  {second:>16}  {difference}")
        lines += ["", f"intervals: 95 %, {self.interval}", *(f"note: {note}" for note in self.notes)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = ("", self.first, self.second, "difference")
        table = html_table(head, ((row.measure, *_cells(row)) for row in self.rows))
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in (f"95 % intervals: {self.interval}", *self.notes))
        return f"<p>{html.escape(self.sentence)}</p>{table}{notes}"


def compare(
    folder: str | Path, network_a: str, network_b: str, *, attack: str = "discriminator", resamples: int = 2000
) -> Comparison:
    """Compare two networks of a run folder on the records that both were audited on; imports no user code.

    Args:
        folder: the run folder.
        network_a: ``imp-03`` (every seed and initialisation), ``imp-03/target/0`` or ``imp-03/target/0.1`` (one). Names
            without a seed are paired by seed and initialisation.
        network_b: the same; differences are a - b.
        attack: whose scores and decisions are compared.
        resamples: bootstrap draws behind each interval that is over records.

    Test accuracy is that on shared records outside both training sets; leakage is measured on shared records that both
    networks, or neither, trained on. Intervals are those of `metrics.paired`: over seeds, whose initialisations are
    averaged first; under random halves over the cuts of the records, since the networks of seeds 2j and 2j + 1 are
    trained on the two halves of one; over records where there is one of these alone. The sentence has numbers with
    intervals and no verdict: the comparison was not declared before the study ran, and the networks need not be equally
    accurate.

    Raises:
        FolderError: no run folder, or what is compared is damaged there.
        UsageError: no such network or attack, nothing attacked yet, no seed or no record in common.
    """
    place = Path(folder)
    study, plan, _ = recorded(place)
    _check_attack(plan, attack)
    a, b = (_results(place, plan, name, attack) for name in (network_a, network_b))
    pairs, notes = _pairs(a, b, network_a, network_b)
    shared = [_Shared.of(first, second) for first, second in pairs]
    halves = study.data.split == "random-halves"
    seeds = [first.network.seed for first, _ in pairs]
    repeats = _Repeats([seed // 2 if halves else seed for seed in seeds], seeds)
    rows = [_accuracy_row(shared, repeats, resamples), *_leakage_rows(shared, repeats, resamples)]
    once = dict(zip(seeds, shared, strict=True)).values()  # the inits of a seed share its records
    n_members = sum(int(s.member.sum()) for s in once)
    n_nonmembers = sum(int((~s.member).sum()) for s in once)
    dropped = sum(s.dropped for s in once)
    if dropped:
        notes = (*notes, f"{dropped} shared records are left out: one network trained on them and the other did not.")
    if study.data.groups:
        notes = (*notes, "n counts groups of records (data.groups); test accuracy is that on one record of each.")
    return Comparison(
        first=network_a,
        second=network_b,
        attack=attack,
        pairs=tuple((first.network.id, second.network.id) for first, second in pairs),
        n_members=n_members,
        n_nonmembers=n_nonmembers,
        rows=tuple(rows),
        interval=_interval(repeats, halves),
        sentence=_sentence(network_a, network_b, attack, rows, len(once), n_members, n_nonmembers),
        notes=(*notes, EXPLORATORY),
    )


class _Repeats(NamedTuple):
    """What of the pairs is independent, a number per pair."""

    groups: Sequence[int]  # one for all pairs of a seed or, under random halves, of a cut
    seeds: Sequence[int]


def _interval(repeats: _Repeats, halves: bool) -> str:
    count, several = len(set(repeats.groups)), len(set(repeats.seeds)) < len(repeats.seeds)
    if count == 1:
        of = "one cut of the records" if len(set(repeats.seeds)) > 1 else "one pair of networks"
        of = "one split" if several and not halves else of
        return f"paired bootstrap over the records of {of}; the spread over seeds is not in them"
    unit = "cuts of the records, each the mean of its seeds 2j and 2j + 1" if halves else "seeds"
    return f"Student's t over {count} {unit}" + (", initialisations averaged first" if several else "")


@dataclass(frozen=True)
class _Shared:
    """Two results on the records that both hold with one membership, in one order."""

    first: AttackResult
    second: AttackResult
    row_a: Any  # rows of the shared records in each result
    row_b: Any
    dropped: int

    @classmethod
    def of(cls, first: AttackResult, second: AttackResult) -> _Shared:
        _, row_a, row_b = np.intersect1d(first.record_N, second.record_N, assume_unique=True, return_indices=True)
        same = first.member_N[row_a] == second.member_N[row_b]
        found = cls(first, second, row_a[same], row_b[same], int((~same).sum()))
        if not found.member.any() or found.member.all():
            raise UsageError(
                f"{first.network.id} and {second.network.id} share {int(found.member.sum())} members and "
                f"{int((~found.member).sum())} non-members: compare networks that were audited on the same records, "
                "such as two of one seed."
            )
        return found

    @property
    def member(self) -> Bools:
        member: Bools = self.first.member_N[self.row_a]
        return member

    def both(self, of: Callable[[AttackResult], Any]) -> tuple[Any, Any]:
        """A per-record array of each result, on the shared records."""
        return of(self.first)[self.row_a], of(self.second)[self.row_b]


def _check_attack(plan: Plan, attack: str) -> None:
    known = {job.attack for job in plan.attacks}
    if attack not in known:
        raise UsageError(f"no attack '{attack}' in this study; {did_you_mean(attack, known)}")


def _results(folder: Path, plan: Plan, name: str, attack: str) -> list[AttackResult]:
    network, *place = name.split("/")
    wanted = [job for job in plan.attacks if job.attack == attack]
    found = [
        job
        for job in wanted
        if job.target.network == network and [job.target.role, job.target.repeat][: len(place)] == place
    ]
    if not found or len(place) > 2:
        known = {job.target.id if place else job.target.network for job in wanted}
        raise UsageError(f"no attacked network '{name}' in {folder}; {did_you_mean(name, known)}")
    store = Store(folder)
    whole = [job for job in found if jobs.attacked(store, job) and jobs.trained(store, job.target)]
    if store.damaged:
        path = min(path for _, path in store.damaged)
        raise FolderError(f"{folder}/{path} is lost or damaged; `lacewing run` makes it again.")
    done = jobs.load_attacks(store, whole)
    if not done:
        raise UsageError(f"{name} is not attacked yet in {folder}; continue the study with `lacewing run`.")
    return done


def _pairs(
    a: Sequence[AttackResult], b: Sequence[AttackResult], name_a: str, name_b: str
) -> tuple[list[tuple[AttackResult, AttackResult]], tuple[str, ...]]:
    """Networks of one role, seed and init; two single networks are a pair whatever their seeds."""
    if len(a) == len(b) == 1 and name_a.count("/") == name_b.count("/") == 2:
        if a[0].network.id == b[0].network.id:
            raise UsageError(f"{name_a} and {name_b} are one network: name two.")
        return [(a[0], b[0])], ()
    by_place = {_place(r): r for r in b}
    pairs = [(r, by_place[_place(r)]) for r in a if _place(r) in by_place]
    if not pairs:
        raise UsageError(f"{name_a} and {name_b} were attacked under no common seed: give both under one seed.")
    if pairs[0][0].network.id == pairs[0][1].network.id:
        raise UsageError(f"{name_a} and {name_b} are one network: name two.")
    paired = {_place(r) for r, _ in pairs}
    alone = sorted({r.network.id for r in (*a, *b) if _place(r) not in paired})
    return pairs, ((f"Left out, since the other network has none of its seed: {', '.join(alone)}.",) if alone else ())


def _place(result: AttackResult) -> tuple[str, int, int]:
    return result.network.role, result.network.seed, result.network.init


def _accuracy_row(shared: Sequence[_Shared], repeats: _Repeats, resamples: int) -> Row:
    """Accuracy on non-members as twice a balanced accuracy whose members are all right: the same interval serves."""
    pairs = []
    for s in shared:
        one, two = s.both(lambda r: r.correct_N)
        pairs.append((np.where(s.member, True, ~one), np.where(s.member, True, ~two)))
    found = metrics.paired(
        [one for one, _ in pairs],
        [two for _, two in pairs],
        [s.member for s in shared],
        "balanced_accuracy",
        groups=repeats.groups,
        same_records=repeats.seeds,
        resamples=resamples,
    )
    low, high = (2 * end for end in found.difference[1:])
    return Row("test_accuracy", 2 * found.first - 1, 2 * found.second - 1, 2 * found.difference.value, low, high)


def _leakage_rows(shared: Sequence[_Shared], repeats: _Repeats, resamples: int) -> list[Row]:
    def found(values: Sequence[tuple[Floats, Floats]], metric: metrics.Metric, fpr: float = 0.01) -> Paired:
        firsts, seconds = zip(*values, strict=True)
        member = [s.member for s in shared]
        return metrics.paired(
            list(firsts),
            list(seconds),
            member,
            metric,
            groups=repeats.groups,
            same_records=repeats.seeds,
            fpr=fpr,
            resamples=resamples,
        )

    rows = []
    if all(r.hit_N.size for s in shared for r in (s.first, s.second)):
        decided = [s.both(lambda r: r.hit_N == r.member_N) for s in shared]
        rows.append(_row("balanced_accuracy", found(decided, "balanced_accuracy")))
    else:
        rows.append(_absent("balanced_accuracy", "the attack makes no decisions"))
    scores = [s.both(lambda r: r.score_N) for s in shared]
    rows.append(_row("auc", found(scores, "auc")))
    fewest = min(int((~s.member).sum()) for s in shared)
    for fpr in FPRS:
        name = f"tpr_at_fpr_{fpr:g}"
        if metrics.resolves(fpr, fewest):
            rows.append(_row(name, found(scores, "tpr_at_fpr", fpr)))
        else:
            rows.append(_absent(name, f"needs {round(1 / fpr)} shared non-members in each pair, and one has {fewest}"))
    return rows


def _row(measure: str, found: Paired) -> Row:
    return Row(measure, found.first, found.second, *found.difference)


def _absent(measure: str, why: str) -> Row:
    return Row(measure, None, None, None, None, None, why)


def _cells(row: Row) -> tuple[str, str, str]:
    if row.first is None or row.second is None or row.difference is None or row.low is None or row.high is None:
        return "-", "-", row.note or ""
    return f"{row.first:.4f}", f"{row.second:.4f}", Estimate(row.difference, row.low, row.high).text("+z.4f")


def _sentence(a: str, b: str, attack: str, rows: Sequence[Row], pairs: int, n_members: int, n_nonmembers: int) -> str:
    accuracy = rows[0]
    leak = next(row for row in rows[1:] if row.difference is not None)
    named = {"balanced_accuracy": "balanced accuracy", "auc": "AUC"}[leak.measure]
    return (
        f"{a} against {b}: test accuracy {_cells(accuracy)[2]}; leakage to the attack '{attack}' ({named}) "
        f"{_cells(leak)[2]} (n = {n_members} members and {n_nonmembers} non-members, {pairs} seed{'s' * (pairs > 1)})."
    )
