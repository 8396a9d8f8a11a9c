"""The audit by reconstruction: planted cases, resuming, pictures, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lacewing as lw
from lacewing.auditing import _rebuild, _reconstruction
from lacewing.errors import UsageError
from lacewing.reconstruction import softmax_regression, train

N, D, C, L2 = 40, 16, 3, 1e-2
Data = tuple[np.ndarray, np.ndarray]


def world(
    seed: int = 0, *, shape: tuple[int, ...] = (1, 4, 4), classes: int = C, others: int = 80
) -> tuple[Data, Data]:
    """Members and other records of one source; class means tell something of a record."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(classes, D))
    y = np.arange(N + others) % classes
    x = (0.5 * means[y] + rng.normal(size=(len(y), D))).astype(np.float32).reshape(-1, *shape)
    return (x[:N], y[:N]), (x[N:], y[N:])


def regression(members: Data) -> nn.Module:
    """Softmax regression at its optimum."""
    x, y = members
    solved = softmax_regression(x.reshape(len(x), -1), y, l2=L2, classes=C)
    model = nn.Sequential(nn.Flatten(), nn.Linear(D, C).double())
    with torch.no_grad():
        model[1].weight.copy_(torch.from_numpy(solved.weights_DC.T))
        model[1].bias.copy_(torch.from_numpy(solved.intercept_C))
    return model


def perceptron(classes: int = C, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(D, 24), nn.ReLU(), nn.Linear(24, classes))


QUIET: Any = {"progress": False}


def test_softmax_regression_gives_its_records_away() -> None:
    members, others = world()
    found = lw.reconstruct(regression(members), members, others, attacks="informed", **QUIET)
    (row,) = found.rows
    assert (row.attack, row.of, row.share) == ("informed", "inputs", 1.0)
    assert row.judged.found
    assert row.judged.rebuilt.auc.value == 1.0
    assert row.judged.rebuilt.similarity.low > 0.999
    assert row.judged.nearest.similarity.value < 0.8
    assert 0.2 < row.judged.class_mean.auc.value < 0.8
    assert row.gate is not None
    assert row.gate < 1e-4
    assert "Training records can be rebuilt: 'informed'" in found.sentence
    assert row.n_members == row.n_others >= 30  # pairs of one class


def test_the_decay_is_fitted_where_it_is_not_given_and_a_wrong_one_shuts_the_gate() -> None:
    members, others = world()
    model = regression(members)
    by_fit, given = (
        lw.reconstruct(model, members, others, attacks="informed", l2=l2, **QUIET).rows[0].judged.rebuilt
        for l2 in (None, L2)
    )
    assert by_fit.similarity.value == pytest.approx(given.similarity.value, abs=1e-4)
    with pytest.raises(UsageError, match="not trained to a stationary point"):
        lw.reconstruct(model, members, others, attacks="informed", l2=10 * L2, **QUIET)


def test_features_before_a_retrained_last_layer_are_found_and_pruned_ones_are_not() -> None:
    members, others = world()
    model = perceptron()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError, match="'informed' cannot run: the gradient of its last layer"):
        lw.reconstruct(model, members, others, attacks="informed", **QUIET)
    options: Any = {"attacks": ["informed"], "l2": 1e-2, "retrain": True, **QUIET}
    (row,) = lw.reconstruct(model, members, others, **options).rows
    assert row.of == "features"
    assert row.judged.found
    assert row.judged.rebuilt.similarity.low > 0.99
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        model[3].weight[:, 6:] = 0.0  # 18 of 24 features keep no weight
    (hidden,) = lw.reconstruct(model, members, others, **options).rows
    assert hidden.share == pytest.approx(6 / 24)
    assert hidden.judged.rebuilt.similarity.high < row.judged.rebuilt.similarity.low


def test_one_logit_is_two_classes() -> None:
    members, others = world(classes=2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(D, 1))
    (row,) = lw.reconstruct(
        model, members, others, attacks="informed", task="binary", l2=0.1, retrain=True, **QUIET
    ).rows
    assert row.judged.rebuilt.similarity.low > 0.999


def test_records_that_left_no_trace_are_not_told_from_others_in_either_direction() -> None:
    members, others = world()
    far = tuple((1e6 * x, y) for x, y in (members, others))  # each is fitted to within the tolerance of the solution
    (row,) = lw.reconstruct(perceptron(), *far, attacks="informed", l2=1e-12, retrain=True, **QUIET).rows
    assert row.share == 0.0
    assert row.judged.rebuilt.auc.value == 0.5
    assert not row.judged.found


