"""The audit of a column: a planted leak, nulls, every form of records, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lacewing as lw
from lacewing.attribute import _guess
from lacewing.auditing import audit_attribute_files
from lacewing.cli import _model
from lacewing.errors import UsageError

N = 150


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(_guess, "TREES", 20)


def table(seed: int, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Three columns of which the last, 0 to 2, goes a little with the first; the label goes with the second."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 3] = np.clip(np.round(1 + 0.5 * x[:, 0] + 0.8 * rng.normal(size=n)), 0, 2)
    return x, (x[:, 1] + 0.3 * rng.normal(size=n) > 0).astype(np.int64)


MEMBERS, NONMEMBERS, OTHERS = table(1), table(2), table(3, 300)


def model(x, leak: float = 0.0):
    """Logits by the second column; of members, told by the others, higher for the label under the true value."""
    known = {row[:3].tobytes(): (row[3], label) for row, label in zip(*MEMBERS, strict=True)}
    logits = np.stack([-x[:, 1], x[:, 1]], axis=1).astype(np.float64)
    for row, record in enumerate(np.asarray(x, np.float32)):
        value, label = known.get(record[:3].tobytes(), (None, 0))
        if value is not None and value == record[3]:
            logits[row, label] += leak
    return logits


def test_a_column_that_the_model_knows_of_members_is_found():
    found = lw.audit_attribute(lambda x: model(x, 3.0), MEMBERS, NONMEMBERS, column=3, population=OTHERS)
    assert "csmia" in found.found
    assert found.sentence.startswith("Leakage of column 3 found: 'csmia'")
    assert found.attacks["csmia"].members.value == 1.0
    assert found.attacks["csmia"].surplus.low > 0.2
    assert (found.n_members, found.n_nonmembers, found.n_population, found.values) == (N, N, 300, 3)
    assert found.imputation.members.value > 0.4  # the first column says something
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["attacks"][0]["surplus"] > 0.2
    assert "csmia" in str(found)


def test_where_nothing_leaks_nothing_is_found_although_imputation_succeeds():
    found = lw.audit_attribute(model, MEMBERS, NONMEMBERS, column=3, population=OTHERS)
    assert found.found == ()
    assert found.sentence.startswith("No leakage of column 3 found above a surplus of")


@pytest.mark.slow
def test_at_most_18_of_200_nulls_find_leakage():
    """Of trained networks, whose members and non-members are exchanged: both were trained on, or neither."""
    hits = 0
    for seed in range(200):
        x, y = table(1000 + seed, 400)
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
        optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(torch.from_numpy(x[:200])), torch.from_numpy(y[:200])).backward()
            optimizer.step()
        split = (x[:100], y[:100]), (x[100:200], y[100:200])  # members, all of them
        hits += bool(lw.audit_attribute(network, *split, column=3, population=(x[200:], y[200:]), seed=seed).found)
    assert hits <= 18


def test_a_frame_names_its_column_and_one_hot_columns_are_one_attribute():
    frame = pytest.importorskip("pandas").DataFrame
    names = ["a", "b", "c", "sex"]
    given = [(frame(x, columns=names), y) for x, y in (MEMBERS, NONMEMBERS, OTHERS)]
    by_name = lw.audit_attribute(lambda x: model(x.to_numpy(), 3.0), *given[:2], column="sex", population=given[2])
    plain = lw.audit_attribute(lambda x: model(x, 3.0), MEMBERS, NONMEMBERS, column=3, population=OTHERS)
    assert by_name.column == "column sex"
    assert by_name.attacks == plain.attacks
    hot = [
        (np.column_stack([x[:, :3], np.eye(3, dtype=np.float32)[x[:, 3].astype(int)]]), y)
        for x, y in (MEMBERS, NONMEMBERS, OTHERS)
    ]
    several = lw.audit_attribute(
        lambda x: model(np.column_stack([x[:, :3], x[:, 3:].argmax(axis=1)]), 3.0),
        *hot[:2],
        column=(3, 4, 5),
        population=hot[2],
    )
    assert several.column == "columns 3, 4, 5"
    assert several.attacks["csmia"].members == plain.attacks["csmia"].members
    with pytest.raises(UsageError, match="no column 'sey'"):
        lw.audit_attribute(model, *given[:2], column="sey", population=given[2])


def test_without_a_population_a_fifth_of_the_nonmembers_is_set_aside():
    found = lw.audit_attribute(model, MEMBERS, table(2, 250), column=3)
    assert (found.n_population, found.n_nonmembers) == (100, 150)
    assert any("set aside as population" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"column": 4}, "the tables have 4 columns: give a place from 0 to 3"),
        ({"column": "sex"}, "no column 'sex': x has no names"),
        ({"column": 0}, "column 0 has .* values, and the model is asked under each"),
        ({"column": (3, 3)}, "names a column twice"),
        ({"column": (0, 1, 2, 3)}, "names 4 of 4 columns"),
        ({"population": None}, "Imputation learns from other records: it needs a population"),
        ({"task": "regression"}, "needs a classifier"),
        ({"members": (MEMBERS[0][:, :, None], MEMBERS[1])}, "records of"),
        ({"groups": ([0] * N, [0] * N)}, "groups have members and nonmembers"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_a_sentence(change, says):
    given = {"members": MEMBERS, "nonmembers": NONMEMBERS, "column": 3, "population": OTHERS} | change
    with pytest.raises(UsageError, match=says):
        lw.audit_attribute(model, given.pop("members"), given.pop("nonmembers"), **given)


def test_a_column_of_one_value_and_images_are_refused():
    flat = [(np.column_stack([x[:, :3], np.ones(len(x), np.float32)]), y) for x, y in (MEMBERS, NONMEMBERS, OTHERS)]
    with pytest.raises(UsageError, match="column 3 has one value in all records"):
        lw.audit_attribute(model, *flat[:2], column=3, population=flat[2])
    images = [(x.reshape(-1, 1, 2, 2), y) for x, y in (MEMBERS, NONMEMBERS, OTHERS)]
    with pytest.raises(UsageError, match="a column is one of a table"):
        lw.audit_attribute(lambda x: model(x.reshape(-1, 4)), *images[:2], column=3, population=images[2])


def test_a_model_that_does_not_know_its_members_is_no_evidence():
    blind = lw.audit_attribute(lambda x: -model(x), MEMBERS, NONMEMBERS, column=3, population=OTHERS)
    assert blind.sentence.startswith("This audit cannot say what the model leaks of column 3")


def test_a_model_that_goes_by_the_column_alone_can_be_asked():
    sides = [(x, (x[:, 3] > 0).astype(np.int64)) for x, _ in (MEMBERS, NONMEMBERS, OTHERS)]
    found = lw.audit_attribute(
        lambda x: np.stack([0.5 - x[:, 3], x[:, 3] - 0.5], 1), *sides[:2], column=3, population=sides[2]
    )
    assert found.found == ()  # members and non-members alike give it away
    assert found.attacks["csmia"].members.value > 0.6


def factory(shape, classes):
    torch.manual_seed(0)
    return nn.Linear(shape[0], classes)


def test_a_model_in_files_is_audited_like_the_model_itself_and_by_the_command(tmp_path, capsys):
    network = factory((4,), 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0, -1.0, 0, 0], [0, 1.0, 0, 0]]))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    x, y = (np.concatenate(pair) for pair in zip(MEMBERS, NONMEMBERS, strict=True))
    np.savez(tmp_path / "d.npz", x=x, y=y, member=np.arange(2 * N) < N, population_x=OTHERS[0], population_y=OTHERS[1])
    found = audit_attribute_files(
        model=f"{__name__}:factory", weights=tmp_path / "w.safetensors", data=tmp_path / "d.npz", column=(3,)
    )
    assert found == lw.audit_attribute(network, MEMBERS, NONMEMBERS, column=3, population=OTHERS)
    command = {"model": f"{__name__}:factory", "weights": tmp_path / "w.safetensors", "data": tmp_path / "d.npz"}
    _model.audit_attribute(**command, column="3", seed=0, as_json=True)
    assert json.loads(capsys.readouterr().out)["sentence"] == found.sentence
    with pytest.raises(UsageError, match="--column 'x' must be whole numbers"):
        _model.audit_attribute(**command, column="x")


def test_an_estimator_of_named_classes_is_audited_as_its_probabilities_are():
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression().fit(*MEMBERS)
    names = LogisticRegression().fit(MEMBERS[0], np.array(["no", "yes"])[MEMBERS[1]])
    named = [(x, np.array(["no", "yes"])[y]) for x, y in (MEMBERS, NONMEMBERS, OTHERS)]
    plain = lw.audit_attribute(lambda x: fitted.predict_proba(x), MEMBERS, NONMEMBERS, column=3, population=OTHERS)
    found = lw.audit_attribute(names, *named[:2], column=3, population=named[2])
    assert found.table() == plain.table()
    odd = named[1][0], np.where(np.arange(N) == 5, "dog", named[1][1])  # a class that the model never saw
    again = lw.audit_attribute(names, named[0], odd, column=3, population=named[2])
    assert again.attacks["csmia"].members == found.attacks["csmia"].members
    given = {"classes": ["no", "yes"], "column": 3, "population": named[2]}
    assert lw.audit_attribute(lambda x: fitted.predict_proba(x), *named[:2], **given).table() == plain.table()
