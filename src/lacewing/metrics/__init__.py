"""Metrics of attacks with confidence intervals: pure functions on arrays, in float64.

Conventions: N records; ``scores_N`` is higher for members; ``member_N`` is True (or 1) for members. Every function
raises `UsageError` where scores are not finite, lengths differ, or members or non-members are missing.
"""

from lacewing.metrics._accountant import (
    LEAST_NOISE,
    MOST_NOISE,
    dp_epsilon,
    dp_noise,
    dp_replaced,
    most_tpr,
    renyi_sampled_gaussian,
    rounded_up,
)
from lacewing.metrics._checks import Bools, Estimate, Floats
from lacewing.metrics._components import Components, variance_components
from lacewing.metrics._decisions import advantage, balanced_accuracy, best_threshold_accuracy, defence
from lacewing.metrics._epsilon import EpsilonAudit, epsilon_audit, epsilon_lower_bound, one_run_epsilon
from lacewing.metrics._epsilon_more import (
    EPSILON_ASSUMED,
    epsilon_gaussian_dp,
    epsilon_hull_bonferroni_split,
    one_run_fdp_epsilon,
    one_run_gaussian_dp_epsilon,
    other_epsilon_bounds,
)
from lacewing.metrics._intervals import clopper_pearson, resampled_means
from lacewing.metrics._paired import Metric, Paired, paired
from lacewing.metrics._roc import auc, roc
from lacewing.metrics._seeds import (
    FEWEST_SEEDS,
    Detectable,
    Ratio,
    detectable,
    fieller,
    mean_over_seeds,
    p_of_mean,
    ratio_of_means,
    seeds_to_detect,
)
from lacewing.metrics._summary import summary
from lacewing.metrics._tail import least_nonmembers, realised_fpr, resolves, tpr_at_fpr
from lacewing.metrics._units import Units, alike, shared, spread

VERSION = 2  # part of the keys of attacks: raise it when a stored metric is computed differently

__all__ = [
    "EPSILON_ASSUMED",
    "FEWEST_SEEDS",
    "LEAST_NOISE",
    "MOST_NOISE",
    "VERSION",
    "Bools",
    "Components",
    "Detectable",
    "EpsilonAudit",
    "Estimate",
    "Floats",
    "Metric",
    "Paired",
    "Ratio",
    "Units",
    "advantage",
    "alike",
    "auc",
    "balanced_accuracy",
    "best_threshold_accuracy",
    "clopper_pearson",
    "defence",
    "detectable",
    "dp_epsilon",
    "dp_noise",
    "dp_replaced",
    "epsilon_audit",
    "epsilon_gaussian_dp",
    "epsilon_hull_bonferroni_split",
    "epsilon_lower_bound",
    "fieller",
    "least_nonmembers",
    "mean_over_seeds",
    "most_tpr",
    "one_run_epsilon",
    "one_run_fdp_epsilon",
    "one_run_gaussian_dp_epsilon",
    "other_epsilon_bounds",
    "p_of_mean",
    "paired",
    "ratio_of_means",
    "realised_fpr",
    "renyi_sampled_gaussian",
    "resampled_means",
    "resolves",
    "roc",
    "rounded_up",
    "seeds_to_detect",
    "shared",
    "spread",
    "summary",
    "tpr_at_fpr",
    "variance_components",
]
