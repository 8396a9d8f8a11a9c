"""How methods and their networks appear: labels, colours and markers, as each method says of itself."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from lacewing.methods import METHODS, Method, look_of
from lacewing.results import STOPPED, Kind, Look, NetworkResult

OWN: Final[Mapping[str, Look]] = {name: look_of(method, name) for name, method in METHODS.items()}
_NO_LOOK = look_of(Method, "other")  # of methods that choose no colour and marker
# Such methods get these in turn.
PALETTE = (
    (_NO_LOOK.colour, _NO_LOOK.marker),
    ("#c2527a", ">"),
    ("#8a6d00", "P"),
    ("#5b9bd5", "X"),
    ("#7f3c8d", "p"),
    ("#b8860b", "*"),
    ("#3f6f5f", "h"),
    ("#a23b3b", "<"),
)
_DISTINCT = "so^vDXP<>phd8"  # markers that are told apart at the size of a figure's marks
_SHAPES = {
    "s": "square", "o": "circle", "^": "up", "v": "down", "<": "left", ">": "right", "D": "diamond", "d": "diamond",
    "p": "pentagon", "h": "hexagon", "H": "hexagon", "P": "plus", "+": "plus", "X": "cross", "x": "cross", "*": "star",
}  # fmt: skip
_WORDS = {"up": "triangles", "down": "triangles pointing down", "left": "triangles pointing left", "cross": "crosses",
          "right": "triangles pointing right", "plus": "plus signs"}  # fmt: skip


class Key(NamedTuple):
    """The mark before a network's name in a table."""

    shape: str  # a class of report.css
    colour: str


def appearance(methods: Iterable[str], known: Mapping[str, Look]) -> dict[str, Look]:
    """A look for each method: its own, else those of the palette in turn, so that no two of these are alike."""
    looks = {m: known.get(m) or look_of(Method, m) for m in methods}
    chosen = {look.colour for look in looks.values()} - {PALETTE[0][0]}
    free = itertools.cycle(place for place in PALETTE if place[0] not in chosen)
    for method, look in looks.items():
        if (look.colour, look.marker) == PALETTE[0]:
            colour, marker = next(free)
            look = replace(look, colour=colour, marker=marker)
        # matplotlib reads what is between dollars as a formula, and leaves out labels that begin with "_".
        looks[method] = replace(look, label=look.label.replace("$", "").lstrip("_") or "other")
    return looks


def network_label(network: str, method: str) -> str:
    """How a report names a network: as the study, results.csv and the command do, but for early stops.

    ``early-010`` is "dense at epoch 10".
    """
    epoch = re.fullmatch(r"early-(\d+)", network) if method == STOPPED else None
    return f"dense at epoch {int(epoch[1])}" if epoch else network


def key_of(look: Look, kind: Kind | None) -> Key:
    """The mark of a method's networks in tables; that of controls is an outline."""
    return Key("control" if kind == "control" else _SHAPES.get(look.marker, "square"), look.colour)


def marks(looks: Iterable[Look]) -> str:
    """Which mark means which method in a figure: ``circles and line: IMP; triangles: butterfly``."""
    said = []
    for look in looks:
        shape = _SHAPES.get(look.marker, "square")
        said.append(f"{_WORDS.get(shape, f'{shape}s')}{' and line' * look.sequence}: {look.label}")
    return "; ".join(said)


def family_styles(networks: Iterable[NetworkResult], look: Callable[[str], Look]) -> dict[str, tuple[str, str, str]]:
    """Colour, marker and line of each family: its method's, where no other has them; else the next that are free.

    Sparse families and that of the dense network choose first, early stops last. No two families share a marker, nor a
    colour and a line, as long as there are enough of them; where the palette ends it begins again with broken lines.
    """
    methods: dict[str, str] = {}
    first: set[str] = set()
    stopped: set[str] = set()
    for network in networks:
        family = network.family or network.network
        methods.setdefault(family, network.method)
        first |= {family} if network.kind in ("sparse", "dense") else set()
        stopped |= {family} if network.stopped else set()
    order = sorted(methods, key=lambda family: (family not in stopped, family in first, family))
    chosen: dict[str, tuple[str, str, str]] = {}
    markers: set[str] = set()
    for family in reversed(order):
        own = look(methods[family])
        if own.colour not in {colour for colour, _, _ in chosen.values()}:
            marker = _unused(own.marker, markers)
            chosen[family] = (own.colour, marker, "-")
            markers.add(marker)
    colours = {colour for colour, _, _ in chosen.values()}
    places = ((*place, dashes) for dashes in itertools.cycle(("-", "--", ":")) for place in PALETTE)
    free = (place for place in places if place[0] not in colours)
    order.sort(key=lambda family: family in stopped)
    styles = {}
    for family in order:
        if family not in chosen:
            colour, marker, dashes = next(free)
            marker = _unused(marker, markers)
            markers.add(marker)
            chosen[family] = (colour, marker, dashes)
        styles[family] = chosen[family]
    return styles


def _unused(marker: str, used: Container[str]) -> str:
    """The marker, or another one where it is in use already."""
    return next((each for each in (marker, *_DISTINCT) if each not in used), marker)
