"""What a study's networks tell of a property of their training records: gathers it from a run folder."""

from __future__ import annotations

from lacewing.property import One, PropertyFindings, SeedRow, summarised
from lacewing.study import jobs
from lacewing.study.declared import Study
from lacewing.study.plan import Plan
from lacewing.study.store import Store


def properties(store: Store, study: Study, plan: Plan) -> PropertyFindings | None:
    """The rows of property.csv and property.json; None where the study declares no property.

    Raises:
        FolderError: a finished job holds something else than what we write.
    """
    declared = study.property
    if declared is None:
        return None
    ones = []
    done = [job for job in plan.properties if jobs.attacked(store, job)]
    for job in done:
        found, recipe = jobs.load_told(store, job), job.first[0]
        for attack, chosen, counts in found.counts():
            low, high = counts.binomial
            row = SeedRow(
                network=recipe.network,
                method=recipe.method,
                family=recipe.family,
                kind=recipe.kind,
                density=found.density,
                seed=job.seed,
                first=job.pair[0],
                second=job.pair[1],
                attack=attack,
                chosen=chosen,
                attacked=counts.first + counts.second,
                accuracy=counts.accuracy,
                binomial_low=low,
                binomial_high=high,
                auc=counts.auc,
                test_accuracy=found.test_accuracy,
            )
            ones.append(One(row, counts))
    place = {name: number for number, name in enumerate(dict.fromkeys(job.network for job in plan.properties))}
    ones.sort(key=lambda one: (one.row.first, one.row.second, place[one.row.network]))  # stable: seeds and attacks
    return PropertyFindings(
        of=declared.of,
        records=declared.records,
        networks=declared.networks,
        rows=tuple(summarised(ones)),
        seeds=tuple(one.row for one in ones),
        missing=len(plan.properties) - len(done),
        poison=declared.poison,
        poison_label=declared.poison_label,
    )
