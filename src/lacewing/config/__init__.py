"""A study, the declared experiment: frozen pydantic models, read from TOML, changed with --set, hashed into keys."""

from lacewing.config._difference import difference
from lacewing.config._networks import (
    KINDS,
    AnyNetwork,
    Butterfly,
    Dense,
    EarlyStopped,
    Imp,
    Network,
    chain_settings,
    family_name,
    level_name,
    network_name,
    stop_name,
)
from lacewing.config._parts import Attacks, Data, Model, Part, Run, Signals, Train
from lacewing.config._study import SCHEMA, Study, canonical_key, kind_of
from lacewing.config._toml import builtin_studies, load_study, to_toml
from lacewing.config._tradeoff import CONTROLS, Comparison, Tradeoff, recipes

__all__ = [
    "CONTROLS",
    "KINDS",
    "SCHEMA",
    "AnyNetwork",
    "Attacks",
    "Butterfly",
    "Comparison",
    "Data",
    "Dense",
    "EarlyStopped",
    "Imp",
    "Model",
    "Network",
    "Part",
    "Run",
    "Signals",
    "Study",
    "Tradeoff",
    "Train",
    "builtin_studies",
    "canonical_key",
    "chain_settings",
    "difference",
    "family_name",
    "kind_of",
    "level_name",
    "load_study",
    "network_name",
    "recipes",
    "stop_name",
    "to_toml",
]
