"""Data sets in memory, each with a SHA-256 digest, and how they are cut into target and shadow records.

Importing this package loads numpy only; scikit-learn and pooch are loaded by the functions that need them.
"""

from lacewing.data._dataset import Dataset, make_dataset
from lacewing.data._declared import declared, prepare_declared
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
from lacewing.data._images import pack
from lacewing.data._npy import found, learn
from lacewing.data._registry import Info, check, default_root, describe, load, names
from lacewing.data._split import (
    ROLES,
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
from lacewing.data._table import Table
from lacewing.data._tokens import as_tokens
from lacewing.data._worlds import Pools, doubled, having, poison, pools, redrawn, relabelled, world

__all__ = [
    "DUPLICATES",
    "NO_ID",
    "ROLES",
    "Dataset",
    "Facts",
    "Halves",
    "Info",
    "Pools",
    "Records",
    "Role",
    "Split",
    "Table",
    "across",
    "as_tokens",
    "check",
    "deal",
    "declared",
    "default_root",
    "describe",
    "digest_with",
    "doubled",
    "duplicate_groups",
    "facts",
    "fetch",
    "found",
    "four_way",
    "group_codes",
    "groups_of",
    "having",
    "holdout",
    "learn",
    "load",
    "make_dataset",
    "merge_groups",
    "names",
    "normalisation",
    "pack",
    "poison",
    "pools",
    "prepare",
    "prepare_declared",
    "random_halves",
    "redrawn",
    "relabelled",
    "row_hashes",
    "signs",
    "told",
    "unused",
    "world",
]
