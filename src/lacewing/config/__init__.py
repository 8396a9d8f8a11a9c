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
    level_name,
    network_name,
    stop_name,
)
from lacewing.config._parts import Attacks, Data, Model, Part, Run, Signals, Train
from lacewing.config._study import SCHEMA, Study, canonical_key
from lacewing.config._toml import builtin_studies, load_study, to_toml

__all__ = [
    "KINDS",
    "SCHEMA",
    "AnyNetwork",
    "Attacks",
    "Butterfly",
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
    "Train",
    "builtin_studies",
    "canonical_key",
    "chain_settings",
    "difference",
    "level_name",
    "load_study",
    "network_name",
    "stop_name",
    "to_toml",
]
