"""Data sets in memory, each with a SHA-256 digest, and how they are cut into target and shadow records.

Importing this package loads numpy only; scikit-learn and pooch are loaded by the functions that need them.
"""

from lacewing.data._dataset import Dataset, make_dataset
from lacewing.data._facts import Facts, across, facts, signs, told
from lacewing.data._fetch import fetch
from lacewing.data._groups import (
    DUPLICATES,
    NO_ID,
    deal,
    digest_with,
    duplicate_groups,
    group_codes,
    groups_of,
    merge_groups,
    row_hashes,
)
from lacewing.data._registry import Info, check, default_root, describe, load, names
from lacewing.data._split import (
    Halves,
    Records,
    Role,
    Split,
    four_way,
    holdout,
    normalisation,
    prepare,
    random_halves,
    unused,
)

__all__ = [
    "DUPLICATES",
    "NO_ID",
    "Dataset",
    "Facts",
    "Halves",
    "Info",
    "Records",
    "Role",
    "Split",
    "across",
    "check",
    "deal",
    "default_root",
    "describe",
    "digest_with",
    "duplicate_groups",
    "facts",
    "fetch",
    "four_way",
    "group_codes",
    "groups_of",
    "holdout",
    "load",
    "make_dataset",
    "merge_groups",
    "names",
    "normalisation",
    "prepare",
    "random_halves",
    "row_hashes",
    "signs",
    "told",
    "unused",
]
