"""A study, the declared experiment: read from TOML, changed with --set, compared with what a run folder holds."""

from lacewing.study.declared._difference import difference
from lacewing.study.declared._masks import in_order
from lacewing.study.declared._questions import recipes
from lacewing.study.declared._study import SCHEMA, Study, kind_of
from lacewing.study.declared._toml import load_study, recorded_study, to_toml
from lacewing.support.shipped import builtin_studies

__all__ = [
    "SCHEMA",
    "Study",
    "builtin_studies",
    "difference",
    "in_order",
    "kind_of",
    "load_study",
    "recipes",
    "recorded_study",
    "to_toml",
]
