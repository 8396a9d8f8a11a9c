"""What ``lacewing.run`` returns: the study's results, which print as tables and show as figures in a notebook."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lacewing.attackers import Attackers, answer
from lacewing.attribute import AttributeFindings
from lacewing.config import Comparison, validated
from lacewing.errors import UsageError, did_you_mean
from lacewing.mechanism import Mechanism
from lacewing.metrics import Estimate
from lacewing.property import PropertyFindings
from lacewing.reporting import networks_figure, slope_sentence
from lacewing.results import LABELS, AttackResult, NetworkResult, repeat, with_ends
from lacewing.support import frames
from lacewing.support.text import entry, html_table
from lacewing.tradeoff import (
    EXPLORATORY,
    Answer,
    Choice,
    Pick,
    Price,
    TradeOff,
    afford,
    attacks_over_inits,
    lines,
    pick,
)
from lacewing.tradeoff.cautions import collapsed_recipes
from lacewing.tradeoff.stability import Stability, spread_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 8  # networks that a terminal shows side by side
MOST_ROWS = 40  # networks that a terminal lists one by one; of more it shows a line a recipe


@dataclass(frozen=True)
class Result:
    """A study's results, from what is finished in its run folder."""

    folder: Path
    networks: tuple[NetworkResult, ...]
    attacks: tuple[AttackResult, ...]
    tradeoff: TradeOff | None
    cautions: tuple[str, ...]  # signatures of a result that must be read with care
    failed: tuple[str, ...]  # jobs that failed, a sentence each
    damaged: tuple[str, ...]  # files that are lost or are not what was published, each with the job that it is of
    missing: int  # planned networks and attacks that are not done
    precision: Mapping[str, Any] | None = None  # what `precision = "auto"` became here, and why
    answers: tuple[Answer, ...] = ()  # to the comparisons that the study declared, the primary one first
    mechanism: Mechanism | None = None  # why networks leak; None: no recipe has networks of several seeds
    prices: Mapping[str, Price] = field(default_factory=dict)  # by network: of its training
    halves: bool = False  # whether seeds 2j and 2j + 1 share one cut of the records
    stability: Stability | None = None  # over initialisations of one split; None: each split has one
    attribute: AttributeFindings | None = None  # what networks tell of columns; None: the study declares none
    attackers: Attackers | None = None  # every kind of attack on every recipe: which succeeds at which density

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def afford(self, percent: float) -> Choice | None:
        """The network with the best defence among those that lose at most ``percent`` % accuracy, relatively.

        Dense networks stopped early and recipes whose accuracy collapsed are never the answer. Every family competes,
        the dense one and controls too; beside a sparse network the choice names the control of most defence within the
        loss, and what both take to train.
        """
        if self.tradeoff is None:
            return None
        return afford(self.tradeoff, percent, self.prices, collapsed=collapsed_recipes(self.networks, self.attacks))

    def pick(self, accuracy: float, metric: str | None = None) -> Pick | None:
        """The recipe of least leak, sparse or not, whose mean test accuracy is at least ``accuracy``; None: none is.

        Beside it stands the best of the other side, sparse or not, with what both take to train. Every complete recipe
        competes. A description: the least of several noisy means is too low on average.

        Args:
            accuracy: wanted, a share.
            metric: ``"lira-online.auc"``, ``"discriminator.balanced_accuracy"``, ``"rmia-offline.tpr@0.01"``; default:
                that of the primary question, else the first attack's balanced accuracy or AUC.

        Raises:
            UsageError: ``accuracy`` is no share, or the study has no such attack or metric.
        """
        primary = next((answer.metric for answer in self.answers if answer.primary), None)
        first = self.tradeoff.attack if self.tradeoff else next((a.attack for a in self.attacks), None)
        if first is None:
            return None
        asked = metric or primary or f"{first}.{'balanced_accuracy' if self.tradeoff else 'auc'}"
        question = validated(Comparison, {"family": "any", "metric": asked})
        mine = [result for result in self.attacks if result.attack == question.attack]
        if not mine:
            known = did_you_mean(question.attack, {result.attack for result in self.attacks})
            raise UsageError(f"metric = '{asked}': that attack has no result here; {known}")
        of = lines(mine, question.column, halves=self.halves)
        return pick(of, accuracy, metric=f"{LABELS[question.column]} of {question.attack}", prices=self.prices)

    def table(self) -> list[dict[str, Any]]:
        """A dict per attack and network: name, seed, init, density, accuracies, and metrics with their intervals.

        A metric that the attack or n does not allow is None: there is no balanced accuracy, and so no defence, of an
        attack that had nothing to take a threshold from.
        """
        return self._rows(stops=True)

    def to_frame(self, of: str = "attacks") -> Any:
        """What the result prints as a ``pandas.DataFrame``; pandas must be installed.

        Args:
            of: "attacks": a row an attack and network, as in `table`; "networks": a row a trained network of either
                role; "means": AUC and TPR at 1 % FPR by attack and network, as printed: means over seeds, None where a
                seed has none; "mechanism": a row a target network with what it does to its records, as mechanism.csv;
                "predictors": how much of each leak each quantity of that table predicts; "largest": the largest of them
                beside that of chance; "temperature": the dense networks with their logits divided by a number;
                "spreads": accuracy and AUC of each recipe, their spread over splits and over initialisations;
                "collapsed": networks at chance or far below their recipe's others; "overlaps": how much masks of two
                initialisations share; "property": a row a recipe, pair of worlds and attack, as property.json;
                "attribute": a row a recipe and attack on columns, as attribute.json; "attackers": a row a recipe and
                kind of attack (membership, adaptive, property, reconstruction, attribute), as attackers.json;
                "answers": the declared questions, then what the slope and the number of seeds tell; "notes": cautions,
                failed jobs, lost and damaged files.

        Raises:
            UsageError: there is no such table, or pandas is not installed.
        """
        networks = [{name: value for name, value in asdict(each).items() if name != "curve"} for each in self.networks]
        said = [(kind, text) for kind in ("cautions", "failed", "damaged") for text in getattr(self, kind)]
        asked = ("family", "against", "metric", "verdict", "p", "p_corrected", "sentence")
        answers = [{name: getattr(each, name) for name in asked} for each in self.answers]
        answers += [{"sentence": sentence} for sentence in self._answers()[len(self.answers) :]]
        tables: dict[str, frames.Rows] = {
            "attacks": self.table(),
            "networks": networks,
            "means": self._means(),
            "answers": answers,
            "property": [] if self.property is None else [asdict(row) for row in self.property.rows],
            "attackers": [] if self.attackers is None else self.attackers.table(),
            "attribute": [] if self.attribute is None else [asdict(row) for row in self.attribute.rows],
            **{name: self._why(name) for name in ("mechanism", "predictors", "largest", "temperature")},
            **self._stable(),
            "notes": [{"kind": kind, "note": text} for kind, text in said],
        }
        return frames.data_frame(frames.chosen(tables, of))

    def _why(self, table: str) -> list[dict[str, Any]]:
        if self.mechanism is None:
            return []
        return [asdict(row) for row in getattr(self.mechanism, "networks" if table == "mechanism" else table)]

    def _stable(self) -> dict[str, frames.Rows]:
        found = self.stability
        names = ("collapsed", "overlaps")
        rows = {name: [asdict(row) for row in getattr(found, name)] if found is not None else [] for name in names}
        return {"spreads": spread_rows(found) if found is not None else [], **rows}

    def plot(self, attack: str | None = None, most: int = 8) -> Figure:
        """ROC curves of ``attack`` on the first ``most`` networks, and its AUC over their test accuracy.

        Default: the attack that the report is about. Dense networks stopped early are left out. Raises `UsageError`
        where the attack did not run.
        """
        shown = attacks_over_inits(result for result in self.attacks if not result.network.stopped)
        return networks_figure(shown, attack, most)

    def _means(self) -> list[dict[str, Any]]:
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in self._rows(stops=False, averaged=True):
            found.setdefault((row["attack"], row["network"]), []).append(row)
        return [
            {"attack": attack, "network": network, "seeds": len(rows)}
            | {metric: _mean([row[metric] for row in rows]) for metric in ("auc", "tpr_at_fpr_0.01")}
            for (attack, network), rows in found.items()
        ]

    def _rows(self, *, stops: bool, averaged: bool = False) -> list[dict[str, Any]]:
        """As in `table`, with or without the dense networks stopped early, the inits of a seed ``averaged`` or not."""
        rows = []
        for attack in attacks_over_inits(self.attacks) if averaged else self.attacks:
            if attack.network.stopped and not stops:
                continue
            network = attack.network
            accuracy, defence = attack.metrics["balanced_accuracy"], attack.metrics["defence"]
            area, tail = attack.metrics["auc"], attack.metrics["tpr_at_fpr_0.01"]
            rows.append(
                {
                    "network": network.network,
                    "seed": network.seed,
                    "init": network.init,
                    "density": network.density,
                    "train_accuracy": network.train_accuracy,
                    "test_accuracy": network.test_accuracy,
                    "attack": attack.attack,
                    **with_ends("balanced_accuracy", accuracy),
                    "defence": defence.value if defence else None,
                    **with_ends("auc", area),
                    **with_ends("tpr_at_fpr_0.01", tail),
                    "n": attack.n_members + attack.n_nonmembers,
                }
            )
        return rows

    def _repr_html_(self) -> str:
        """For notebooks: the trade-off's figure and the table, early stops left out."""
        rows = self._rows(stops=False)
        table = html_table(rows[0] if rows else (), (map(_shown, row.values()) for row in rows))
        verdict = html.escape(" ".join(self._answers() or ["no attack has run yet"]))
        figure = self.folder / "figures" / "tradeoff.svg"
        picture = ""
        if figure.is_file():
            data = base64.b64encode(figure.read_bytes()).decode()
            picture = f'<img alt="trade-off" src="data:image/svg+xml;base64,{data}">'
        return f"<p>{verdict}</p>{picture}{table}"

    def _answers(self) -> list[str]:
        """The declared answers, the slope and what so many seeds can tell; the rest is marked as exploratory."""
        said = [answer.sentence for answer in self.answers]
        if self.tradeoff:
            said += [slope_sentence(self.tradeoff.slope), self.tradeoff.power_sentence]
            said.append(f"All else is {EXPLORATORY}.")
        return said

    def __str__(self) -> str:
        rows = self._rows(stops=False)
        lead = [row for row in rows if row["attack"] == rows[0]["attack"]]
        title = f"{rows[0]['attack']} (balanced accuracy)" if rows else "no attack has run yet"
        lines = _one_each(lead, title) if len(lead) <= MOST_ROWS else _by_recipe(lead, title)
        rows = self._rows(stops=False, averaged=True)
        lines += _matrix(rows, "AUC, mean of seeds", "auc")
        lines += _matrix(rows, "TPR at 1 % FPR", "tpr_at_fpr_0.01")
        lines += self._told()
        lines += ["", *said] if (said := self._answers()) else []
        if self.tradeoff:
            choice = self.afford(5)
            if choice:
                lines.append(f"I can afford to lose 5 % accuracy: {choice.sentence}")
        lines += [f"note: {entry(sentence)}" for sentence in self.cautions]
        lines += [f"FAILED: {entry(sentence)}" for sentence in self.failed]
        lines += lost_or_damaged(self.damaged)
        return "\n".join(lines)

    def _told(self) -> list[str]:
        """How well attacks tell two shares of [property] apart, and guess columns of [attribute], of each network."""
        found = self.property
        rows = [] if found is None else [asdict(row) for row in found.rows]
        lines: list[str] = []
        for first, second in dict.fromkeys((row["first"], row["second"]) for row in rows):
            of = [row for row in rows if (row["first"], row["second"]) == (first, second)]
            title = f"{first:g} or {second:g} of {found.of if found else ''} (interval over seeds)"
            lines += _matrix(of, title, "accuracy", ends=True)
        guessed = [] if self.attribute is None else [asdict(row) for row in self.attribute.rows]
        return (
            lines + _matrix(guessed, "surplus on columns (interval over seeds)", "surplus", ends=True) + self._by_kind()
        )

    def _by_kind(self) -> list[str]:
        """Where several kinds of attack ran: the strongest of each on each recipe, and what that says."""
        found = self.attackers
        if found is None or len(found.ran) < 2:
            return []
        names = max([20, *(len(row.recipe.network) for row in found.rows)])
        lines = ["", f"{'strongest attack':<{names}}  " + "  ".join(f"{kind:>14}" for kind in found.ran)]
        for row in found.rows:
            cells = "  ".join(f"{_shown(row.cells[kind].value):>14}" for kind in found.ran)
            lines.append(f"{row.recipe.network:<{names}}  {cells}")
        return [*lines, answer(found)[0]]

    # What networks tell of [property]; None: the study declares none. Below the methods, since it hides the built-in.
    property: PropertyFindings | None = None


