"""What ``lacewing.run`` returns: the study's results, which print as tables and show as figures in a notebook."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lacewing.results import AttackResult, NetworkResult
from lacewing.tradeoff import Choice, TradeOff, afford


@dataclass(frozen=True)
class Result:
    """A study's results, from what is finished in its run folder."""

    folder: Path
    networks: tuple[NetworkResult, ...]
    attacks: tuple[AttackResult, ...]
    tradeoff: TradeOff | None
    cautions: tuple[str, ...]  # signatures of a result that must be read with care
    failed: tuple[str, ...]  # jobs that failed, a sentence each
    missing: int  # planned networks and attacks that are not done

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def afford(self, percent: float) -> Choice | None:
        """The network with the best defence among those that lose at most ``percent`` % accuracy, relatively."""
        return afford(self.tradeoff, percent) if self.tradeoff else None

    def table(self) -> list[dict[str, Any]]:
        """A dict per attacked network: name, seed, density, accuracies, balanced accuracy with interval, defence."""
        rows = []
        for attack in self.attacks:
            network, found = attack.network, attack.metrics
            accuracy, defence = found["balanced_accuracy"], found["defence"]
            assert accuracy is not None
            assert defence is not None
            rows.append(
                {
                    "network": network.network,
                    "seed": network.seed,
                    "density": network.density,
                    "train_accuracy": network.train_accuracy,
                    "test_accuracy": network.test_accuracy,
                    "attack": attack.attack,
                    "balanced_accuracy": accuracy.value,
                    "low": accuracy.low,
                    "high": accuracy.high,
                    "defence": defence.value,
                    "n": attack.n_members + attack.n_nonmembers,
                }
            )
        return rows

    def _repr_html_(self) -> str:
        """For notebooks: the trade-off's figure and the table."""
        rows = self.table()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in (rows[0] if rows else {}))
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_shown(value))}</td>" for value in row.values()) + "</tr>"
            for row in rows
        )
        verdict = html.escape(self.tradeoff.slope.sentence) if self.tradeoff else "no attack has run yet"
        figure = self.folder / "figures" / "tradeoff.svg"
        picture = ""
        if figure.is_file():
            data = base64.b64encode(figure.read_bytes()).decode()
            picture = f'<img alt="trade-off" src="data:image/svg+xml;base64,{data}">'
        return f"<p>{verdict}</p>{picture}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __str__(self) -> str:
        lines = [
            f"{'network':<20} {'seed':>4} {'density':>8} {'train':>6} {'test':>6}  attack (balanced accuracy)   defence"
        ]
        for row in self.table():
            lines.append(
                f"{row['network']:<20} {row['seed']:>4} {row['density']:>8.2%} {row['train_accuracy']:>6.3f} "
                f"{row['test_accuracy']:>6.3f}  {row['balanced_accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}] "
                f"n={row['n']:<6} {row['defence']:>6.3f}"
            )
        if self.tradeoff:
            lines += ["", self.tradeoff.slope.sentence]
            choice = self.afford(5)
            if choice:
                lines.append(f"I can afford to lose 5 % accuracy: {choice.sentence}")
        lines += [f"note: {sentence}" for sentence in self.cautions]
        lines += [f"FAILED: {sentence}" for sentence in self.failed]
        return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
