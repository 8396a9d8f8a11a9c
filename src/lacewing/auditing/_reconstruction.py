"""The audit by reconstruction: which training records can be rebuilt from a user's network, beside the prior alone."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lacewing import metrics
from lacewing.attacks._deciding import SelfCheck
from lacewing.attacks._logits import phi
from lacewing.attacks._types import Task
from lacewing.auditing import _held, _json, _rebuild
from lacewing.auditing._inputs import LEAST
from lacewing.auditing._outputs import Outputs
from lacewing.auditing._rebuild import Held, Outcome
from lacewing.errors import UsageError, did_you_mean
from lacewing.metrics import Estimate, Floats
from lacewing.reconstruction import Beside, beside
from lacewing.support import numbers
from lacewing.support.files import out_folder, write_atomically
from lacewing.support.formats import read_arrays
from lacewing.support.text import entry, say

SCHEMA = 1
MOST_TARGETS, MOST_STEPS = 1_000, 100_000
PICTURES, DOCUMENT = "reconstruction.png", "reconstruction.json"  # in the folder
ATTACKS: Mapping[str, str] = {
    "informed": "The attacker holds the network, all of its training records but one, and the weight decay.",
    "inversion": "The attacker holds the network.",
    "stationarity": "The attacker holds the network, the number of its training records and the mean of its source.",
}
_NOTE = "Members must be all records that the network was trained on."


@dataclass(frozen=True)
class Reconstruction:
    """What one attack rebuilt, judged by similarity (cosine about the mean record), beside the prior alone."""

    attack: str
    of: str  # "inputs", or "features": what the last layer sees
    judged: Beside
    membership: Estimate  # AUC of the log-odds of the label on the same records: plain membership inference
    share: float  # of the values that were rebuilt; a mask hides others
    tries: int  # what was rebuilt: a similarity is that with the most similar of so many
    nearest_tries: int  # the same of other records
    gate: float | None  # what the attack's gate measured; None: it has none
    n_members: int
    n_others: int


@dataclass(frozen=True)
class ReconstructionAudit:
    """What attacks rebuilt of the training records. It holds nothing of single records. ``print`` shows a table."""

    rows: tuple[Reconstruction, ...]
    refused: Mapping[str, str]  # by attack: why it did not run
    retrained: bool  # whether the last layer that 'informed' attacks was trained for the audit
    selfchecks: tuple[SelfCheck, ...]
    n_prior: int  # other records that tell what the prior alone gives
    notes: tuple[str, ...]
    folder: Path | None

    @property
    def sentence(self) -> str:
        """The answer: what was rebuilt, or up to which AUC nothing was; or that the audit cannot say."""
        doubted = [row for row in self.rows if not (self.retrained and row.attack == "informed")]
        why = " ".join(check.sentence for check in self.selfchecks if not check.passed)
        if found := [row for row in self.rows if row.judged.found]:
            best = max(found, key=lambda row: row.judged.rebuilt.auc.value)
            at = best.judged
            return (
                f"Training records can be rebuilt: '{best.attack}' tells them from others with an AUC of "
                f"{at.rebuilt.auc.text('.3f')}; who knows the prior alone reaches "
                f"{max(at.nearest.auc.value, at.class_mean.auc.value):.3f}. Similarity to training records "
                f"{at.rebuilt.similarity.text('.3f')} (the best of {best.tries}), of the nearest other record "
                f"{at.nearest.similarity.text('.3f')} (the best of {best.nearest_tries}); "
                f"n = {best.n_members} members and {best.n_others} others."
                + (f" But this may be no leak of the model that is meant: {why}" if why and best in doubted else "")
            )
        highest = max(self.rows, key=lambda row: row.judged.rebuilt.auc.high)
        if why and doubted:
            return (
                f"This audit cannot say which training records can be rebuilt: {why} No attack rebuilt any; n = "
                f"{highest.n_members} members and {highest.n_others} others."
            )
        attacks = f"{len(self.rows)} attack{'s' * (len(self.rows) > 1)}"
        return (
            f"No reconstruction beyond the prior found above an AUC of {highest.judged.rebuilt.auc.high:.3f} (of "
            f"{attacks} the highest upper end of a 95 % interval) at n = {highest.n_members} members "
            f"and {highest.n_others} others; attacks that were not run may find more."
        )

    def table(self) -> list[dict[str, Any]]:
        """A dict an attack: AUC and similarity of what was rebuilt and of both priors, each with its ends."""
        rows = []
        for row in self.rows:
            cells: dict[str, Any] = {"attack": row.attack, "threat_model": ATTACKS[row.attack], "of": row.of}
            for who in ("rebuilt", "nearest", "class_mean"):
                for what in ("auc", "similarity"):
                    estimate: Estimate = getattr(getattr(row.judged, who), what)
                    name = what if who == "rebuilt" else f"{who}_{what}"
                    cells |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            cells |= {
                "membership_auc": row.membership.value,
                "membership_auc_low": row.membership.low,
                "membership_auc_high": row.membership.high,
            }
            cells |= {"tries": row.tries, "nearest_tries": row.nearest_tries}
            counts = {"share": row.share, "gate": row.gate, "n_members": row.n_members, "n_others": row.n_others}
            rows.append(cells | counts | {"found": row.judged.found})
        return rows

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``json.dumps``, with a ``schema`` number; it holds nothing of single records."""
        return {
            "schema": SCHEMA,
            "sentence": self.sentence,
            "attacks": _json.plain(self.table()),
            "refused": dict(self.refused),
            "n_prior": self.n_prior,
            "selfchecks": [vars(check) for check in self.selfchecks],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [
            [
                "attack",
                "of",
                "AUC",
                "nearest",
                "mean",
                "membership",
                "similarity",
                "nearest",
                "mean",
                "best of",
                "rebuilt",
            ]
        ]
        for row in self.rows:
            who = (row.judged.rebuilt, row.judged.nearest, row.judged.class_mean)
            aucs = [each.auc.text(".3f") if each is who[0] else f"{each.auc.value:.3f}" for each in who]
            alike = [each.similarity.text(".3f") if each is who[0] else f"{each.similarity.value:.3f}" for each in who]
            tries = f"{row.tries}, {row.nearest_tries}"
            lines.append([row.attack, row.of, *aucs, f"{row.membership.value:.3f}", *alike, tries, f"{row.share:.0%}"])
        widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
        text = [self.sentence, ""]
        text += ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        text.append(
            "AUC: training records against others; nearest, mean: with other records, or class means, in place of what "
            "was rebuilt; membership: by the loss alone; similarity: mean cosine with the training records about the "
            "mean record; best of: how many rebuilt records, and how many other records, the most similar is taken of, "
            "and the best of more is more similar by chance alone; 95 % intervals, not corrected for the number of "
            "attacks; the sentence above is."
        )
        said = [f"check {'passed' if c.passed else 'FAILED'}: {c.sentence}" for c in self.selfchecks]
        said += [f"not run: {name}: {why}" for name, why in self.refused.items()]
        return "\n".join([*text, *map(entry, [*said, *(f"note: {note}" for note in self.notes)])])


@torch.inference_mode(False)  # some attacks need gradients, whatever the caller's mode is
def reconstruct(
    model: Any,
    members: Any,
    nonmembers: Any,
    *,
    attacks: str | Sequence[str] = "all",
    population: Any = None,
    l2: float | None = None,
    retrain: bool = False,
    targets: int = 50,
    steps: int = 1000,
    out: Path | str | None = None,
    show_records: bool = False,
    seed: int = 0,
    task: Task = "classification",
    outputs: Outputs | None = None,
    classes: Any = None,
    collate: Callable[[list[Any]], Any] | None = None,
    progress: bool = True,
) -> ReconstructionAudit:
    """Which training records of ``model`` can be rebuilt from its weights, beside an adversary with the prior alone.

    Args:
        model: a torch module that answers logits.
        members: all records it was trained on, ``(x, y)`` as for `lacewing.audit`, x floats.
        nonmembers: records of the same source that it never saw. Those equal to a member are left out.
        attacks: "all" (what cannot run stands in ``refused``), or what must run: "informed" (the last layer, all
            records but one known), "inversion" (a picture of each class), "stationarity" (perceptrons of two layers for
            two classes, few records).
        population: further records that it never saw, the attacker's prior. None: half of the nonmembers.
        l2: weight decay on the last layer. None: that which fits the members best.
        retrain: train the last layer to a stationary point with ``l2`` first, on features of the members, under its
            mask: for features that are published or reused. The model given does not change.
        targets: most members that are once the missing one.
        steps: of stationarity.
        out: folder for reconstruction.json, and for finished attacks: a call that was interrupted goes on from there.
        show_records: write reconstruction.png there: what was rebuilt beside the training record next to it, up to 8 an
            attack, of images (N, C, H, W) with one channel or three. It shows private data.
        seed: of the draws.
        task: "classification" or "binary".
        outputs: see `lacewing.audit`.
        classes: see `lacewing.audit`.
        collate: see `lacewing.audit`.
        progress: say on standard error which attack runs.

    Raises:
        UsageError: an argument is not as described, a named attack cannot run, or none can.
    """
    names, required = _names(attacks)
    settings = {
        "l2": None if l2 is None else numbers.number("l2", l2, 0.0, 1e6),
        "retrain": retrain,
        "targets": numbers.whole("targets", targets, LEAST, MOST_TARGETS),
        "steps": numbers.whole("steps", steps, 1, MOST_STEPS),
        "seed": numbers.seed(seed),
    }
    if not isinstance(retrain, bool) or (retrain and not settings["l2"]):
        raise UsageError("retrain=True trains the last layer with weight decay: give l2 above 0, such as l2=0.001.")
    folder = out_folder(out, "rebuilt")
    if show_records and folder is None:
        raise UsageError("show_records=True writes pictures of records: give out, a folder for them.")
    notes: list[str] = []
    form = {"classes": classes, "collate": collate}
    held, logits, checks = _held.held(
        model, members, nonmembers, population, task, outputs, form, notes, settings, show_records
    )
    if show_records and (held.audited.x.ndim != 4 or held.audited.x.shape[1] not in (1, 3)):
        raise UsageError(
            f"show_records=True shows images (N, C, H, W) with C = 1 or 3, and records have shape "
            f"{held.audited.x.shape[1:]}: leave it out."
        )
    ready, refused = {}, {}
    for name in names:
        try:
            ready[name] = _rebuild.ATTACKS[name](held)
        except UsageError as error:
            why = str(error).rstrip(".").replace("'inner.", "'")  # a module is asked as the inner one of another
            refused[name] = f"{why}."
            if required:
                raise UsageError(f"attacks: '{name}' cannot run: {refused[name]}") from None
    if not ready:
        raise UsageError(f"no attack can run. {' '.join(f'{name}: {why}' for name, why in refused.items())}")
    key = _digest(held, logits, settings)
    outcomes: dict[str, Outcome] = {}
    for name, run in ready.items():
        place = None if folder is None else folder / "rebuilt" / f"{name}-{key}.npz"
        found = _stored(place, len(held.audited))
        if found is None:
            if progress:
                say(f"reconstruction: {name}", sys.stderr)
            found = run()
            if place is not None:
                write_atomically(place, _bytes(found), within=folder)
        outcomes[name] = found
    rows = tuple(_row(name, found, held, logits, len(outcomes)) for name, found in outcomes.items())
    audit = ReconstructionAudit(rows, refused, retrain, checks, len(held.prior), (*notes, _NOTE), folder)
    if folder is not None:
        write_atomically(folder / DOCUMENT, json.dumps(audit.as_json(), indent=1), within=folder)
        (folder / PICTURES).unlink(missing_ok=True)  # of an earlier call: pictures are there only where asked for
        _forget_pictures(folder, key)
        if show_records:
            _draw(folder, outcomes, held)
    return audit


def _names(attacks: str | Sequence[str]) -> tuple[list[str], bool]:
    """The attacks to run, and whether each of them must."""
    each = list(attacks) if isinstance(attacks, Sequence) and not isinstance(attacks, str) else [attacks]
    if each == ["all"]:
        return list(ATTACKS), False
    if not each:
        raise UsageError("attacks is empty: give 'all' or names of attacks.")
    for name in each:
        if not isinstance(name, str) or name not in ATTACKS:
            raise UsageError(f"attacks: there is no '{name}': {did_you_mean(str(name), ATTACKS)}")
    return [name for name in ATTACKS if name in each], True


def _digest(held: Held, logits: Floats, settings: Mapping[str, Any]) -> str:
    """Of all that an attack's result depends on: the network by its weights, its modules and its answers."""
    digest = hashlib.sha256(json.dumps([SCHEMA, held.pictures, settings], sort_keys=True).encode())
    network = held.model.get_submodule("inner")
    digest.update(repr(network).encode())
    arrays = [held.audited.x, held.audited.y, held.member_N, held.prior.x, held.prior.y, logits]
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        arrays.append(tensor.detach().double().cpu().numpy())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


_FIELDS = (
    *("scores_3n", "row_n", "gate", "share", "of_features", "tries", "nearest_tries"),
    *("rebuilt_PD", "true_P"),
)


def _bytes(found: Outcome) -> bytes:
    stream = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(getattr(found, name)) for name in _FIELDS}
    np.savez(stream, **arrays)
    return stream.getvalue()


