"""Reference networks that are none: copies in any storage are refused, and different networks never are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lacewing.attacks._logits import phi
from lacewing.attacks._references import by_side, like_target, refuse_twins
from lacewing.attacks._types import Observed, References
from lacewing.attacks.selfchecks import shadow_like_target
from lacewing.errors import UsageError

N, C = 200, 4
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, C, N)


def outputs(seed, *, scale=3.0, shared=0.0):
    """Logits of a network; ``shared`` is what it has in common with others of its recipe."""
    common = np.random.default_rng(99).normal(size=(N, C))
    own = np.random.default_rng(seed).normal(size=(N, C))
    return scale * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)


def bfloat16(x):
    return torch.from_numpy(x).bfloat16().float().numpy()


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


COPIES = {
    "itself": lambda x: x,
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "bfloat16": bfloat16,
    "shifted": lambda x: x + RNG.normal(size=(N, 1)) * 5,
    "shifted, float16": lambda x: (x + RNG.normal(size=(N, 1)) * 5).astype(np.float16),
    "log-probabilities": log_softmax,
    "log-probabilities, float16": lambda x: log_softmax(x).astype(np.float16),
    "log-probabilities, bfloat16": lambda x: bfloat16(log_softmax(x)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("scale", [0.3, 3.0, 1000.0])
def test_copies_of_one_network_are_refused_by_their_names(copied, scale):
    answers = {"the model": outputs(0, scale=scale), **{f"reference {k}": outputs(k, scale=scale) for k in (1, 2, 3)}}
    assert refuse_twins(answers, mend="") == []
    for other, twin in (("the model", "reference 3"), ("reference 1", "reference 2")):
        with pytest.raises(UsageError, match=f"{twin} is the same network as {other}, by its answers: do"):
            refuse_twins({**answers, twin: copied(answers[other])}, mend="do.")
        with pytest.raises(UsageError, match=f"{twin} is the same network as {other}"):
            refuse_twins({**answers, twin: copied(answers[other])}, mend="", latest=twin)


def clipped(x):
    return np.log(np.exp(log_softmax(x)).clip(1e-6))


def hard(classes):
    return np.log(np.eye(C)[classes].clip(1e-6))


def almost_constant(seed):
    """Two networks that learned little but the shares of the classes."""
    return np.array([3.0, 1.0, 0.0, -4.0]) + 1e-3 * outputs(seed, scale=1.0)


DIFFERENT = {
    "alike": lambda seed: outputs(seed, shared=0.999),
    "alike, float16": lambda seed: outputs(seed, shared=0.999).astype(np.float16),
    "certain": lambda seed: 50 * np.eye(C)[LABELS] + outputs(seed),
    "certain, clipped": lambda seed: clipped(20 * np.eye(C)[LABELS] + outputs(seed, scale=4.0)),
    "almost constant": almost_constant,
    "almost constant, float16": lambda seed: almost_constant(seed).astype(np.float16),
}


@pytest.mark.parametrize("made", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_different_networks_that_answer_nearly_the_same_are_not_refused(made):
    assert refuse_twins({str(seed): made(seed) for seed in range(12)}, mend="") == []


def test_answers_too_coarse_to_tell_networks_apart_are_noted_and_not_refused():
    wrong = LABELS.copy()
    wrong[0] = (wrong[0] + 1) % C
    (note,) = refuse_twins({"a": hard(LABELS), "b": hard(wrong), "c": hard(LABELS)}, mend="")
    assert note.startswith("c and a answered the same everywhere, but took only 4 different answers")
    assert len(refuse_twins({str(k): np.zeros((N, C)) for k in range(3)}, mend="")) == 3


def test_good_regressions_agree_on_the_truth_and_are_different_networks():
    truth = RNG.normal(size=(N, 1))
    answers = {str(seed): truth + 1e-3 * np.random.default_rng(seed).normal(size=(N, 1)) for seed in range(5)}
    assert refuse_twins(answers, mend="", shifted=False, truth=truth) == []
    with pytest.raises(UsageError, match="5 is the same network as 4"):
        refuse_twins({**answers, "5": answers["4"].astype(np.float32)}, mend="", shifted=False, truth=truth)


@pytest.mark.parametrize("stored", [np.float32, np.float64])
def test_regressions_of_few_coefficients_are_not_one_network_and_their_copies_are(stored):
    n, rng = 20_000, np.random.default_rng(3)
    x = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = x @ [5.0, 1.0] + rng.normal(size=n)
    halves = [rng.permutation(n)[: n // 2] for _ in range(8)]
    answers = {str(k): (x @ np.linalg.lstsq(x[half], y[half], rcond=None)[0])[:, None] for k, half in enumerate(halves)}
    answers = {name: answer.astype(stored) for name, answer in answers.items()}
    assert refuse_twins(answers, mend="", shifted=False, truth=y[:, None]) == []
    for copied in (lambda a: a, lambda a: a.astype(np.float16), bfloat16):
        with pytest.raises(UsageError, match="8 is the same network as 4"):
            refuse_twins({**answers, "8": copied(answers["4"])}, mend="", shifted=False, truth=y[:, None])


def test_log_odds_are_compared_without_a_shift():
    answers = {"a": outputs(0)[:, :1], "b": outputs(0)[:, :1] + 1}
    assert refuse_twins(answers, mend="", shifted=False) == []
    with pytest.raises(UsageError):
        refuse_twins({**answers, "c": answers["b"].astype(np.float16)}, mend="", shifted=False)


def trained(member_N, *, skill=2.0, leak=4.0, seed=0):
    """Logits of a network that knows the classes somewhat, and its members better."""
    own = np.random.default_rng(seed).normal(size=(N, C))
    own[np.arange(N), LABELS] += skill + leak * member_N
    return own


def observed(member_N, **options):
    return Observed(trained(member_N, **options), LABELS, member_N, None, np.arange(N))


MEMBER = np.arange(N) < N // 2
INSIDE = np.stack([np.random.default_rng(k).permutation(MEMBER) for k in range(6)])


def judged(logits_KNC, inside_KN=INSIDE, target=None):
    target = observed(MEMBER, seed=50) if target is None else target
    return like_target(target, References(np.stack(logits_KNC), inside_KN, tuple(map(str, range(len(inside_KN))))))


GROUPS, ROWS = 40, 20


def of_groups(s, k, inside=None):
    """A network that is right about all records of a group or about none, and which groups it trained on."""
    group = np.repeat(np.arange(GROUPS), ROWS)
    label = np.random.default_rng(s).integers(0, 3, len(group))
    rng = np.random.default_rng([s, k])
    member = np.isin(group, rng.permutation(GROUPS)[: GROUPS // 2])
    correct = (rng.random(GROUPS) < 0.7)[group]
    logits = rng.normal(size=(len(group), 3)) * 0.1
    logits[np.arange(len(group)), np.where(correct, label, (label + 1) % 3)] += 3
    return Observed(logits, label, member, None, np.arange(len(group)), group_N=group)


def test_networks_of_one_recipe_are_alike_where_few_groups_have_many_records():
    shadows = references = 0
    for s in range(60):
        target, *others = (of_groups(s, k) for k in range(9))
        logits, inside = np.stack([o.logits_NC for o in others]), np.stack([o.member_N for o in others])
        shadows += not shadow_like_target(target, others[0]).passed
        references += not like_target(target, References(logits, inside, tuple(map(str, range(8)))))[0]
    assert shadows <= 3
    assert references <= 3


def test_a_group_that_a_network_trained_on_in_part_is_one_on_each_side():
    group, inside = np.array([5, 5, 5, 2, 2]), np.array([True, False, True, True, True])
    code = by_side(group, inside)
    assert code[0] == code[2] != code[1]
    assert code[3] == code[4]
    assert len(np.unique(code)) == 3


def test_references_of_which_log_odds_alone_are_known_are_compared_by_these():
    def seen(k, inside):
        return phi(trained(inside, seed=k), LABELS)[:, None]

    member = MEMBER
    target = Observed(trained(member, seed=50), LABELS, member, None, np.arange(N), phi_NQ=seen(50, member))

    def with_phi(phi_KNQ, inside):
        logits = np.full((len(inside), N, C), -np.log(C - 1))
        np.put_along_axis(logits, LABELS[None, :, None], phi_KNQ, axis=2)
        names = tuple(map(str, range(len(inside))))
        return like_target(target, References(logits, inside, names, phi_KNQ, of_phi=True))

    odds = np.stack([seen(k, inside) for k, inside in enumerate(INSIDE)])
    assert with_phi(odds, INSIDE)[0]
    assert "did they train on these records" in with_phi(odds, ~INSIDE)[1]
    assert "not alike" in with_phi(RNG.normal(size=odds.shape), INSIDE)[1]


def recipe(inside_KN=INSIDE, **options):
    return [trained(inside, seed=k, **options) for k, inside in enumerate(inside_KN)]


def test_references_of_the_targets_recipe_are_like_it():
    alike, sentence = judged(recipe())
    assert alike
    assert sentence.endswith("on average: alike.")
    right = trained(MEMBER, seed=50).argmax(1) == LABELS
    assert (
        f"on members and non-members: target {right[MEMBER].mean():.3f} and {right[~MEMBER].mean():.3f}, " in sentence
    )
    untrained = observed(MEMBER, skill=0, leak=0)
    assert judged(recipe(skill=0, leak=0), target=untrained)[0]  # at chance as the target is


@pytest.mark.parametrize(
    ("logits", "inside", "says"),
    [
        (recipe(leak=0.5), INSIDE, "not alike on members, so"),
        (recipe(skill=0.0, leak=6.0), INSIDE, "not alike on non-members, so"),
        (recipe(skill=0.0, leak=0.0), INSIDE, "not alike on members and non-members"),
        (
            [*recipe()[:5], trained(INSIDE[5], skill=0, leak=0)],
            INSIDE,
            "no better than chance on what they trained on: 5",
        ),
        (recipe(), np.roll(INSIDE, 1, axis=0), "did they train on these records"),
        (recipe(), ~INSIDE, "did they train on these records"),
        (recipe(INSIDE[:, ::-1]), INSIDE, "did they train on these records"),
    ],
)
def test_what_is_no_reference_of_the_target_is_said(logits, inside, says):
    alike, sentence = judged(logits, inside)
    assert not alike
    assert says in sentence


def test_a_wrong_membership_is_seen_where_every_answer_is_right():
    target = observed(MEMBER, skill=12.0, seed=50)
    assert judged(recipe(skill=12.0), target=target)[0]
    alike, sentence = judged(recipe(skill=12.0), ~INSIDE, target=target)
    assert not alike
    assert "target 1.000 and 1.000, references 1.000 and 1.000 on average" in sentence
