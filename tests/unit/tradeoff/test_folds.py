"""Families whose leak is no function of accuracy: no false differences, and none where nothing can be told."""

import dataclasses

import numpy as np
import scipy.stats
from attack_results import net

from lacewing.config import Tradeoff
from lacewing.results import AttackResult, Estimate
from lacewing.tradeoff import answers
from lacewing.tradeoff._equal import common, difference

FOLDED = np.array([False] * 6 + [True] * 5)
FIRST = np.array([False] * 6 + [True] * 4)


def folded(rng, seeds=8, shift=0.0):
    """Training for 2 to 8 epochs (S, J): the leak rises on while accuracy saturates and falls; five of 3 to 5."""
    epochs = np.r_[2, 3, 4, 5, 6, 8, np.linspace(3, 5, 5)]
    accuracy = 0.715 - 0.18 * np.exp(-1.5 * (epochs - 2)) - 0.0008 * np.maximum(epochs - 5, 0) ** 2
    leak = 0.9 - 0.3 * np.exp(-(epochs - 2) / 2.2) + shift * FOLDED
    return accuracy + 0.005 * rng.standard_normal((seeds, 11)), leak + 0.004 * rng.standard_normal((seeds, 11))


def on_a_curve(rng, seeds, shift=0.0):
    """Six controls and four others (S, J) whose leak is a quadratic of accuracy."""
    true = np.r_[np.linspace(0.66, 0.76, 6), np.linspace(0.67, 0.75, 4)]
    leak = 0.63 + 1.5 * (true - 0.71) + 4 * (true - 0.71) ** 2 + shift * FIRST
    return tuple(each + 0.004 * rng.standard_normal((seeds, 10)) for each in (true, leak))


def circle(shift, seeds=6):
    """Accuracy and leak go round: neither tells the other."""
    rng = np.random.default_rng(13)
    angle = np.r_[np.linspace(0, 2 * np.pi, 9)[:-1], np.linspace(2, 4, 6)]
    first = np.array([False] * 8 + [True] * 6)
    accuracy = 0.7 + 0.03 * np.cos(angle) + 0.001 * rng.standard_normal((seeds, 14))
    return accuracy, 0.8 + 0.06 * np.sin(angle) + shift * first + 0.001 * rng.standard_normal((seeds, 14)), first


def test_a_family_on_the_controls_own_fold_is_seldom_called_different():
    """Of one path, which one grid samples where accuracy rises and the other where it falls: 51 % without the check."""
    rng, verdicts, of_leak = np.random.default_rng(11), [], []
    for _ in range(120):
        accuracy, leak = folded(rng)
        kept = common(accuracy.mean(axis=0), FOLDED).kept_J
        found = difference(accuracy[:, kept], leak[:, kept], FOLDED[kept])
        if isinstance(found, str):  # the recipes that noise has kept determine no curve
            continue
        verdicts.append(found.p < 0.05)
        of_leak.append(found.direction == "leak")
        assert (found.p < 0.05) == (found.estimate.low > 0 or found.estimate.high < 0)
    assert len(verdicts) > 80
    assert np.mean(verdicts) <= 0.07
    assert np.mean(of_leak) < 0.3


def test_a_difference_on_a_fold_is_found_in_both_directions():
    accuracy, leak = folded(np.random.default_rng(12), shift=-0.06)
    kept = common(accuracy.mean(axis=0), FOLDED).kept_J
    found = difference(accuracy[:, kept], leak[:, kept], FOLDED[kept])
    assert found.direction == "both"
    assert found.p_less < 0.025
    assert found.estimate.high < 0


def test_where_neither_is_a_function_of_the_other_no_difference_is_found():
    found = difference(*circle(shift=-0.05))
    assert found.p == 1
    assert found.estimate.low <= 0 <= found.estimate.high


