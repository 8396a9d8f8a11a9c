"""Networks that take the mask of another network of the study: whose, and in which order they are trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lacewing.config import shown
from lacewing.errors import did_you_mean
from lacewing.methods import Method

if TYPE_CHECKING:
    from lacewing.study.declared._study import Study


def check_taken(study: Study) -> None:
    """Refuse an entry that takes a mask which no network of the study has.

    Raises:
        ValueError: it names the field.
    """
    owners = _owners(study)
    having = {
        step.network: step
        for network in study.networks
        for step in network.steps(study.train_of(network))
        if network.has_mask(step, study.train_of(network)) and not network.reshapes
    }
    for index, network in enumerate(study.networks):
        wanted, where = network.mask_of, f"networks.{study.place(index)}"
        if wanted is None:
            continue
        where += ".of" if "of" in type(network).model_fields else ""
        others = sorted(name for name in having if owners[name] is not network)
        if not others:
            raise ValueError(f"{where} = {shown(wanted)}: no network of the study has a mask; add an entry of IMP")
        if wanted not in owners:
            raise ValueError(f"{where} = {shown(wanted)}: no network is called so; {did_you_mean(wanted, others)}")
        if wanted not in having:
            raise ValueError(f"{where} = {shown(wanted)} has no mask; {did_you_mean(wanted, others)}")
        chain = [network.entry, *_taken_by(owners, network)]
        if chain[-1] in chain[:-1]:
            told = " takes that of ".join(f"'{name}'" for name in chain)
            raise ValueError(f"{where}: {told}; name a network that is pruned by itself, such as a level of IMP")


def in_order(study: Study) -> list[Method]:
    """The entries of a study, each behind the one whose mask it takes; before that those that start on their own."""
    owners = _owners(study)
    depth = {network.entry: sum(1 for _ in _taken_by(owners, network)) for network in study.networks}
    return sorted(study.networks, key=lambda network: (depth[network.entry], network.first() is not network))


def _owners(study: Study) -> Mapping[str, Method]:
    """By name of a network, its entry."""
    return {step.network: entry for entry in study.networks for step in entry.steps(study.train_of(entry))}


def _taken_by(owners: Mapping[str, Method], network: Method) -> Iterator[str]:
    """The entry whose mask an entry takes, the entry whose mask that one takes, ...; to the first that comes twice."""
    seen = {network.entry}
    while network.mask_of is not None and network.mask_of in owners:
        network = owners[network.mask_of]
        yield network.entry
        if network.entry in seen:
            return
        seen.add(network.entry)
