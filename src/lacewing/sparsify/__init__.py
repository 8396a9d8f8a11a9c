"""Sparse networks: iterative magnitude pruning and butterfly factors."""

from lacewing.sparsify._butterfly import butterfly, composed_state
from lacewing.sparsify._imp import Level, imp, remaining
from lacewing.sparsify.chain import Chain, Pattern
from lacewing.sparsify.layers import KSConv2d, apply_factor, compose, dense_factor

__all__ = [
    "Chain",
    "KSConv2d",
    "Level",
    "Pattern",
    "apply_factor",
    "butterfly",
    "compose",
    "composed_state",
    "dense_factor",
    "imp",
    "remaining",
]
