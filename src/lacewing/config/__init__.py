"""The parts of a study that stand alone: frozen pydantic models with bounds, and the hash that makes keys of them."""

from lacewing.config._attribute import MOST_VALUES, Attribute
from lacewing.config._bounds import (
    BadField,
    BadLength,
    BadTogether,
    BadValue,
    ascending,
    at_least,
    at_most,
    distinct,
    folder_name,
    no_longer_than,
    shown,
)
from lacewing.config._checked import validated
from lacewing.config._parts import Attacks, Data, Model, Part, Run, Signals, Train, canonical_key
from lacewing.config._plain import DEEPEST, LONGEST_TEXT, plain
from lacewing.config._property import REDRAWN, Property, PropertyOf
from lacewing.config._tradeoff import CONTROLS, FEWEST_RECIPES, FEWEST_SEEDS, Comparison, Tradeoff

__all__ = [
    "CONTROLS",
    "DEEPEST",
    "FEWEST_RECIPES",
    "FEWEST_SEEDS",
    "LONGEST_TEXT",
    "MOST_VALUES",
    "REDRAWN",
    "Attacks",
    "Attribute",
    "BadField",
    "BadLength",
    "BadTogether",
    "BadValue",
    "Comparison",
    "Data",
    "Model",
    "Part",
    "Property",
    "PropertyOf",
    "Run",
    "Signals",
    "Tradeoff",
    "Train",
    "ascending",
    "at_least",
    "at_most",
    "canonical_key",
    "distinct",
    "folder_name",
    "no_longer_than",
    "plain",
    "shown",
    "validated",
]