def _stored(path: Path | None, records: int) -> Outcome | None:
    """A finished attack; None: there is none, or its file is damaged, so that the attack runs again."""
    if path is None or not path.is_file():
        return None
    try:
        arrays = read_arrays(path)
    except UsageError:
        return None
    if set(arrays) != set(_FIELDS) or arrays["scores_3n"].shape != (3, arrays["row_n"].size):
        return None
    rows = np.concatenate([arrays["row_n"], arrays["true_P"]])
    if rows.dtype.kind != "i" or ((rows < 0) | (rows >= records)).any() or not np.isfinite(arrays["scores_3n"]).all():
        return None
    numbers_of = {name: arrays[name].item() for name in ("gate", "share", "of_features", "tries", "nearest_tries")}
    return Outcome(**{**arrays, **numbers_of})


def _forget_pictures(folder: Path, key: str) -> None:
    """Delete what earlier calls with other settings rebuilt and kept to show; what cannot be read may be that too."""
    for path in (folder / "rebuilt").glob("*-*.npz"):
        attack, _, of = path.stem.rpartition("-")
        if attack not in ATTACKS or of == key:
            continue
        try:
            shown = read_arrays(path).get("rebuilt_PD")
        except UsageError:
            shown = None
        if shown is None or shown.size:
            path.unlink(missing_ok=True)


def _row(name: str, found: Outcome, held: Held, logits: Floats, attacks: int) -> Reconstruction:
    member = held.member_N[found.row_n]
    rebuilt, nearest, mean = found.scores_3n
    odds = np.clip(phi(logits[found.row_n], held.audited.y[found.row_n]), -1e6, 1e6)
    return Reconstruction(
        attack=name,
        of="features" if found.of_features else "inputs",
        judged=beside(rebuilt, nearest, mean, member, attacks=attacks),
        membership=metrics.auc(odds, member),
        share=found.share,
        tries=found.tries,
        nearest_tries=found.nearest_tries,
        gate=None if np.isnan(found.gate) else found.gate,
        n_members=int(member.sum()),
        n_others=int((~member).sum()),
    )


def _draw(folder: Path, outcomes: Mapping[str, Outcome], held: Held) -> None:
    from lacewing.reporting._pictures import pictures

    shape = held.audited.x.shape[1:]
    rows = {
        name: (found.rebuilt_PD.reshape(-1, *shape), held.audited.x[found.true_P]) for name, found in outcomes.items()
    }
    write_atomically(folder / PICTURES, pictures(rows), within=folder)
