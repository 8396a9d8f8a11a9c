"""SAMIA: a self-attention network that tells members from non-members, trained on a shadow network.

Yuan and Zhang, "Membership inference attacks and defenses in neural network pruning", USENIX Security 2022 (arXiv
2202.03335). A query becomes C tokens, one a class: (output for that class, sensitivity, 1 if it is the given label).
Theirs: embedding of 64, 4 heads, feed-forward 128, GELU, the tokens' outputs side by side into a hidden layer of 64.
Ours: the sensitivity is one number for the record, the same in each token (theirs has one a class); columns
standardised on the shadow, not batch-normalised; one attention block, not three; weight decay 5e-4 with AdamW and
dropout 0.2 before the head alone; and four candidates, two learning rates seen half-way and at the end, chosen on a
fifth of the shadow's queries as the discriminators are.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lacewing.attacks._discriminator import USUAL, Discrimination, Features, choose, learned, prepare, usual
from lacewing.attacks._types import Attack, Evidence, Scored
from lacewing.errors import UsageError
from lacewing.metrics import Floats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator, Tensor

LEARNING_RATES = (3e-3, 1e-3)
EMBEDDING, HEADS, FEED_FORWARD = 64, 4, 128
DROPOUT = 0.2
WEIGHT_DECAY = 5e-4
BATCH = 128
# Queries seen in a fit: 20 epochs of the 1,600 that 2,000 shadow records leave; never under 10 epochs or over 40.
SEEN, EPOCHS = 32_000, (10, 40)
LARGEST = 100.0  # standard deviations: a wilder feature of the target counts as this one, so that float32 holds it


def attack(evidence: Evidence, *, seed: int) -> Scored:
    """Self-attention over the classes of a query, trained on the shadow. The oracle is the best of four candidates.

    Raises `UsageError` where shadow or sensitivity is missing, and as `attend` does.
    """
    return learned(
        lambda seen, role: [usual(seen.observed, role)],
        evidence,
        evidence.shadow,
        seed=seed,
        shown=f"{USUAL}, as one token a class",
        learner=attend,
    )


def attend(
    shadow_features: npt.ArrayLike,
    shadow_member: npt.ArrayLike,
    target_features: npt.ArrayLike,
    target_member: npt.ArrayLike,
    *,
    seed: int,
) -> Discrimination:
    """Fit the self-attention networks on the shadow's queries, choose one there, and apply all to the target's.

    Features have shape (records, 2 C + 1), as `features` gives them. Hold-out, standardisation and choice are those of
    `discriminate`, ties going to the larger learning rate, then to the shorter fit. On the CPU in float32 with one
    thread; the global random state and the number of threads stay as they were. Equal arguments give equal bytes on
    one kind of machine. Raises `UsageError` as `discriminate` does.
    """
    data = prepare(shadow_features, shadow_member, target_features, target_member, seed=seed)
    if data.fit.shape[1] < 5 or data.fit.shape[1] % 2 == 0:
        raise UsageError(f"SAMIA got {data.fit.shape[1]} features: give 2 C + 1 of C classes, as `features` does.")
    scores: dict[str, Floats] = {}
    with _one_thread():
        for index, lr in enumerate(LEARNING_RATES):
            drawn = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
            for epochs, score in _fit_and_score(data, lr, seed=drawn):
                scores[f"self-attention, lr {lr:g}, {epochs} epochs"] = score
    return choose(scores, data)


def _fit_and_score(data: Features, lr: float, *, seed: int) -> Iterator[tuple[int, Floats]]:
    """P(member) of the held-out and the target's queries, after half of the epochs and after all."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    x, ask = _tokens(data.fit), _tokens(data.ask)
    member = torch.from_numpy(data.fit_is.astype(np.float32))
    generator = torch.Generator().manual_seed(seed)
    weights = _initial(x.shape[1], generator)
    optimiser = torch.optim.AdamW(weights.values(), lr=lr, weight_decay=WEIGHT_DECAY)
    epochs = min(max(SEEN // len(x), EPOCHS[0]), EPOCHS[1])
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(x), generator=generator)
        for batch in torch.split(order, max(BATCH, -(-len(x) // 40))):  # at most 40 steps an epoch, as elsewhere
            loss = binary_cross_entropy_with_logits(_forward(weights, x[batch], generator), member[batch])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        if epoch in (epochs // 2, epochs):
            with torch.no_grad():
                logit = torch.cat([_forward(weights, part) for part in torch.split(ask, 500)])
            yield epoch, torch.sigmoid(logit.double()).numpy()


def _tokens(features: Floats) -> Tensor:
    """Standardised features (N, 2 C + 1) as tokens (N, C, 3) of float32."""
    import torch

    classes = features.shape[1] // 2
    label, output = features[:, :classes], features[:, classes : 2 * classes]
    tokens = np.stack([output, np.broadcast_to(features[:, 2 * classes :], output.shape), label], axis=2)
    return torch.from_numpy(np.clip(tokens, -LARGEST, LARGEST).astype(np.float32))


def _initial(classes: int, generator: Generator) -> dict[str, Tensor]:
    """Weights drawn from ``generator`` alone: uniform with variance 1/(3 fan_in), as PyTorch's; biases zero."""
    import torch

    shapes = {
        "embed": (EMBEDDING, 3),
        "attend": (3 * EMBEDDING, EMBEDDING),
        "mix": (EMBEDDING, EMBEDDING),
        "widen": (FEED_FORWARD, EMBEDDING),
        "narrow": (EMBEDDING, FEED_FORWARD),
        "hidden": (EMBEDDING, EMBEDDING * classes),
        "answer": (1, EMBEDDING),
    }
    weights = {}
    for name, (rows, columns) in shapes.items():
        drawn = torch.rand((rows, columns), generator=generator, dtype=torch.float32, device="cpu")
        weights[name] = (2 * drawn - 1) / columns**0.5
        weights[f"{name} bias"] = torch.zeros(rows, dtype=torch.float32, device="cpu")
    return {name: weight.requires_grad_() for name, weight in weights.items()}


def _forward(weights: dict[str, Tensor], tokens_NC3: Tensor, drop: Generator | None = None) -> Tensor:
    """The logit of membership of each query; ``drop`` draws the dropout while fitting."""
    import torch
    from torch.nn.functional import gelu, layer_norm, linear, relu, scaled_dot_product_attention

    def through(name: str, x: Tensor) -> Tensor:
        return linear(x, weights[name], weights[f"{name} bias"])

    n, classes, _ = tokens_NC3.shape
    x = gelu(through("embed", tokens_NC3))
    query, key, value = through("attend", x).view(n, classes, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    seen = scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(n, classes, EMBEDDING)
    x = layer_norm(x + through("mix", seen), (EMBEDDING,))
    x = layer_norm(x + through("narrow", gelu(through("widen", x))), (EMBEDDING,))
    x = x.reshape(n, classes * EMBEDDING)
    if drop is not None:
        kept = torch.rand(x.shape, generator=drop, dtype=torch.float32, device="cpu") >= DROPOUT
        x = x * kept / (1 - DROPOUT)
    return through("answer", relu(through("hidden", x)))[:, 0]


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, gradients on, whatever the caller has set: sums in one order on any number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_num_threads(threads)


ENTRIES: tuple[Attack, ...] = (
    Attack(
        name="samia",
        family="samia",
        threat_model=(
            "The attacker queries the network for its class probabilities, also near a record, knows the record's "
            "class, and trains a shadow network of the same recipe, pruning included, on other records of the same "
            "source."
        ),
        function=attack,
        needs=frozenset({"sensitivity", "shadow"}),
    ),
)
