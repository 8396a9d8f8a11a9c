"""What each kind of job does: train and observe the networks of a sequence; attack one network."""

from lacewing.study.jobs._attacks import FILES as ATTACK_FILES
from lacewing.study.jobs._attacks import attacked, gather, run_attack
from lacewing.study.jobs._columns import check_columns, named_places
from lacewing.study.jobs._first_layer import check_first_layers
from lacewing.study.jobs._networks import drop_weights, rewinds, run_sequence
from lacewing.study.jobs._observe import guarantee
from lacewing.study.jobs._plain import plain_model, plain_state
from lacewing.study.jobs._progress import FILES as NETWORK_FILES
from lacewing.study.jobs._progress import finished, own_epochs, reached, trained
from lacewing.study.jobs._stack import run_stack
from lacewing.study.jobs._stored import load_attacks, load_network, load_probe, load_signals, load_told, load_world
from lacewing.study.jobs._trial import try_networks
from lacewing.study.jobs._weights import check_count, mask_file
from lacewing.study.jobs._workspace import Keep, Report, Workspace
from lacewing.study.jobs._worlds import tell_apart, world_members

__all__ = [
    "ATTACK_FILES",
    "NETWORK_FILES",
    "Keep",
    "Report",
    "Workspace",
    "attacked",
    "check_columns",
    "check_count",
    "check_first_layers",
    "drop_weights",
    "finished",
    "gather",
    "guarantee",
    "load_attacks",
    "load_network",
    "load_probe",
    "load_signals",
    "load_told",
    "load_world",
    "mask_file",
    "named_places",
    "own_epochs",
    "plain_model",
    "plain_state",
    "reached",
    "rewinds",
    "run_attack",
    "run_sequence",
    "run_stack",
    "tell_apart",
    "trained",
    "try_networks",
    "world_members",
]
