"""The first layer's weights before training, for span attacks on a user's own model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lacewing.attacks import ATTACKS, spans_everything
from lacewing.auditing._attacks import Attacks, Chosen
from lacewing.errors import UsageError

if TYPE_CHECKING:
    from lacewing.auditing._ask import Answers
    from lacewing.auditing._call import Array
    from lacewing.auditing._inputs import RawData
    from lacewing.auditing._records import Records

NEED = "initialisation"  # as attacks name it
_FEW = 4  # records that tell what the first layer sees
_MINE = ("span", "span-candidates")


def with_spans(chosen: Chosen, attacks: Attacks, initial: Any, *, augmented: bool) -> Chosen:
    """The attacks of an audit, with those that read ``initial`` where it is given and "all" is asked for.

    Raises `UsageError`: it is given and nothing can read it, or an attack that needs it is asked for without it.
    """
    if initial is None:
        if lacking := sorted(a.name for a in chosen.attacks if a.name in chosen.required and NEED in a.needs):
            raise UsageError(
                f"attacks: '{lacking[0]}' cannot run. It needs the first layer's weights at initialisation: pass "
                "initial=, the network before training or these weights, (units, inputs)."
            )
        return chosen
    if augmented:
        raise UsageError(
            "initial and augmented=True: of answers that vary only the outputs are looked at, so leave one out."
        )
    if "all" in ([attacks] if isinstance(attacks, str) else list(attacks) if isinstance(attacks, Sequence) else []):
        own = [ATTACKS[name] for name in _MINE]
        return Chosen(tuple(dict.fromkeys((*chosen.attacks, *own))), chosen.required | set(_MINE))
    if not any(NEED in attack.needs for attack in chosen.attacks):
        raise UsageError("initial: no attack that is asked for reads it; name 'span', or leave it out.")
    return chosen


def weights(initial: Any, model: Any, answers: Answers, records: Records, why: str | None) -> Array:
    """(H, D) the first layer's weights before training.

    Args:
        initial: see `lacewing.audit`.
        model: the audited one.
        answers: its own, with its first layer.
        records: of the audit; their members are all that it was trained on.
        why: what is wrong with its first layer; None: nothing.

    Raises:
        UsageError: ``initial`` is of another form or network, or span attacks cannot run on the model.
    """
    if answers.weights_HD is None or answers.inputs_ND is None:
        reason = why or "Span attacks read the weights of a torch module."
        raise UsageError(f"initial is for span attacks, and they cannot run. {reason}")
    if everything := spans_everything(int(records.member_N.sum()), answers.weights_HD.shape[1]):
        raise UsageError(f"initial is for span attacks, and they cannot run: {everything}.")
    found, shape = _array(initial, model, records.audited), answers.weights_HD.shape
    if found.shape != shape or found.dtype.kind not in "fiu":
        raise UsageError(
            f"initial has shape {found.shape} and dtype {found.dtype}, and the first layer {shape}: give its weights "
            "before training, (units, inputs), or the network then."
        )
    if not np.isfinite(found).all():
        raise UsageError("initial holds NaN or infinite values: give the weights that training began with.")
    if np.array_equal(found.astype(np.float32), answers.weights_HD.astype(np.float32)):
        raise UsageError("initial holds the trained weights: store a copy before training, copy.deepcopy(model).")
    return found.astype(np.float32)


def _array(initial: Any, model: Any, records: RawData) -> Array:
    import torch
    from torch import nn

    from lacewing.auditing._call import as_tensor
    from lacewing.reconstruction import first_layer

    found = initial
    if isinstance(initial, nn.Module | Mapping):
        name = first_layer(model, as_tensor(model, records.x[:_FEW]))
        key = f"{name}.weight" if name else "weight"
        owner = initial if isinstance(initial, Mapping) else dict(initial.named_modules()).get(name)
        found = owner.get(key) if isinstance(owner, Mapping) else getattr(owner, "weight", None)
        if found is None:
            raise UsageError(f"initial has no '{key}', the first layer of the model: give the same network.")
    if isinstance(found, torch.Tensor):
        found = found.detach().float().cpu().numpy()
    return np.asarray(found)
