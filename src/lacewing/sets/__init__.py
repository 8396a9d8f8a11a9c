"""Membership of sets of records: of any of a person's, of any within a range, and how many of a data set were used.

Pure functions on the scores that an attack gave to single records, higher for members. N records, G groups, R ranges,
Q points of a range, D features.
"""

from lacewing.sets._level import SetResult, group_level, of_sets
from lacewing.sets._ranges import distinct, range_scores, sampled, truth
from lacewing.sets._usage import Known, Usage, usage

__all__ = [
    "Known",
    "SetResult",
    "Usage",
    "distinct",
    "group_level",
    "of_sets",
    "range_scores",
    "sampled",
    "truth",
    "usage",
]