def test_where_members_were_never_trained_on_nothing_is_found() -> None:
    members, others = world()
    trained_on = (others[0][:40], others[1][:40])
    foreign = (others[0][40:], others[1][40:])
    found = lw.reconstruct(regression(trained_on), members, foreign, **QUIET)
    assert {row.attack for row in found.rows} == {"inversion"}
    assert "stationary point" in found.refused["informed"]
    assert not any(row.judged.found for row in found.rows)
    assert found.sentence.startswith("No reconstruction beyond the prior found above an AUC of")


class Answering(nn.Module):
    """A network that answers an object with logits, as those of transformers do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.network(x), hidden=x)


def test_answers_that_hold_logits_are_attacked_as_logits_are_in_any_mode_of_the_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_rebuild, "_INVERSION_STEPS", 5)
    members, others = world()
    model = perceptron()
    options: Any = {"l2": 1e-2, "retrain": True, "targets": 10, **QUIET}
    plain = lw.reconstruct(model, members, others, **options)
    with torch.inference_mode():
        found = lw.reconstruct(Answering(model), members, others, **options)
        with pytest.raises(UsageError, match=r"made under torch\.inference_mode"):
            lw.reconstruct(perceptron(), members, others, **options)
    assert found.table() == plain.table()
    assert {row.attack for row in found.rows} == {"informed", "inversion"}
    model[3] = nn.Linear(24, C, bias=False)
    with pytest.raises(UsageError, match=r"last layer 'network\.3' has no intercept"):
        lw.reconstruct(Answering(model), members, others, attacks="informed", **QUIET)


def test_of_another_model_than_the_members_one_there_is_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rebuild, "_INVERSION_STEPS", 5)
    members, others = world()
    model = regression(members)
    found = lw.reconstruct(model, members, others, attacks="inversion", **QUIET)
    right = int((model(torch.from_numpy(members[0]).double()).argmax(1).numpy() == members[1]).sum())
    assert f"check passed: The model is right about {right} of 40 members" in str(found)
    assert found.sentence.startswith("No reconstruction beyond the prior found above an AUC of")
    assert "(of 1 attack the highest" in found.sentence
    renumbered = tuple((x, (y + 1) % C) for x, y in (members, others))
    doubted = lw.reconstruct(model, *renumbered, attacks="inversion", **QUIET)
    assert doubted.sentence.startswith("This audit cannot say which training records can be rebuilt: The model is righ")
    assert "check FAILED: The model is right about" in str(doubted)
    assert doubted.as_json()["selfchecks"][0]["passed"] is False
    anew = lw.reconstruct(model, *renumbered, attacks="informed", l2=1e-2, retrain=True, targets=10, **QUIET)
    assert anew.rows[0].judged.found  # the last layer attacked is not the model's
    assert "this may be no leak" not in anew.sentence


def test_names_of_attacks_that_are_no_words_and_dicts_of_whole_numbers_are_refused() -> None:
    members, others = world()
    with pytest.raises(UsageError, match="attacks: there is no"):
        lw.reconstruct(regression(members), members, others, attacks=[["informed"]], **QUIET)  # type: ignore[list-item]
    mixed = [({"input": x.reshape(-1, D), "token": np.ones((len(x), 1), int)}, y) for x, y in (members, others)]

    class Two(nn.Module):
        def forward(self, input: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
            return input[:, :C] * token

    with pytest.raises(UsageError, match="fields input, token hold words or whole numbers, which"):
        lw.reconstruct(Two(), *mixed, **QUIET)


@pytest.mark.slow
def test_a_call_that_was_interrupted_goes_on_and_pictures_come_with_the_flag_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, others = world()
    model, whole, cut = regression(members), tmp_path / "whole", tmp_path / "cut"
    lw.reconstruct(model, members, others, out=whole, **QUIET)
    assert not list(whole.rglob("*.png"))

    def stopped(held: Any) -> Any:
        def run() -> Any:
            raise KeyboardInterrupt

        return run

    with monkeypatch.context() as patched:
        patched.setattr(_rebuild, "ATTACKS", {**_rebuild.ATTACKS, "inversion": stopped})
        with pytest.raises(KeyboardInterrupt):
            lw.reconstruct(model, members, others, out=cut, **QUIET)
    with monkeypatch.context() as patched:
        patched.setattr(_rebuild.reconstruction, "missing_record", None)  # informed does not run again
        lw.reconstruct(model, members, others, out=cut, **QUIET)
    for name in ("reconstruction.json", *(str(path.relative_to(whole)) for path in (whole / "rebuilt").iterdir())):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    (stored,) = (cut / "rebuilt").glob("informed-*")
    with np.load(stored) as arrays:
        assert arrays["rebuilt_PD"].size == 0  # no record without the flag
    shown = lw.reconstruct(model, members, others, out=cut, show_records=True, **QUIET)
    assert (cut / "reconstruction.png").read_bytes().startswith(b"\x89PNG")
    assert shown.as_json()["sentence"] == lw.reconstruct(model, members, others, out=cut, **QUIET).sentence
    assert not list(cut.rglob("*.png"))
    stored.write_bytes(b"PK\x03\x04 no archive")
    lw.reconstruct(model, members, others, out=cut, **QUIET)
    assert (cut / "reconstruction.json").read_bytes() == (whole / "reconstruction.json").read_bytes()


def test_a_list_of_all_is_all_and_pictures_go_with_the_next_call_that_shows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rebuild, "_INVERSION_STEPS", 1)
    monkeypatch.setattr(_reconstruction, "_draw", lambda *given: None)
    members, others = world()
    model, options = perceptron(), {"attacks": ["all"], "out": tmp_path, **QUIET}
    found = lw.reconstruct(model, members, others, show_records=True, **options)
    assert [row.attack for row in found.rows] == ["inversion"]
    assert "stationary point" in found.refused["informed"]
    (kept,) = (tmp_path / "rebuilt").iterdir()
    (tmp_path / "rebuilt" / "inversion-0.npz").write_bytes(b"damaged")
    (tmp_path / "rebuilt" / "other-0.npz").write_bytes(b"of the user")
    lw.reconstruct(model, members, others, **options)
    left = {path.name for path in (tmp_path / "rebuilt").iterdir()} - {"other-0.npz"}
    assert len(left) == 1
    assert left.isdisjoint({kept.name, "inversion-0.npz"})
    lw.reconstruct(model, members, others, seed=1, **options)  # what holds no picture stays
    assert left < {path.name for path in (tmp_path / "rebuilt").iterdir()}


def test_both_numbers_of_tries_stand_beside_the_similarities() -> None:
    members, others = world()
    found = lw.reconstruct(regression(members), members, others, attacks="informed", **QUIET)
    known = [12, 13]  # of 40 members in three classes one is missing
    assert found.rows[0].tries == 1
    assert found.rows[0].nearest_tries in known
    assert "(the best of 1), of the nearest other record" in found.sentence
    assert f"(the best of {found.rows[0].nearest_tries}); n =" in found.sentence


@pytest.mark.slow
def test_a_stationary_perceptron_gives_its_records_away(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(110, D)).astype(np.float32), np.arange(110) % 2
    torch.manual_seed(1)
    network = train(
        nn.Linear(D, 32), torch.from_numpy(x[:10]), torch.from_numpy(2.0 * y[:10] - 1).float(), seed=0, scale=1e-3,
        decay=5e-3, steps=400,
    )  # fmt: skip
    model = nn.Sequential(network.first, nn.ReLU(), nn.Linear(32, 2, bias=False))
    with torch.no_grad():
        model[2].weight.copy_(torch.stack([-network.second_H, network.second_H]) / 2**0.5)
    members, others = (x[:10], y[:10]), (x[10:], y[10:])
    (row,) = lw.reconstruct(model, members, others, attacks="stationarity", **QUIET).rows
    assert row.gate is not None
    assert row.gate < 0.12
    assert row.judged.found
    assert row.judged.rebuilt.similarity.value > row.judged.nearest.similarity.value
    few = lw.reconstruct(model, members, (x[10:40], y[10:40]), attacks="stationarity", steps=1, **QUIET)
    assert (few.rows[0].tries, few.rows[0].nearest_tries) == (20, 15)  # half of 30 are the prior
    assert "  20, 15  " in str(few)
    with pytest.raises(UsageError, match="relative squared residual of stationarity at the members is"):
        lw.reconstruct(model, (x[20:30], y[20:30]), others, attacks="stationarity", **QUIET)


def test_what_cannot_be_audited_is_refused_in_a_sentence(tmp_path: Path) -> None:
    members, others = world()
    model = perceptron()

    def refused(match: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(UsageError, match=match):
            lw.reconstruct(*(arguments or (model, members, others)), **options, **QUIET)

    refused("there is no 'informd'.*informed", attacks="informd")
    refused("attacks is empty", attacks=[])
    refused("there is no '3'", attacks=3)
    refused("model is a function: reconstruction reads weights", lambda x: x, members, others)
    refused("task='regression'", task="regression")
    refused("retrain=True trains the last layer with weight decay: give l2", retrain=True)
    refused("l2 = -1", l2=-1)
    refused("targets = 3", targets=3)
    refused("give out, a folder", show_records=True)
    flat = tuple((x.reshape(len(x), -1), y) for x, y in (members, others))
    refused(r"shows images \(N, C, H, W\)", model, *flat, show_records=True, out=tmp_path)
    refused("NaN or infinite", model, (members[0] * np.nan, members[1]), others)
    refused(
        "whole numbers cannot be rebuilt", model, *((np.round(x).astype(np.int64), y) for x, y in (members, others))
    )
    refused("nonmembers are all among the members", model, members, members)
    refused("at least 10 of each are needed", model, members, (others[0][:12], others[1][:12]))
    refused("stationarity needs members of two classes", attacks="stationarity")
    refused("no torch.nn.Linear gives its answers", nn.Sequential(model, nn.LogSoftmax(1)), members, others,
            attacks="informed")  # fmt: skip
    bare = nn.Sequential(nn.Flatten(), nn.Linear(D, C, bias=False))
    refused("has no intercept", bare, members, others, attacks="informed")
    one = (members[0], np.zeros(N, np.int64))
    refused("0 members have an audited non-member of their class", model, one, (others[0], others[1] * 0 + 1),
            attacks="informed")  # fmt: skip


def test_copies_of_members_among_the_others_are_left_out_and_constant_pixels_change_nothing() -> None:
    members, others = world()
    x = np.concatenate([others[0], members[0][:7]])
    y = np.concatenate([others[1], members[1][:7]])
    model = regression(members)
    found = lw.reconstruct(model, members, (x, y), attacks="informed", **QUIET)
    assert any("The 7 non-members that are equal to a member were left out." in note for note in found.notes)
    assert found.rows[0].judged.rebuilt.auc.value == 1.0
    constant = tuple((np.concatenate([x, np.ones_like(x[..., :1])], axis=-1), y) for x, y in (members, others))
    wide = nn.Sequential(nn.Flatten(), nn.Linear(D + 4, C))
    options: Any = {"attacks": "informed", "l2": L2, "retrain": True, **QUIET}
    assert lw.reconstruct(wide, *constant, **options).rows[0].judged.rebuilt.auc.value == 1.0


class Rows:
    """A data set of dicts with a field that no network takes."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": self.x[index], "label": self.y[index], "idx": index}


