"""Audits of ranges and of usage on models: planted cases, nulls, and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.ensemble import ExtraTreesClassifier
from torch import nn

import lacewing as lw
from lacewing import auditing
from lacewing.cli import _model
from lacewing.errors import UsageError

R = np.random.default_rng(0)
X = R.normal(size=(240, 6)).astype(np.float32)
Y = R.integers(2, size=240)
MEMBERS, NONMEMBERS = (X[:120], Y[:120]), (X[120:], Y[120:])
WIDE = 0.3
AROUND = {"low": X - WIDE, "high": X + WIDE, "label": Y}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def remembers(x, leak=4.0):
    """Logits that lean to the label of the nearest member, the more the nearer it is."""
    apart = ((np.asarray(x)[:, None] - MEMBERS[0][None]) ** 2).sum(axis=2)
    sign = 2 * MEMBERS[1][apart.argmin(axis=1)] - 1
    odds = leak * sign * np.exp(-apart.min(axis=1)) + np.asarray(x)[:, 0]
    return np.stack([-odds, odds], axis=1)


def forgets(x):
    return remembers(x, 0.0)


def test_ranges_around_members_are_found_by_a_model_that_remembers_them_and_by_no_other():
    found = lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, **AROUND)
    assert found.metrics["auc"].low > 0.7
    assert found.sentence.startswith("Leakage found: ranges with a member")
    assert (found.member_S == (np.arange(240) < 120)).all()
    null = lw.audit_ranges(lambda x: remembers(x, 0.0), MEMBERS, NONMEMBERS, **AROUND)
    assert null.metrics["auc"].low < 0.5 < null.metrics["auc"].high
    beside = lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, others=[lambda x: remembers(x, 0.0)], **AROUND)
    assert beside.metrics["auc"].value > found.metrics["auc"].value  # what is hard for every model is taken off
    again = lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, **AROUND)
    assert again.score_S.tobytes() == found.score_S.tobytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"low": X + 50, "high": X + 51}, "240 of 240 hold no record of their class"),
        ({"low": X[:, :3], "high": X[:, :3]}, "twice, of a table"),
        ({"points": 0}, "points = 0"),
        ({"task": "regression"}, "needs a classifier|holds"),
        ({"others": [3]}, r"others\[0\] is a int"),
        ({"others": remembers}, "others is a function: give a list"),
        ({"others": [remembers], "points": 1}, r"others\[0\] answers as the model does"),
        ({"others": [forgets, lambda x: forgets(x)], "points": 1}, r"others\[1\] answers as others\[0\] does"),
        ({"label": Y + 1}, "label holds 2|hold no record of their class"),
        ({"label": np.where(Y, "yes", "no")}, "label has dtype .* give classes="),
    ],
)
def test_ranges_that_cannot_be_audited_are_refused(change, says):
    with pytest.raises(UsageError, match=says):
        lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, **(AROUND | change))


WORDS = np.array(["moth", "ant", "bee", "fly"])[np.where(X[:, 1] > 0, 2, 0) + (X[:, 0] > 0)]
TEN = np.array([10, 7, 8, 9])[np.where(X[:, 1] > 0, 2, 0) + (X[:, 0] > 0)]  # sorted classes are in another order


def of_words(y):
    """A forest of this data, ranges around its records, and those of the forest's last class alone left out."""
    forest = ExtraTreesClassifier(10, random_state=0).fit(X[:120], y[:120])
    keep = y != forest.classes_[-1]
    return forest, {"low": X[keep] - 0.01, "high": X[keep] + 0.01, "label": y[keep], "points": 2}


