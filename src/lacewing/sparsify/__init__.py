"""Sparse networks: pruning and iterative magnitude pruning, and layers of butterfly factors, for any torch model."""

from lacewing.sparsify import controls
from lacewing.sparsify._backends import apply_factor, compose, dense_factor, use_backend
from lacewing.sparsify._butterfly import Replaced, butterfly, composed_state, decay_groups, densify, product_norm
from lacewing.sparsify._imp import Gradual, Level, imp
from lacewing.sparsify._project import project, projection_error
from lacewing.sparsify._prune import gradient, magnitude, n_of_m, prune, random
from lacewing.sparsify._schedules import Sizes, cubic, fixed_fraction, geometric, remaining
from lacewing.sparsify._summary import Summary, summary
from lacewing.sparsify.chain import Chain, Pattern
from lacewing.sparsify.effective import masks_from_zeros
from lacewing.sparsify.guard import Guard, Rewind
from lacewing.sparsify.layers import KSConv2d, KSLinear
from lacewing.sparsify.masks import Masks, apply_masks, load_masks, prunable, save_masks

__all__ = [
    "Chain",
    "Gradual",
    "Guard",
    "KSConv2d",
    "KSLinear",
    "Level",
    "Masks",
    "Pattern",
    "Replaced",
    "Rewind",
    "Sizes",
    "Summary",
    "apply_factor",
    "apply_masks",
    "butterfly",
    "compose",
    "composed_state",
    "controls",
    "cubic",
    "decay_groups",
    "dense_factor",
    "densify",
    "fixed_fraction",
    "geometric",
    "gradient",
    "imp",
    "load_masks",
    "magnitude",
    "masks_from_zeros",
    "n_of_m",
    "product_norm",
    "project",
    "projection_error",
    "prunable",
    "prune",
    "random",
    "remaining",
    "save_masks",
    "summary",
    "use_backend",
]
