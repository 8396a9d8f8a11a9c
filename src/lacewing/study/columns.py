"""What a study's networks tell of the columns of [attribute]: gathers it from a run folder."""

from __future__ import annotations

from collections.abc import Sequence

from lacewing.attribute import ATTACKS, AttributeFindings, SeedRow, compare, summarised
from lacewing.results import NetworkResult
from lacewing.study import jobs
from lacewing.study.declared import Study
from lacewing.study.plan import NetworkJob, Plan
from lacewing.study.store import Store

_KIND = "attribute"  # of the question


def guessed(
    store: Store, study: Study, plan: Plan, done: Sequence[NetworkJob], networks: Sequence[NetworkResult]
) -> AttributeFindings | None:
    """The rows of attribute.csv and attribute.json; None where the study declares no column.

    Args:
        store: of the run folder.
        study: the study.
        plan: its plan.
        done: the finished networks, and ``networks``, the result of each.

    Raises:
        FolderError: what a network answered holds something else than what we write.
    """
    declared = study.attribute
    if declared is None:
        return None
    asked = [job for job in plan.audited if _KIND in dict(job.probes)]
    there = [pair for pair in zip(done, networks, strict=True) if _KIND in dict(pair[0].probes)]
    rows = [row for job, result in there for row in _rows(store, job, result, declared.names)]
    place = {name: number for number, name in enumerate(dict.fromkeys(job.network for job in asked))}
    rows.sort(key=lambda row: place[row.network])  # stable: seeds, columns and attacks
    halves = study.data.split == "random-halves"
    return AttributeFindings(
        columns=declared.names,
        rows=tuple(summarised(rows, halves=halves)),
        seeds=tuple(rows),
        halves=halves,
        missing=len(asked) - len(there),
    )


def _rows(store: Store, job: NetworkJob, result: NetworkResult, names: Sequence[str]) -> list[SeedRow]:
    seen, hits = jobs.load_signals(store, job), jobs.load_probe(store, job, _KIND)
    audited = seen["audited_N"]
    member = seen["member_N"][audited]
    group = seen["group_N"][audited] if "group_N" in seen else None
    rows = []
    for place, name in enumerate(names):
        imputed = hits["imputed_NJ"][audited, place]
        alone = compare(imputed, imputed, member, group)
        for attack in ATTACKS:
            found = compare(hits[f"{attack}_NJ"][audited, place], imputed, member, group)
            rows.append(
                SeedRow(
                    network=result.network,
                    method=result.method,
                    family=result.family,
                    kind=result.kind,
                    density=result.density,
                    seed=result.seed,
                    init=result.init,
                    column=name,
                    values=int(hits["values_J"][place]),
                    attack=attack,
                    n_members=found.n_members,
                    n_nonmembers=found.n_nonmembers,
                    members=found.members.value,
                    nonmembers=found.nonmembers.value,
                    imputed_members=alone.members.value,
                    imputed_nonmembers=alone.nonmembers.value,
                    surplus=found.surplus.value,
                    surplus_low=found.surplus.low,
                    surplus_high=found.surplus.high,
                    test_accuracy=result.test_accuracy,
                )
            )
    return rows
