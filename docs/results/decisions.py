"""Per-record decisions of a published study: one bit for each record, network and attack, packed.

python docs/results/decisions.py runs/digits-halves docs/results/digits-halves     # writes decisions.npz
python docs/results/decisions.py docs/results/digits-halves                        # recomputes results.csv from it

They are published of public data alone. In a run folder of yours the same bits are private: SECURITY.md. From them
follow test accuracy, balanced accuracy, defence and advantage of every network and attack with their intervals, and so
slopes and differences; AUC and TPR at an FPR need the scores, which running the study makes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lacewing import metrics
from lacewing.metrics import Estimate
from lacewing.results import AttackResult, read_results_csv

NAME = "decisions.npz"
Bools = npt.NDArray[np.bool_]


class Decided(NamedTuple):
    """One attack's decisions about one network, in the order of the record's ids."""

    network: str
    attack: str
    record_N: npt.NDArray[np.int64]
    member_N: Bools
    correct_N: Bools  # whether the network classified the record rightly
    said_member_N: Bools

    def measured(self) -> Mapping[str, Estimate]:
        """The metrics of results.csv that follow from decisions."""
        accuracy = metrics.balanced_accuracy(self.said_member_N, self.member_N)
        return {
            "balanced_accuracy": accuracy,
            "defence": metrics.defence(accuracy),
            "advantage": metrics.advantage(accuracy),
        }


def write(path: Path, attacks: Sequence[AttackResult]) -> None:
    """Pack the decisions of every attack that makes them on M networks, each audited on N records.

    The arrays: ``network_M``, ``attack_A`` (names), ``record_MN`` (ids, ascending), ``member_MB``, ``correct_MB`` and
    ``said_member_AMB`` (bits, packed by ``numpy.packbits``), ``ran_AM`` (whether that attack was run on that network).
    """
    able = [a for a in attacks if a.hit_N.size]
    networks = list(dict.fromkeys(a.network.id for a in able))
    names = list(dict.fromkeys(a.attack for a in able))
    n = len(able[0].record_N)
    record = np.zeros((len(networks), n), np.int32)
    member, correct = (np.zeros((len(networks), n), bool) for _ in range(2))
    said = np.zeros((len(names), len(networks), n), bool)
    ran = np.zeros((len(names), len(networks)), bool)
    for a in able:
        m, k, order = networks.index(a.network.id), names.index(a.attack), np.argsort(a.record_N)
        record[m], member[m], correct[m] = a.record_N[order], a.member_N[order], a.correct_N[order]
        said[k, m] = (a.hit_N == a.member_N)[order]
        ran[k, m] = True
    np.savez_compressed(
        path,
        network_M=np.array(networks),
        attack_A=np.array(names),
        record_MN=record,
        member_MB=np.packbits(member, axis=-1),
        correct_MB=np.packbits(correct, axis=-1),
        said_member_AMB=np.packbits(said, axis=-1),
        ran_AM=ran,
    )


def read(path: Path) -> Iterator[Decided]:
    """Every attack on every network of a decisions.npz."""
    with np.load(path, allow_pickle=False) as found:
        arrays = dict(found)
    n = arrays["record_MN"].shape[1]
    member, correct, said = (
        np.unpackbits(arrays[name], axis=-1, count=n).astype(bool)
        for name in ("member_MB", "correct_MB", "said_member_AMB")
    )
    for k, m in zip(*np.nonzero(arrays["ran_AM"]), strict=True):
        names = str(arrays["network_M"][m]), str(arrays["attack_A"][k])
        yield Decided(*names, arrays["record_MN"][m], member[m], correct[m], said[k, m])


def differences(folder: Path) -> list[str]:
    """Where results.csv and what its decisions say are not the same; empty: nowhere."""
    _, attacks = read_results_csv(folder / "results.csv")
    decided = {(d.network, d.attack): d for d in read(folder / NAME)}
    wrong = []
    for result in attacks:
        if result.metrics["balanced_accuracy"] is None:
            continue
        found = decided[result.network.id, result.attack]
        measured = {"test_accuracy": float(found.correct_N[~found.member_N].mean())}
        stated = {"test_accuracy": result.network.test_accuracy}
        for name, estimate in found.measured().items():
            measured[name], stated[name] = estimate, result.metrics[name]  # type: ignore[assignment]
        wrong += [
            f"{result.attack} on {result.network.id}: {name} is {measured[name]}, and {stated[name]} in results.csv"
            for name in measured
            if not np.allclose(measured[name], stated[name], rtol=0, atol=1e-12)
        ]
    return wrong


def main(source: Path, target: Path | None = None) -> None:
    """Write decisions.npz from a run folder, or check the published one."""
    if target is not None:
        import lacewing

        write(target / NAME, lacewing.report(source).attacks)
    wrong = differences(target or source)
    sys.exit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