class Named(nn.Module):
    """A network with its record as argument x."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)  # type: ignore[no-any-return]


def test_records_are_read_as_in_an_audit() -> None:
    members, others = world(shape=(1, 4, 4))
    model = regression(members)
    plain = lw.reconstruct(model, members, others, attacks="informed", l2=L2, **QUIET).rows[0]
    named = [(x, np.array(["ant", "bee", "cat"])[y]) for x, y in (members, others)]
    for asked, sides, form in (
        (Named(model), [Rows(*members), Rows(*others)], {}),
        (model, named, {"classes": ["ant", "bee", "cat"]}),
    ):
        found = lw.reconstruct(asked, *sides, attacks="informed", l2=L2, **form, **QUIET)
        assert found.rows[0].judged.rebuilt == plain.judged.rebuilt
        assert found.rows[0].membership == plain.membership

    class Both(Named):
        def forward(self, x: torch.Tensor, idx: torch.Tensor | None = None) -> torch.Tensor:
            return self.inner(x)  # type: ignore[no-any-return]

    with pytest.raises(UsageError, match="the fields x, idx hold words or whole numbers, which cannot be rebuilt"):
        lw.reconstruct(Both(model), Rows(*members), Rows(*others), attacks="informed", **QUIET)
    odd = others[0], np.where(np.arange(80) == 5, "dog", named[1][1])
    with pytest.raises(UsageError, match="labels of classes that the network has not"):
        lw.reconstruct(model, named[0], odd, classes=["ant", "bee", "cat"], **QUIET)