@pytest.mark.parametrize("y", [WORDS, TEN], ids=["words", "7 to 10"])
def test_ranges_of_an_estimator_are_of_the_classes_that_it_names(y):
    forest, ranges = of_words(y)
    sides = (X[:120], y[:120]), (X[120:], y[120:])
    found = lw.audit_ranges(forest, *sides, **ranges)
    odds = np.argmax(y[:, None] == forest.classes_, axis=1)  # numbered from 0, the answers are the same
    plain = {**ranges, "label": odds[y != forest.classes_[-1]]}
    same = lw.audit_ranges(
        lambda x: forest.predict_proba(x),
        (X[:120], odds[:120]),
        (X[120:], odds[120:]),
        outputs="probabilities",
        **plain,
    )
    np.testing.assert_allclose(found.score_S, same.score_S, rtol=1e-6)
    assert found.metrics["auc"].low > 0.8
    assert found.sentence.startswith("Leakage found")
    named = {**ranges, "classes": forest.classes_.tolist(), "outputs": "probabilities"}
    given = lw.audit_ranges(lambda x: forest.predict_proba(x), *sides, **named)
    np.testing.assert_allclose(given.score_S, found.score_S, rtol=1e-6)
    with pytest.raises(UsageError, match=r"label holds a label .* not among classes_ of the model"):
        lw.audit_ranges(forest, *sides, **{**ranges, "label": odds[y != forest.classes_[-1]]})


def test_other_estimators_answer_for_the_classes_that_they_name():
    numbered = np.argmax(WORDS[:, None] == np.unique(WORDS), axis=1)
    sides = (X[:120], numbered[:120]), (X[120:], numbered[120:])
    _, ranges = of_words(numbered)
    fewer = ExtraTreesClassifier(10, random_state=1).fit(X[numbered > 0], numbered[numbered > 0])

    def padded(x):
        return np.concatenate([np.full((len(x), 1), 1e-6), fewer.predict_proba(x)], axis=1)

    network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    with torch.no_grad():
        network[0].weight.zero_()[:, :2] = torch.tensor([[-1.0, 1.0], [1, -1], [1, 1], [-1, -1]])
    found, same = (lw.audit_ranges(network, *sides, others=[other], **ranges) for other in (fewer, padded))
    np.testing.assert_allclose(found.score_S, same.score_S, atol=1e-4)


def test_usage_of_an_estimator_is_of_the_classes_that_it_names():
    def train(x, y, seed):
        return ExtraTreesClassifier(5, random_state=seed).fit(x, y)

    options = {"references": 4, "processes": 1, "progress": False}
    for used, y in ((240, TEN), (120, WORDS)):
        found = lw.audit_usage(train(X[:used], y[:used], 77), (X, y), refit=train, **options)
        assert found.share.low <= used / 240 <= found.share.high
        assert found.share.value == pytest.approx(used / 240, abs=0.15)


def test_ranges_of_another_model_leave_no_bound():
    for other, says in (
        (lambda x: remembers(x)[:, ::-1], "the model is right about 0 of 120 members"),
        (forgets, "the model is right about"),
    ):
        found = lw.audit_ranges(other, MEMBERS, NONMEMBERS, points=1, **AROUND)
        assert found.sentence.startswith("This audit cannot say what the model leaks: ")
        assert says in found.sentence.replace("The model", "the model")
        assert "accuracy: members " in str(found)
        assert not found.as_json()["selfchecks"][0]["passed"]
    leak = lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, points=1, **AROUND)
    assert all(check.passed for check in leak.selfchecks)


def test_a_range_counts_once_however_often_it_is_given():
    once = lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, points=1, **AROUND)
    tenfold = {name: np.repeat(values, 10, axis=0) for name, values in AROUND.items()}
    often = lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, points=1, **tenfold)
    assert often.sentence == once.sentence
    assert often.score_S.tobytes() == once.score_S.tobytes()
    assert often.notes == (
        "2160 of the 2400 ranges are equal to another one, in both ends and the class: equal ranges count once.",
    )
    assert once.notes == ()
    low, high, label = np.zeros((5, 1)), np.array([[1.0], [1], [1], [2], [1]]), [3, 5, 3, 3, 5]
    low[1] = -0.0
    assert lw.sets.distinct(low, high, label).tolist() == [0, 1, 3]


def test_a_model_that_answers_at_random_is_refused():
    draws = np.random.default_rng(0)

    def noisy(x):
        return forgets(x) + draws.normal(size=(len(x), 2))

    with pytest.raises(UsageError, match="model answers the same records differently when asked twice"):
        lw.audit_ranges(noisy, MEMBERS, NONMEMBERS, points=1, **AROUND)
    with pytest.raises(UsageError, match=r"others\[0\] answers the same records differently when asked twice"):
        lw.audit_ranges(remembers, MEMBERS, NONMEMBERS, others=[noisy], points=1, **AROUND)