def _one_each(rows: Sequence[Mapping[str, Any]], title: str) -> list[str]:
    """A line a network: its attack with the interval over records."""
    width, names = max(28, len(title)), max([20, *(len(row["network"]) for row in rows)])
    seed = seed_title(row["init"] for row in rows)
    lines = [
        f"{'network':<{names}} {seed:>4} {'density':>8} {'train':>6} {'test':>6}  {title:<{width}} defence",
    ]
    for row in rows:
        value, low, high = (row[f"balanced_accuracy{end}"] for end in ("", "_low", "_high"))
        found = "–" if value is None else f"{Estimate(value, low, high).text()} n={row['n']}"
        lines.append(
            f"{row['network']:<{names}} {repeat(row['seed'], row['init']):>{len(seed)}} {row['density']:>8.2%} "
            f"{row['train_accuracy']:>6.3f} {row['test_accuracy']:>6.3f}  {found:<{width}} {_shown(row['defence']):>7}"
        )
    return lines


def _by_recipe(rows: Sequence[Mapping[str, Any]], title: str) -> list[str]:
    """A line a recipe: means over its networks, and the range of accuracy and attack."""
    width, names = max(22, len(title)), max([20, *(len(row["network"]) for row in rows)])
    recipes: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        recipes.setdefault(row["network"], []).append(row)
    lines = [f"{'network':<{names}} {'networks':>8} {'density':>8} {'train':>6}  {'test':<22} {title:<{width}} defence"]
    for network, of in recipes.items():
        test, attack = (_ranged([row[name] for row in of]) for name in ("test_accuracy", "balanced_accuracy"))
        density, train = (math.fsum(row[name] for row in of) / len(of) for name in ("density", "train_accuracy"))
        lines.append(
            f"{network:<{names}} {len(of):>8} {density:>8.2%} {train:>6.3f}  {test:<22} {attack:<{width}} "
            f"{_shown(_mean([row['defence'] for row in of])):>7}"
        )
    repeats = "seeds and initialisations" if any(row["init"] for row in rows) else "seeds"
    return [*lines, f"{len(rows)} networks: means over {repeats}, in brackets the range. Each network: results.csv"]


