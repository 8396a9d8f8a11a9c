"""How stable a study with several initialisations is: gathers `lacewing.tradeoff.stability` from a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lacewing.errors import FolderError, UsageError
from lacewing.results import AttackResult, NetworkResult
from lacewing.study.declared import Study
from lacewing.study.plan import NetworkJob
from lacewing.study.store import Store
from lacewing.tradeoff.stability import Masks, Overlap, Stability, collapsed, overlap, spreads


def stability(
    store: Store,
    study: Study,
    done: Sequence[NetworkJob],
    networks: Sequence[NetworkResult],
    attacks: Sequence[AttackResult],
    *,
    attack: str | None,
    classes: int,
    failed: Sequence[str],
) -> Stability | None:
    """What the initialisations of a study tell; None where each seed has one.

    Args:
        store: of the run folder.
        study: the study.
        done: the finished networks, and ``networks``, the result of each.
        attacks: results of all attacks.
        attack: the leading one, whose AUC is the leak.
        classes: of the data set.
        failed: the sentences of the jobs that failed.

    Raises:
        FolderError: the masks of a network hold something else than what we write.
    """
    if study.run.inits == 1:
        return None
    overlaps, dropped = _overlaps(store, [job for job in done if not job.imposed])
    return Stability(
        inits=study.run.inits,
        attack=attack,
        spreads=spreads(networks, attacks, attack, halves=study.data.split == "random-halves"),
        collapsed=collapsed(networks, classes),
        diverged=tuple(sentence for sentence in failed if "the loss became" in sentence or "with NaN" in sentence),
        overlaps=overlaps,
        dropped=dropped,
    )


def _overlaps(store: Store, done: Sequence[NetworkJob]) -> tuple[tuple[Overlap, ...], int]:
    """Of each recipe with masks, over targets and shadows; and how many masks are not there any more."""
    splits: dict[str, dict[tuple[str, int], list[Path]]] = {}
    dropped = 0
    for job in done:
        if "masks.safetensors" not in (store.read_job(job.key) or {"files": {}})["files"]:
            continue
        path = store.file(job.key, "masks.safetensors")
        if path is None:
            dropped += 1
        else:
            splits.setdefault(job.network, {}).setdefault((job.role, job.seed), []).append(path)
    found = (
        overlap(network, ([_read(path) for path in of] for of in each.values())) for network, each in splits.items()
    )
    return tuple(each for each in found if each is not None), dropped


def _read(path: Path) -> Masks:
    from lacewing.sparsify.masks import load_masks

    try:
        return {name: mask.numpy() for name, mask in load_masks(path).items()}
    except UsageError as error:
        raise FolderError(f"{error} Remove that folder, and run the study again.") from None