def corner(rng, seeds, shift=0.0):
    """A rise that ends at a point (S, J): six of 3 to 8 epochs and six of 2 to 4.5; no curve of ours follows it."""
    epochs, first = np.r_[np.linspace(3, 8, 6), np.linspace(2, 4.5, 6)], np.array([False] * 6 + [True] * 6)
    accuracy, leak = np.minimum(0.715, 0.5 + 0.05 * epochs), 0.5 + 0.05 * epochs + shift * first
    return *(each + 0.006 * rng.standard_normal((seeds, 12)) for each in (accuracy, leak)), first


def saturating(rng, seeds, shift):
    """Accuracy that saturates smoothly (S, J): six of 2 to 8 epochs and five of 3 to 5."""
    epochs, first = np.r_[np.linspace(2, 8, 6), np.linspace(3, 5, 5)], np.array([False] * 6 + [True] * 5)
    accuracy, leak = 0.72 - 0.2 * np.exp((2 - epochs) / 0.9), 0.5 + 0.05 * epochs + shift * first
    return *(each + 0.006 * rng.standard_normal((seeds, 11)) for each in (accuracy, leak)), first


def called(draw, rng, studies, seeds, **more):
    """The share of studies in which the first family is said to leak less, and in which it is said to differ."""
    less, differs = 0, 0
    for _ in range(studies):
        accuracy, leak, first = draw(rng, seeds, **more)
        kept = common(accuracy.mean(axis=0), first)
        found = difference(*(each[:, kept.kept_J] for each in (accuracy, leak)), first[kept.kept_J])
        less += not isinstance(found, str) and found.p_less < 0.025
        differs += not isinstance(found, str) and found.p < 0.05
    return less / studies, differs / studies


def test_a_corner_makes_no_difference_with_many_seeds():
    """By a curve of accuracy over leak 14 % of such studies of 16 seeds were false."""
    assert called(corner, np.random.default_rng(17), 150, 16)[1] <= 0.07


def test_more_seeds_find_more_where_accuracy_saturates():
    """By a curve of accuracy over leak 16 seeds found it less often than three."""
    rng = np.random.default_rng(18)
    few, many = (called(saturating, rng, 60, seeds, shift=-0.05)[0] for seeds in (3, 16))
    assert many > 0.9
    assert many > few


def test_accuracy_at_equal_leak_is_read_between_neighbouring_recipes():
    """Beside the leak's own shapes, which sometimes decide; by numpy's interpolation and a jackknife by hand."""
    rng, decided = np.random.default_rng(19), []
    for _ in range(12):
        accuracy, leak, first = saturating(rng, 5, shift=0.0)
        kept = common(accuracy.mean(axis=0), first).kept_J
        accuracy, leak, first = accuracy[:, kept], leak[:, kept], first[kept]
        found = difference(accuracy, leak, first)
        if isinstance(found, str) or found.direction == "leak":
            continue
        gaps = [at_equal_leak(accuracy, leak, first, np.delete(np.arange(5), s)) for s in range(5)]
        t = at_equal_leak(accuracy, leak, first, np.arange(5)) / np.sqrt(4 * np.var(gaps, axis=0))
        for p, mine in ((found.p_less, scipy.stats.t.sf(t, 4)), (found.p_more, scipy.stats.t.cdf(t, 4))):
            assert p >= mine.max() - 1e-12
            decided.append(np.isclose(p, mine.max()))
    assert sum(decided) >= 3


def at_equal_leak(accuracy, leak, first, seeds):
    """How much more accurate the first family is: at its own leaks, and at those of the second."""
    x, y, mean, gaps = leak[seeds].mean(axis=0), accuracy[seeds].mean(axis=0), leak.mean(axis=0), []
    for mine, sign in ((first, 1), (~first, -1)):
        inside = mine & (mean >= mean[~mine].min()) & (mean <= mean[~mine].max())
        places = np.argsort(x[~mine])
        gaps.append(sign * np.mean(y[inside] - np.interp(x[inside], x[~mine][places], y[~mine][places])))
    return np.array(gaps)


