"""How families appear: one look for each, the same in every figure."""

from __future__ import annotations

from lacewing.methods import METHODS, look_of
from lacewing.reporting._looks import family_styles
from lacewing.results import STOPPED, Kind, Look, NetworkResult


def _network(name: str, method: str, family: str, kind: Kind | None) -> NetworkResult:
    return NetworkResult(name, method, "target", 0, 1.0, 1.0, 9, 9, 1.0, 0.5, family=family, kind=kind)


def _look(method: str) -> Look:
    return look_of(METHODS[method], method)


def test_no_two_families_look_alike_and_a_sparse_one_keeps_the_look_of_its_method() -> None:
    networks = [_network(f"c{i}", "dense", f"control-{i}", "control") for i in range(20)]
    networks += [_network("early-003", STOPPED, "early", "control"), _network("dense", "dense", "dense", "dense")]
    networks += [_network(f"{name}-01", "imp", name, "sparse") for name in ("brief", "imp")]
    styles = family_styles(networks, _look)
    assert len(set(styles.values())) == len(styles) == 24
    own = _look("imp")
    assert styles["imp"] == (own.colour, own.marker, "-")
    assert [family for family, style in styles.items() if style[0] == own.colour] == ["imp"]
    assert styles["dense"] == (_look("dense").colour, _look("dense").marker, "-")
    # What a figure leaves out changes nothing for the families that all figures draw.
    without = family_styles([network for network in networks if network.method != STOPPED], _look)
    assert without == {family: style for family, style in styles.items() if family != "early"}


def test_the_families_of_one_method_differ_in_colour_and_in_marker() -> None:
    methods = ("dense", "dense", "dense", "dp-sgd", "random-mask", "reinitialised", "shuffled-mask", "imp", "ticket")
    networks = [_network(f"n{i}", name, f"f{i}", "control") for i, name in enumerate(methods)]
    styles = family_styles(networks, _look).values()
    assert len({colour for colour, _, _ in styles}) == len({marker for _, marker, _ in styles}) == len(methods)