def _ranged(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    mean = _mean(list(values))
    return "–" if mean is None else f"{mean:.3f} ({min(known):.3f} to {max(known):.3f})"


def seed_title(inits: Iterable[int]) -> str:
    """The title of a column with seeds as `lacewing.results.repeat` writes them."""
    return "seed.init" if any(inits) else "seed"


def lost_or_damaged(damaged: Sequence[str]) -> list[str]:
    """Lines that name what is lost or damaged in a run folder, and say how it comes back; none where nothing is."""
    if not damaged:
        return []
    count = f"{len(damaged)} file{'s' * (len(damaged) > 1)}"
    them = "them" if len(damaged) > 1 else "it"
    return [f"LOST OR DAMAGED: {count}; `lacewing run` makes {them} again.", *(f"  {each}" for each in damaged)]


def _matrix(rows: list[dict[str, Any]], title: str, metric: str, *, ends: bool = False) -> list[str]:
    """Where several attacks ran: a metric's mean over seeds, of each attack on each network.

    ``ends``: each row is such a mean already, and its interval, ``low`` and ``high``, is told.
    """
    found: dict[tuple[str, str], list[float | None]] = {}
    for row in rows:
        found.setdefault((row["attack"], row["network"]), []).append(row[metric])
    attacks = list(dict.fromkeys(attack for attack, _ in found))
    networks = list(dict.fromkeys(network for _, network in found))
    if len(attacks) < 2 or len(networks) > _COLUMNS:
        return []
    said = {
        (attack, network): _shown(_mean(found.get((attack, network), []))) for attack in attacks for network in networks
    }
    if ends:
        said |= {(row["attack"], row["network"]): _with_ends(row, metric) for row in rows}
    width = max(map(len, (title, *attacks)))
    columns = [max(5, len(name), *(len(said[attack, name]) for attack in attacks)) for name in networks]
    lines = ["", f"{title:<{width}}  " + "  ".join(map(str.rjust, networks, columns))]
    for attack in attacks:
        cells = [said[attack, network] for network in networks]
        lines.append(f"{attack:<{width}}  " + "  ".join(map(str.rjust, cells, columns)))
    return lines


def _with_ends(row: Mapping[str, Any], metric: str) -> str:
    value, low, high = row[metric], row["low"], row["high"]
    return f"{_shown(value)} [{'no interval' if low is None or high is None else f'{low:.3f}, {high:.3f}'}]"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