def test_families_without_a_common_leak_need_a_curve():
    """Leaks of two levels that accuracy does not tell apart, each zigzagging: nothing is established."""
    first = np.array([False] * 5 + [True] * 5)
    accuracy = np.r_[[0.70, 0.72, 0.70, 0.72, 0.70], [0.71, 0.70, 0.72, 0.70, 0.71]]
    leak = np.r_[np.linspace(0.8, 0.9, 5), np.linspace(0.6, 0.7, 5)]
    rng = np.random.default_rng(20)
    accuracy, leak = (each + 0.001 * rng.standard_normal((6, 10)) for each in (accuracy, leak))
    found = difference(accuracy, leak, first)
    assert found.direction == "neither"
    assert (found.p, found.p_less, found.p_more) == (1, 1, 1)
    assert found.estimate.low <= 0 <= found.estimate.high


def test_a_curve_that_is_a_function_is_tested_as_before_most_of_the_time():
    rng, found = np.random.default_rng(14), []
    for _ in range(60):
        accuracy, leak = on_a_curve(rng, 6, shift=-0.03)
        found.append(difference(accuracy, leak, FIRST))
    assert np.mean([each.direction == "leak" for each in found]) > 0.1
    assert np.mean([each.p_less < 0.025 for each in found]) > 0.95


def test_the_lack_of_fit_is_the_f_of_residuals_over_their_jackknife_variances():
    """With numpy's polynomials and scipy's F: where the better shape's p is below .8 the other direction is asked."""
    rng = np.random.default_rng(15)
    for _ in range(10):
        accuracy, leak = on_a_curve(rng, 5)
        ps = []
        for knots in (False, True):

            def residuals(x, y, knots=knots):
                u = (x - x.min()) / np.ptp(x)
                bends = [np.clip(u - 1 / 3, 0, 1), np.clip(u - 2 / 3, 0, 1)] if knots else [u**2]
                design = np.column_stack([np.ones(10), u, *bends, FIRST])
                return y - design @ np.linalg.pinv(design) @ y, 10 - design.shape[1]

            whole, left = residuals(accuracy.mean(axis=0), leak.mean(axis=0))
            out = np.array([
                residuals(np.delete(accuracy, s, 0).mean(axis=0), np.delete(leak, s, 0).mean(axis=0))[0]
                for s in range(5)
            ])  # fmt: skip
            variance = 4 * out.var(axis=0)
            ps.append(scipy.stats.f.sf((whole**2).sum() / variance.sum(), left, left * 4))
        assert (difference(accuracy, leak, FIRST).direction == "leak") == (max(ps) >= 0.8)


def test_an_answer_says_that_accuracy_at_equal_leak_was_tested_too():
    accuracy, leak, first = circle(shift=-0.05)
    results = []
    for s, (accuracies, leaked) in enumerate(zip(accuracy, leak, strict=True)):
        for j, sparse in enumerate(first):
            network = net(f"{'imp' if sparse else 'epochs'}-{j}", s, test=accuracies[j], density=0.1 if sparse else 1.0)
            network = dataclasses.replace(
                network, family="imp" if sparse else "epochs", kind="sparse" if sparse else "control"
            )
            values = {"auc": Estimate(leaked[j], leaked[j] - 0.02, leaked[j] + 0.02)}
            results.append(AttackResult(network, "discriminator", "mlp", "", 1000, 1000, values))
    primary = {"family": "imp", "against": "controls", "metric": "discriminator.auc"}
    (answer,) = answers(Tradeoff(primary=primary), results)
    assert answer.verdict == "no measurable difference"
    assert (
        "may be no function of their accuracy, so that their accuracy at equal leak was tested too" in answer.sentence
    )
    (found,) = answer.differences
    assert (found.direction, found.p) == ("both", 1)
