"""The audit of a dense network and of a sparse one on the same records: does the sparse one give away less?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lacewing.attacks._measure import grade
from lacewing.attacks._references import refuse_twins
from lacewing.attacks._types import CLASSES, Attack, Evidence, Need, Task
from lacewing.auditing import _gather, _pair_equal, _pair_text, _pool, _records, _result
from lacewing.auditing._attacks import Attacks, Chosen
from lacewing.auditing._gather import Gathered, Settings
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._pair_cost import PairCost, cost_of
from lacewing.auditing._pair_difference import accuracies, differences
from lacewing.auditing._pair_result import PairAudit
from lacewing.auditing._records import Records
from lacewing.errors import UsageError
from lacewing.results import NetworkResult, Trait

if TYPE_CHECKING:
    from lacewing.sparsify.effective import Sparsity

Train = Callable[[Any, Any, int], Any]
_ASKED = 256  # records that both networks are asked about first
_HOLD_DENSE: frozenset[Need] = frozenset({"dense", "levels", "checkpoints"})  # needs of who queries the dense one too
_NEVER = {  # what an attack about sparse networks may need and this audit never has
    "levels": "the denser levels of a pruning chain",
    "checkpoints": "earlier checkpoints of the training",
    "mismatched-shadow": "a shadow network of another density",
    "imposed-shadow": "a shadow network that was trained under the sparse network's own mask",
}


def audit_pair(
    dense: Any,
    sparse: Any,
    members: Any,
    nonmembers: Any,
    *,
    refit: Train | Mapping[str, Train] | None = None,
    refit_dense: Train | None = None,
    controls: Mapping[str, Train | Mapping[str, Train]] | None = None,
    references: int = 0,
    metric: str = _pair_equal.METRIC,
    population: Any = None,
    attacks: Attacks = "all",
    out: Path | str | None = None,
    seed: int = 0,
    queries: int = 1,
    delta: float = _result.DELTA,
    version: str | None = None,
    processes: int | None = None,
    progress: bool = True,
    task: Task = "classification",
    outputs: Outputs | None = None,
    groups: Any = None,
    augmented: bool = False,
    classes: Any = None,
    collate: Callable[[list[Any]], Any] | None = None,
    dry_run: bool = False,
) -> PairAudit | PairCost:
    """Whether ``sparse`` gives away less than ``dense`` about the records that both were trained on.

    Both are audited as `lacewing.audit` does, on the same records. Of each attack that runs on both, the difference
    sparse - dense of AUC and TPR has an interval over records. Attacks about sparse networks run on ``sparse``: by
    someone who holds the dense version, or the mask, which is read from the zeros of the weights. One network each
    tells of these two networks, not of sparsity: for that, ``refit`` and ``controls`` train many networks of several
    recipes, which are compared at equal accuracy.

    Args:
        dense: the dense model, see `lacewing.audit`.
        sparse: the sparse one, of the same task and classes, trained on the same members.
        members: see `lacewing.audit`, as for the arguments that are not named here.
        nonmembers: see `lacewing.audit`.
        refit: the sparse training, ``refit(x, y, seed) -> model``: its networks are the references of ``sparse``. For a
            verdict at equal accuracy a dict of several, by name, which vary one thing (the density); the first is that
            of ``sparse``.
        refit_dense: the dense training. For one seed it should begin as ``refit`` does, as a pair of networks does.
        controls: other complete trainings of dense networks. Each entry is a family, a dict of trainings that vary one
            thing: ``{"epochs": {"5": train5, "10": train10}, "width": {...}}``; or a single training, which is shown
            and not tested.
        references: K networks of each training, on random halves of all audited records, as for `lacewing.audit`. Two
            are one cut of the records; a verdict takes three cuts or more, so 6 networks.
        metric: what is compared at equal accuracy, such as ``"lira-online.auc"`` or ``"rmia-online.tpr@0.01"``. Say it
            before you look at results.
        population: see `lacewing.audit`.
        attacks: see `lacewing.audit`; attacks about sparse networks run on ``sparse`` alone.
        out: folder for the report, both audits and the answers of finished networks: a call that was interrupted goes
            on from there. None: nothing is kept.
        seed: see `lacewing.audit`.
        queries: see `lacewing.audit`.
        delta: see `lacewing.audit`.
        version: see `lacewing.audit`.
        processes: see `lacewing.audit`.
        progress: see `lacewing.audit`.
        task: see `lacewing.audit`.
        outputs: see `lacewing.audit`; of both networks.
        groups: see `lacewing.audit`.
        augmented: see `lacewing.audit`.
        classes: see `lacewing.audit`; of both networks.
        collate: see `lacewing.audit`.
        dry_run: train a network or two of each training, keep nothing, and say what all would take.

    Returns:
        The audit; with ``dry_run`` what its networks would cost.

    Raises:
        UsageError: an argument is not as described; both models are one network, answer other classes, or ``sparse`` is
            no sparser than ``dense``; the sentence names the argument.
    """
    if os.environ.get(_pool.WORKING):
        raise UsageError(
            "audit_pair was called while a worker imports this module: put it under `if __name__ == '__main__':`."
        )
    from lacewing.auditing import _ask, _call
    from lacewing.auditing._opened import opened

    for name, model in (("dense", dense), ("sparse", sparse)):
        _call.check_model(model, name)
    dense, sparse = opened(dense, "dense"), opened(sparse, "sparse")
    if dense is sparse:
        raise UsageError("sparse is the same object as dense: give two networks.")
    recipes = _pair_equal.recipes(refit, refit_dense, controls)
    settings, about = _settings(
        recipes[0].train if recipes else None,
        references=references,
        attacks=attacks,
        out=out,
        seed=seed,
        queries=queries,
        delta=delta,
        version=version,
        processes=processes,
        progress=progress,
        task=task,
        outputs=outputs,
        augmented=augmented,
    )
    if settings.processes is None and (_ask.on_gpu(dense) or _ask.on_gpu(sparse)):
        settings = replace(settings, processes=1)
    _pair_equal.check_metric(metric, task)
    density_dense, density_sparse, traits, notes = _densities(dense, sparse)
    _refuse_adaptive(about, settings.chosen, recipes, traits, task)

    def read(said: list[str]) -> Records:
        return _records.read(
            members,
            nonmembers,
            population,
            groups=groups,
            task=task,
            chosen=[*settings.chosen.attacks, *about, *_pair_equal.attacks_of(metric, recipes)],
            seed=settings.seed,
            augmented=augmented,
            reading=_call.reading(
                dense,
                sparse,
                classes=classes,
                collate=collate,
                task=task,
                stream=None if recipes or augmented else _gather.to_stderr if progress else _gather.nowhere,
                notes=said,
            ),
            notes=said,
        )

    records = read(notes)
    _first_look({"dense": dense, "sparse": sparse}, records, task)
    _pair_equal.check_records(metric, recipes, references, records)
    own: dict[str, Train] = {recipe.role: recipe.train for recipe in recipes if recipe.role}
    if dry_run:
        return cost_of(recipes, records, settings, {"dense": dense, "sparse": sparse})
    gathered = {}
    for name, model in (("dense", dense), ("sparse", sparse)):
        asked = replace(
            settings,
            refit=own.get(name),
            references=references if name in own else 0,
            about=about,  # of the dense network too, which some of them query
        )
        gathered[name] = _gather.gather(model, records, read, asked, who=name)
    _refuse_twins(gathered, task)
    equal, missing = _pair_equal.compared(
        recipes, gathered, records, settings, metric, {"dense": dense, "sparse": sparse}
    )
    audits, (together, refused) = _audits(gathered, about, settings, traits, delta, (density_dense, density_sparse))
    pair = PairAudit(
        dense=audits["dense"],
        sparse=audits["sparse"],
        differences=differences(audits["dense"].attacks, audits["sparse"].attacks, seed=settings.seed),
        accuracies=accuracies(*(gathered[name].evidence.observed for name in ("dense", "sparse"))),
        grade=grade(task).removesuffix(","),
        density_dense=density_dense,
        density_sparse=density_sparse,
        about=about,
        together=together,
        refused=refused,
        equal=equal,
        missing=missing,
        notes=tuple(dict.fromkeys([*notes, *_pair_text.alone(audits, about), *_pair_text.of_both(audits)])),
        folder=settings.folder,
    )
    if settings.folder is not None:
        pair.save(settings.folder)
    return pair


def _settings(refit: Train | None, **given: Any) -> tuple[Settings, tuple[Attack, ...]]:
    """The settings without attacks about sparse networks, and these."""
    found = _gather.checked(refit=refit, within=("dense", "sparse"), **given)
    about = tuple(attack for attack in found.chosen.attacks if attack.about)
    plain = tuple(attack for attack in found.chosen.attacks if not attack.about)
    if not plain:
        raise UsageError("attacks: name at least one that runs on both networks, such as 'loss'.")
    return replace(found, chosen=Chosen(plain, found.chosen.required)), about


def _densities(dense: Any, sparse: Any) -> tuple[float | None, float | None, frozenset[Trait], list[str]]:
    """Density of both relative to the dense network's parameters, what the sparse one is, and notes.

    Raises `UsageError` where ``sparse`` is no sparser than ``dense``.
    """
    from lacewing.auditing import _ask

    (of_dense, _), (of_sparse, _) = _ask.sparsity(dense), _ask.sparsity(sparse)
    if of_dense is None or of_sparse is None:
        unknown = " and ".join(name for name, one in (("dense", of_dense), ("sparse", of_sparse)) if one is None)
        note = f"Weights cannot be counted of {unknown}, so that the densities are taken on trust."
        return _share(of_dense, of_dense), _share(of_sparse, of_dense), frozenset({"sparse"}), [note]
    if of_sparse.nonzero >= of_dense.nonzero:
        kept = f"{of_sparse.nonzero:,} parameters of sparse are not zero, and {of_dense.nonzero:,} of dense"
        swapped = of_dense.sparse and not of_sparse.sparse
        mend = (
            "are the two swapped? Give the dense network first (--against)."
            if swapped
            else "give a network that was pruned, with its zeros in the weights themselves (masks applied)."
        )
        raise UsageError(f"sparse is no sparser than dense ({kept}): {mend}")
    notes = []
    if of_dense.sparse:
        notes.append(
            f"The network given as dense is sparse too: {of_dense.nonzero:,} of {of_dense.parameters:,} parameters are "
            "not zero."
        )
    if of_sparse.nonzero > 0.99 * of_dense.nonzero:
        notes.append(
            f"The sparse network has hardly fewer parameters that are not zero ({of_sparse.nonzero:,} and "
            f"{of_dense.nonzero:,})."
        )
    masked = of_sparse.masked and of_sparse.parameters == of_dense.parameters
    traits: frozenset[Trait] = frozenset({"sparse", "masked"}) if masked else frozenset({"sparse"})
    if not masked:
        notes.append(
            "The sparse network is of another architecture than the dense one, or has hardly a zero: attacks that read "
            "its mask did not run."
        )
    return _share(of_dense, of_dense), _share(of_sparse, of_dense), traits, notes


def _share(of: Sparsity | None, dense: Sparsity | None) -> float | None:
    if of is None:
        return None
    whole = (dense or of).parameters
    return of.nonzero / whole if whole else None


def _refuse_adaptive(
    about: tuple[Attack, ...],
    chosen: Chosen,
    recipes: tuple[_pair_equal.Recipe, ...],
    traits: frozenset[Trait],
    task: Task,
) -> None:
    """Refuse attacks about sparse networks that must run and cannot, before anything is trained."""
    roles = {recipe.role for recipe in recipes}
    for attack in about:
        if attack.name not in chosen.required:
            continue
        lacks = [text for need, text in _NEVER.items() if need in attack.needs]
        if lacks:
            raise UsageError(f"attacks: '{attack.name}' cannot run. It needs {lacks[0]}, which a study trains.")
        if not attack.about <= traits:
            raise UsageError(
                f"attacks: '{attack.name}' cannot run. It reads the mask of a network that has the dense network's "
                "architecture and zeros among its weights."
            )
        if task not in attack.tasks:
            raise UsageError(f"attacks: '{attack.name}' is not for task='{task}'.")
        if "shadow" in attack.needs and "sparse" not in roles:
            raise UsageError(f"attacks: '{attack.name}' needs refit=, the training of sparse, and references=8.")
        both = "dense-shadow" in attack.needs or {"dense", "shadow"} <= attack.needs
        if both and "dense" not in roles:
            raise UsageError(f"attacks: '{attack.name}' needs refit_dense=, the training of dense.")


def _first_look(models: Mapping[str, Any], records: Records, task: Task) -> None:
    """Ask both models about some records: refuse other classes, and one network given twice, before any training."""
    from lacewing.auditing import _call

    some = records.audited.at(np.linspace(0, len(records.audited) - 1, _ASKED).astype(int))
    dense, sparse = (_call.answered(model, some, name, task) for name, model in models.items())
    if dense.shape != sparse.shape:
        raise UsageError(
            f"dense answers {dense.shape[1]} numbers to a record and sparse {sparse.shape[1]}: give two networks of "
            "one task, with the same classes in the same order."
        )
    if np.array_equal(dense, sparse):
        raise UsageError("sparse is the same network as dense, by its answers: give two networks.")


def _refuse_twins(gathered: Mapping[str, Gathered], task: Task) -> None:
    """Refuse one network that was given twice, in another precision perhaps."""
    answers = {name: found.evidence.observed.logits_NC for name, found in gathered.items()}
    refuse_twins(answers, mend="give two networks.", shifted=task in CLASSES)


def _with_dense_shadow(sparse: Evidence, dense: Evidence) -> Evidence:
    """The first reference of the dense training is the shadow of who does not know that the network is sparse."""
    return sparse if dense.shadow is None else replace(sparse, other_shadows={"dense": dense.shadow})


def _with_dense(sparse: Evidence, dense: Evidence) -> Evidence:
    """What an attacker of the sparse network holds who queries the dense one too.

    Both first references train on the same half from the same seed: that of the dense training is the dense version of
    the shadow network.
    """
    shadow = sparse.shadow
    if shadow is not None and dense.shadow is not None:
        shadow = replace(shadow, related=(dense.shadow.observed,))
    return replace(sparse, related=(dense.observed,), shadow=shadow)


def _audits(
    gathered: Mapping[str, Gathered],
    about: tuple[Attack, ...],
    settings: Settings,
    traits: frozenset[Trait],
    delta: float,
    densities: tuple[float | None, float | None],
) -> tuple[dict[str, _result.Audit], tuple[_result.Audit | None, Mapping[str, str]]]:
    """The audits of both networks by name, and that of both together, see `_together`."""
    alone, with_dense = (tuple(a for a in about if bool(a.needs & _HOLD_DENSE) is holds) for holds in (False, True))
    dense, sparse = (gathered[name].evidence for name in ("dense", "sparse"))
    sparse = _with_dense_shadow(sparse, dense)
    required, audits = settings.chosen.required, {}
    of_dense = Chosen(settings.chosen.attacks, required - {attack.name for attack in about})
    of_sparse = Chosen((*settings.chosen.attacks, *alone), required - {attack.name for attack in with_dense})
    for (name, found), evidence, chosen, density, having in zip(
        gathered.items(), (dense, sparse), (of_dense, of_sparse), densities, (frozenset[Trait](), traits), strict=True
    ):
        audits[name] = _result.build(
            evidence,
            _named(found.network, name, density),
            attacks=chosen,
            delta=delta,
            notes=found.notes,
            seed=settings.seed,
            refused=found.refused,
            checks=found.checks,
            traits=having,
        )
    network, held = audits["sparse"].attacks[0].network, _with_dense(sparse, dense)
    return audits, _together(held, network, Chosen(with_dense, required), traits, settings, delta)


def _together(
    held: Evidence,
    network: NetworkResult,
    chosen: Chosen,
    traits: frozenset[Trait],
    settings: Settings,
    delta: float,
) -> tuple[_result.Audit | None, Mapping[str, str]]:
    """The audit of both networks together, by attacks that query the dense one too; None, and why, where none ran."""
    refused = {attack.name: why for attack in chosen.attacks if (why := _result.cannot(attack, held, traits))}
    able = tuple(attack for attack in chosen.attacks if attack.name not in refused)
    if held.shadow is None or not held.shadow.related:
        why = "It needs a shadow network and its dense version: pass refit=, refit_dense= and references=8."
        refused |= {attack.name: why for attack in able if "shadow" in attack.needs}
        able = tuple(attack for attack in able if attack.name not in refused)
    if not able:
        return None, refused
    required = chosen.required & {attack.name for attack in able}
    return _result.build(
        held, network, attacks=Chosen(able, required), delta=delta, seed=settings.seed, traits=traits
    ), refused


def _named(network: NetworkResult, name: str, density: float | None) -> NetworkResult:
    kind = "sparse" if name == "sparse" else "dense"
    known = network.density if density is None else density
    return replace(network, network=name, method=kind, kind=kind, density=known)  # type: ignore[arg-type]