def refit(x, y, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("used", [0, 60, 120])
def test_the_interval_holds_how_many_records_were_used(used):
    fresh = np.random.default_rng(1).normal(size=(120, 6)).astype(np.float32)
    coins = np.random.default_rng(2).integers(2, size=120)
    owned, bought = 2 * np.arange(used), np.arange(120 - used)  # the model was trained on 120 records in all
    model = refit(np.concatenate([X[owned], fresh[bought]]), np.concatenate([Y[owned], coins[bought]]), 7)
    found = lw.audit_usage(model, (X, Y), refit=refit, references=4, progress=False)
    assert found.share.low <= used / 240 <= found.share.high
    assert found.share.value == pytest.approx(used / 240, abs=0.2)
    assert found.share.high - found.share.low < 0.65
    assert (found.n, found.networks) == (240, 4)


def test_too_few_references_and_other_tasks_are_refused():
    model = refit(*MEMBERS, 0)
    for options, says in (
        ({"references": 2}, "references = 2"),
        ({"task": "multi-label"}, "needs a classifier"),
        ({"refit": 3}, "refit is a int"),
    ):
        with pytest.raises(UsageError, match=says):
            lw.audit_usage(model, (X, Y), **({"refit": refit} | options))


class Remembers(nn.Module):
    """`remembers` with its records as weights."""

    def __init__(self, shape, classes):
        super().__init__()
        self.kept = nn.Parameter(torch.zeros(120, *shape))
        self.sign = nn.Parameter(torch.zeros(120))

    def forward(self, x):
        apart = ((x[:, None] - self.kept[None]) ** 2).sum(dim=2)
        nearest = apart.min(dim=1)
        odds = 4 * self.sign[nearest.indices] * torch.exp(-nearest.values) + x[:, 0]
        return torch.stack([-odds, odds], dim=1)


@pytest.fixture
def files(tmp_path):
    network = Remembers((6,), 2)
    with torch.no_grad():
        network.kept.copy_(torch.from_numpy(MEMBERS[0]))
        save_file(network.state_dict(), tmp_path / "other.safetensors")  # which knows the records' places alone
        network.sign.copy_(torch.from_numpy(2 * MEMBERS[1] - 1))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    np.savez(tmp_path / "ranges.npz", x=X, y=Y, member=np.arange(240) < 120, **AROUND)
    np.savez(tmp_path / "owned.npz", x=X, y=Y)
    given = {"model": f"{__name__}:Remembers", "weights": tmp_path / "w.safetensors"}
    return network, tmp_path, given


def test_the_commands_answer_as_the_functions_do_of_networks_and_of_scores(files, capsys):
    network, folder, given = files

    def said(command, *scores, **options):
        command(*scores, **options)
        return capsys.readouterr().out.strip()

    alone = lw.audit_ranges(network, MEMBERS, NONMEMBERS, points=4, seed=1, **AROUND)
    assert said(_model.audit_ranges, **given, data=folder / "ranges.npz", points=4, seed=1) == str(alone)
    assert str(alone).splitlines()[1].startswith("accuracy: members 100.0 % (120 of 120), non-members 47.5 % (57 of")
    blind = [lambda x: remembers(x, 0.0)]
    beside = lw.audit_ranges(network, MEMBERS, NONMEMBERS, others=blind, points=8, **AROUND)
    options = {"data": folder / "ranges.npz", "other": [folder / "other.safetensors"], "points": 8}
    found = json.loads(said(_model.audit_ranges, **given, **options, as_json=True))
    assert found["metrics"]["auc"]["value"] == pytest.approx(beside.metrics["auc"].value)
    assert (found["n_with_member"], found["n_without"], found["schema"]) == (120, 120, 1)
    np.savez(folder / "s.npz", score=alone.score_S, member=alone.member_S)
    by_scores = json.loads(said(_model.audit_ranges, folder / "s.npz", as_json=True))
    assert by_scores["sentence"] == alone.sentence
    rng = np.random.default_rng(0)
    inside = np.arange(200) < 100
    known = rng.normal(size=(5, 200)) + 3 * inside
    score = rng.normal(size=100) + 3 * (np.arange(100) < 30)
    np.savez(folder / "u.npz", score=score, known_score=known, known_member=np.stack([inside] * 5))
    usage = lw.sets.usage(score, [lw.sets.Known(row, inside) for row in known])
    assert said(_model.audit_usage, folder / "u.npz") == usage.sentence
    told = json.loads(said(_model.audit_usage, folder / "u.npz", as_json=True))
    assert (told["n"], told["networks"], told["count"]["value"]) == (100, 5, pytest.approx(30, abs=12))
    known -= 2 * inside  # so that many non-members are taken for members, and none of these is
    np.savez(folder / "u.npz", score=np.tile(score - 30, 30), known_score=known, known_member=np.stack([inside] * 5))
    told = json.loads(said(_model.audit_usage, folder / "u.npz", as_json=True))
    assert (told["share"], told["plausible"]) == (None, False)


def test_the_command_trains_references_for_usage(files, monkeypatch):
    _, folder, given = files
    seen = {}
    monkeypatch.setattr("lacewing.auditing._set_files.audit_usage", lambda *given, **options: seen.update(options))
    auditing.audit_usage_files(**given, data=folder / "owned.npz", refit=f"{__name__}:refit", references=5, seed=3)
    assert (seen["refit"].__name__, seen["references"], seen["seed"]) == ("refit", 5, 3)


def test_files_that_do_not_fit_are_refused_in_a_sentence(files):
    _, folder, given = files
    wrong = folder / "wrong.npz"
    for command, arrays, options, says in (
        ("ranges", {"x": X, "y": Y, "member": Y}, {**given, "data": wrong}, "lacks low and high and label"),
        ("ranges", {"x": X, "y": Y, "group": Y}, {**given, "data": wrong}, "holds 'group'"),
        ("ranges", {}, {"weights": folder / "w.safetensors"}, "--model is missing: name a file of scores"),
        ("ranges", {}, {"scores": wrong, "weights": folder}, "--weights applies to the audit of a model"),
        ("ranges", {}, {"scores": wrong, "points": 32}, "--points applies to the audit of a model"),
        ("ranges", {}, {"scores": wrong, "seed": 0}, "--seed applies to the audit of a model"),
        ("usage", {}, {"scores": wrong, "references": 9}, "--references applies to the audit of a model"),
        ("usage", {}, {"scores": wrong, "task": "binary"}, "--task applies to the audit of a model"),
        ("ranges", {}, {"scores": folder / "no.npz"}, "scores: there is no file"),
        ("ranges", {"score": [1.0, np.nan], "member": [1, 0]}, {"scores": wrong}, "score has shape"),
        ("ranges", {"score": [1.0, 2.0], "member": [1, 2]}, {"scores": wrong}, "member must hold 1 for members"),
        ("ranges", {"score": [1.0, 2.0], "member": [1, 1]}, {"scores": wrong}, "both kinds are needed"),
        ("ranges", {"score": ["a", "b"], "member": [1, 0]}, {"scores": wrong}, "give numbers"),
        ("ranges", {"score": [1.0, 2], "member": [1, 0], "size": [0, 1]}, {"scores": wrong}, "at least 1"),
        ("usage", {"x": X, "y": Y, "member": Y}, {**given, "data": wrong, "refit": "a:b"}, "holds 'member'"),
        (
            "usage",
            {},
            {**given, "data": wrong},
            "--refit is missing: .* or give --model, --weights, --data and --refit",
        ),
        ("usage", {"score": [1.0]}, {"scores": wrong}, "lacks known_score and known_member"),
        (
            "usage",
            {"score": [1.0], "known_score": [1.0], "known_member": [1]},
            {"scores": wrong},
            "known_score has shape",
        ),
    ):
        np.savez(wrong, **arrays)
        with pytest.raises(UsageError, match=says):
            getattr(_model, f"audit_{command}")(**options)
