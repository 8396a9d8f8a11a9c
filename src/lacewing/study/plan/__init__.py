"""The plan: a study's jobs as pure data. The stored unit is a network, the scheduled one a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lacewing.attacks import ATTACKS, Attack
from lacewing.errors import UsageError, did_you_mean
from lacewing.study.declared import Study
from lacewing.study.plan._attacks import Networks, Refusal, asked, attack_job, probe_settings, token_notes
from lacewing.study.plan._jobs import AttackJob, NetworkJob, Plan, PropertyJob, Side, World
from lacewing.study.plan._networks import fingerprints, imposed_sequences, probed, sequences_of, world_sequences
from lacewing.study.plan._only import only
from lacewing.study.plan._worlds import property_jobs

__all__ = [
    "AttackJob",
    "NetworkJob",
    "Plan",
    "PropertyJob",
    "Side",
    "World",
    "asked",
    "fingerprints",
    "make_plan",
    "only",
    "probe_settings",
    "token_notes",
    "unavailable",
]


def make_plan(
    study: Study,
    *,
    data_digest: str,
    models: Mapping[str, Mapping[str, Any]],
    attacks: Mapping[str, Attack] = ATTACKS,
    places: Sequence[Sequence[int]] | None = None,
) -> Plan:
    """The jobs of a resolved study.

    Args:
        study: with its precision decided, and "all" among its attacks replaced by names.
        data_digest: SHA-256 of the data set.
        models: by name of an entry what identifies its model (``models.fingerprint``); "" is the study's.
        attacks: by name, those that the study may declare (``attacks.chosen``): a user's own are no part of the
            registry.
        places: of the columns that [attribute] calls by their names; None: it calls none so.

    Raises:
        UsageError: an attack that is declared is not known, or cannot run on any network of the study.
    """
    for name in study.attacks.names:
        if name not in attacks:
            raise UsageError(f"attacks.names: unknown attack '{name}'; {did_you_mean(name, attacks)}")
    sequences = sequences_of(study, data_digest=data_digest, models=models)
    if any("imposed-shadow" in attacks[name].needs for name in study.attacks.names):
        sequences += imposed_sequences(study, sequences)
    settings = probe_settings(study, attacks, places)
    sequences = [tuple(probed(job, settings) for job in sequence) for sequence in sequences]
    networks = Networks(study, sequences)
    targets = networks.targets()
    planned: list[AttackJob] = []
    refused: dict[tuple[str, str], str] = {}
    for name in study.attacks.names:
        found = [attack_job(networks, attacks[name], target) for target in targets]
        able = [job for job in found if isinstance(job, AttackJob)]
        if not able:
            raise UsageError(f"attacks.names: '{name}' cannot run in this study: {_why(found)}")
        planned += able
        for target, each in zip(targets, found, strict=True):
            if isinstance(each, Refusal):
                refused[target.network, name] = each.why
    worlds = world_sequences(study, data_digest=data_digest, models=models)
    return Plan((*sequences, *worlds), tuple(planned), refused, tuple(property_jobs(study, worlds)))


def unavailable(study: Study) -> dict[str, str]:
    """By name, the attacks of the registry that can run on no network of the study, with what they lack."""
    models: dict[str, dict[str, Any]] = {"": {}}
    models |= {entry.entry: dict(entry.model) for entry in study.networks if entry.model}
    sequences = sequences_of(study, data_digest="", models=models)
    sequences += imposed_sequences(study, sequences)
    networks = Networks(study, sequences)
    lacking = {}
    for name, attack in ATTACKS.items():
        found = [attack_job(networks, attack, target) for target in networks.targets()]
        if not any(isinstance(job, AttackJob) for job in found):
            lacking[name] = _why(found)
    return lacking


def _why(found: list[AttackJob | Refusal]) -> str:
    """What an attack lacks: the last reason that is not about the kind of network, since a study has several."""
    refusals = [each for each in reversed(found) if isinstance(each, Refusal)]
    return next((each.why for each in refusals if not each.of_kind), refusals[0].why)
