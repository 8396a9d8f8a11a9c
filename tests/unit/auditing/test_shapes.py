"""Every shape of an answer and of records that people have gives the audit of the plain one, or is refused by name."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import SVC
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lacewing.auditing import _call, _classes, _form, _inputs, _levels, _pick, _stream
from lacewing.auditing._model import audit
from lacewing.errors import UsageError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 6)).astype(np.float32)
Y = np.arange(120) % 3
NAMES = np.array(["ant", "bee", "cat"])
SIDES = slice(60), slice(60, None)
torch.manual_seed(0)
NET = nn.Linear(6, 3).eval()


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def scores(model, members=None, nonmembers=None, *, attacks="loss", **options):
    sides = [(X[side], Y[side]) for side in SIDES]
    found = audit(model, members or sides[0], nonmembers or sides[1], attacks=attacks, progress=False, **options)
    return found.attacks[0].score_N, found.notes


@pytest.fixture(scope="module")
def plain():
    return scores(NET)[0]


class Answers(nn.Module):
    """The network, with its answer in another shape."""

    def __init__(self, shape):
        super().__init__()
        self.net, self.shape = NET, shape

    def forward(self, x):
        return self.shape(self.net(x), x)


class Output(dict):
    """As transformers' ModelOutput: a mapping whose entries are attributes."""

    __getattr__ = dict.__getitem__


class Bare:
    def __init__(self, logits):
        self.logits = logits


SHAPES = [
    (lambda z, x: Output(logits=z, hidden_states=(x,)), None),
    (lambda z, x: {"logits": z, "features": x}, None),
    (lambda z, x: {"out": z}, None),
    (lambda z, x: Bare(z), None),
    (lambda z, x: (z,), None),
    (lambda z, x: (z.sum(), z, None), r"tuple of 0 \(\), 1 \(120, 3\), 2 \(NoneType\): 1 was taken, the only one"),
    (lambda z, x: [z, x[:, None].expand(-1, 2, -1)], "list of .*: 0 was taken"),
]


@pytest.mark.parametrize(("shape", "note"), SHAPES)
def test_the_logits_of_an_answer_are_found(shape, note, plain):
    found, notes = scores(Answers(shape))
    np.testing.assert_array_equal(found, plain)
    taken = [each for each in notes if "was taken" in each]
    assert len(taken) == (note is not None)
    if note:
        assert re.search(note, taken[0])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [shape for shape, _ in SHAPES])
def test_gradients_are_taken_of_the_logits_of_an_answer(shape):
    np.testing.assert_allclose(
        scores(Answers(shape), attacks="gradient-norm")[0], scores(NET, attacks="gradient-norm")[0], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (lambda z, x: (z, x), r"tuple of 0 \(120, 3\), 1 \(120, 6\), and more than one .*self.model\(x\)\[0\]"),
        (lambda z, x: {"a": z, "b": x}, r"dict of 'a' \(120, 3\), .*more than one .*self.model\(x\)\['a'\]"),
        (lambda z, x: (x[:, None], z.sum()), "tuple of .*none of these can be its logits"),
        (lambda z, x: z[:, 0], "one number a record.*task='binary'"),
        (lambda z, x: z[:, None, :], "answered float32 of shape"),
    ],
)
def test_an_answer_that_may_be_several_things_is_refused_with_the_mend(shape, says):
    with pytest.raises(UsageError, match=says):
        scores(Answers(shape))


def test_the_first_answer_decides_for_later_ones():
    pick = _pick.Picker("model", "classification", module=False)
    assert pick((torch.zeros(()), torch.ones(20, 3)), 20).shape == (20, 3)
    assert pick((torch.zeros(()), torch.ones(1, 3)), 1).shape == (1, 3)  # of one record, as vmap asks
    with pytest.raises(UsageError, match="in another form before"):
        pick(3.0, 20)


def named(*, shift=0):
    return [(X[side], NAMES[Y[side]] if shift == 0 else Y[side] + shift) for side in SIDES]


def test_an_estimator_is_asked_for_probabilities_in_the_order_of_its_classes(plain):
    numbered = LogisticRegression().fit(X[SIDES[0]], Y[SIDES[0]])
    wanted, _ = scores(lambda x: numbered.predict_log_proba(x))
    for labels in (named(), named(shift=1), named(shift=-1)):
        model = LogisticRegression().fit(*labels[0])
        found, notes = scores(model, *labels)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        assert notes[0] == "model is a LogisticRegression: its predict_proba was asked."
        np.testing.assert_allclose(scores(model.predict_proba, *labels)[0], wanted, rtol=1e-4, atol=1e-5)


def test_margins_count_as_logits_and_those_of_pairs_of_classes_are_refused():
    model = SVC().fit(X[SIDES[0]], Y[SIDES[0]])
    np.testing.assert_array_equal(scores(model)[0], scores(model.decision_function, outputs="logits")[0])
    two = [(x, y % 2) for x, y in named(shift=3)]
    pair = SVC().fit(*two[0])
    assert scores(pair, *two)[0] == pytest.approx(
        scores(lambda x: np.stack([0 * (d := pair.decision_function(x)), d], 1), *two)[0]
    )
    four = [(X[side], np.arange(60) % 4) for side in SIDES]
    with pytest.raises(UsageError, match=r"model answers 6 margins and has 4 classes: .*='ovr'"):
        scores(SVC(decision_function_shape="ovo").fit(*four[0]), *four)


def test_a_regression_is_asked_for_its_predictions_and_tasks_are_not_mixed():
    sides = [(X[side], X[side] @ np.arange(6) + RNG.normal(size=60)) for side in SIDES]
    model = LinearRegression().fit(*sides[0])
    np.testing.assert_array_equal(
        scores(model, *sides, task="regression")[0], scores(model.predict, *sides, task="regression")[0]
    )
    with pytest.raises(UsageError, match=r"neither predict_proba nor decision_function: say task='regression'"):
        scores(LinearRegression().fit(X[:60], Y[:60]))
    with pytest.raises(UsageError, match="a classifier, and task='regression'"):
        scores(LogisticRegression().fit(X[:60], Y[:60]), *sides, task="regression")


def test_labels_that_the_model_does_not_know_are_refused_for_members_and_noted_for_others():
    members, nonmembers = named()
    model = LogisticRegression().fit(*members)
    odd = (nonmembers[0], np.where(np.arange(60) == 5, "dog", nonmembers[1]))
    with pytest.raises(
        UsageError, match="members: y holds a label in record 6 that is not among classes_ of the model"
    ):
        scores(model, odd, members)
    found, notes = scores(model, members, odd)
    assert any("nonmembers have labels of 1 class that is not among classes_ of the model" in note for note in notes)
    assert np.argmin(found) == 65  # a probability of one in a million
    with pytest.raises(UsageError, match="nonmembers: y holds a label in record 1 that is not among"):
        scores(model, members, (X[SIDES[1]], Y[SIDES[1]]))
    with pytest.raises(UsageError, match="classes are not those that the estimator has"):
        scores(model, members, nonmembers, classes=["bee", "ant", "cat"])


def test_classes_name_the_columns_of_a_network(plain):
    np.testing.assert_array_equal(scores(NET, *named(), classes=["ant", "bee", "cat"])[0], plain)
    assert not np.allclose(scores(NET, *named(), classes=["bee", "ant", "cat"])[0], plain)
    with pytest.raises(UsageError, match=r"members: y has dtype <U3.*give classes="):
        scores(NET, *named())
    with pytest.raises(UsageError, match="classes names a class twice"):
        scores(NET, *named(), classes=["ant", "ant", "cat"])


@pytest.mark.slow
def test_a_reference_that_never_saw_a_class_has_it_in_the_right_place(tmp_path):
    labels = np.where(np.arange(120) == 7, "aardvark", NAMES[Y])  # in one half alone, and first in the alphabet
    sides = [(X[side], labels[side]) for side in SIDES]

    def refit(x, y, seed):
        assert y.dtype.kind == "U"
        return LogisticRegression().fit(x, y)

    model = LogisticRegression().fit(*sides[0])
    options = {"attacks": ["loss", "lira-online"], "progress": False, "references": 4, "out": tmp_path}
    first = audit(model, *sides, refit=refit, **options)
    files = sorted((tmp_path / "references").iterdir())
    times = [path.stat().st_mtime_ns for path in files]
    again = audit(model, *sides, refit=refit, **options)
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "references").iterdir())] == times
    np.testing.assert_array_equal(first.attacks[0].score_N, again.attacks[0].score_N)
    lacking = []
    for path in files:
        stored = np.load(path)
        made = LogisticRegression().fit(X[stored["in_N"]], labels[stored["in_N"]])
        columns = [sorted(set(labels)).index(each) for each in made.classes_]
        np.testing.assert_allclose(stored["logits_NC"][:, columns], made.predict_log_proba(X), atol=1e-3)
        lacking.append(len(columns) == 3)
        if lacking[-1]:
            np.testing.assert_allclose(stored["logits_NC"][:, 0], np.log(1e-6), atol=1e-3)
    assert sorted(lacking) == [False, False, True, True]


class Items:
    def __init__(self, rows, make):
        self.rows, self.make = range(120)[rows], make

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.make(self.rows[index])


class Keyword(nn.Module):
    """Takes its two inputs by name, as a network for text does."""

    def __init__(self):
        super().__init__()
        self.net = NET

    def forward(self, left, right=None, **further):
        assert not further
        return {"logits": self.net(torch.cat([left, right.float() / 1000], 1))}


WHOLE = (X * 1000).astype(np.int64)


def both(make):
    return [Items(side, make) for side in SIDES]


@pytest.mark.parametrize(
    "sides",
    [
        both(lambda i: (X[i], Y[i], i)),
        both(lambda i: {"image": X[i], "label": int(Y[i])}),
        both(lambda i: {"x": torch.from_numpy(X[i]), "y": Y[i]}),
        [DataLoader(TensorDataset(torch.from_numpy(X[s]), torch.from_numpy(Y[s])), batch_size=7) for s in SIDES],
        [DataLoader(Items(s, lambda i: {"image": X[i], "label": Y[i]}), batch_size=7) for s in SIDES],
        [{"image": X[s], "labels": Y[s]} for s in SIDES],
    ],
    ids=["index", "dicts", "tensors", "loader", "loader of dicts", "batch"],
)
def test_items_of_every_kind_are_records_and_labels(sides, plain):
    np.testing.assert_array_equal(scores(NET, *sides)[0], plain)


@pytest.mark.parametrize("tensors", [True, False])
def test_fields_go_to_the_arguments_of_their_names_and_others_are_left_out(tensors):
    whole = (X[:, 3:] * 1000).astype(np.int64)
    wrap = torch.from_numpy if tensors else np.asarray
    sides = both(lambda i: {"text": f"a {i}", "right": wrap(whole[i]), "left": wrap(X[i, :3]), "labels": Y[i]})
    found, notes = scores(Keyword(), *sides)
    wanted, _ = scores(NET, *((np.concatenate([X[s, :3], whole[s] / 1000], 1).astype(np.float32), Y[s]) for s in SIDES))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert "The fields text were left out" in notes[0]
    got = []

    def function(records):
        got.append({name: type(value) for name, value in records.items()})
        return NET(torch.cat([torch.as_tensor(records["left"]), torch.as_tensor(records["right"]) / 1000], 1))

    np.testing.assert_allclose(scores(function, *sides)[0], wanted, rtol=1e-6)
    kind = torch.Tensor if tensors else np.ndarray
    assert got[0] == {"text": list, "right": kind, "left": kind}


@pytest.mark.slow
@pytest.mark.parametrize("tensors", [True, False])
def test_gradients_are_taken_of_fields(tensors):
    wrap = torch.from_numpy if tensors else np.asarray
    sides = both(lambda i: {"right": wrap(WHOLE[i, 3:]), "left": wrap(X[i, :3]), "labels": Y[i]})
    assert np.isfinite(scores(Keyword(), *sides, attacks="gradient-norm")[0]).all()


def test_references_are_trained_on_halves_of_dicts():
    def refit(fields, y, seed):
        assert set(fields) == {"left", "right"}
        assert fields["right"].dtype == torch.int64
        torch.manual_seed(seed + 1)
        model = Keyword()
        model.net = nn.Linear(6, 3)
        return model

    sides = [({"left": torch.from_numpy(X[s, :3]), "right": torch.from_numpy(WHOLE[s, 3:])}, Y[s]) for s in SIDES]
    found = audit(Keyword(), *sides, refit=refit, references=4, attacks=["loss", "lira-online"], progress=False)
    assert len(found.attacks) == 2


def pad(items):
    longest = max(len(item["left"]) for item in items)
    rows = [nn.functional.pad(item["left"], (0, longest - len(item["left"]))) for item in items]
    return {"left": torch.stack(rows), "labels": torch.tensor([int(item["labels"]) for item in items])}


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 3, padding_idx=0)

    def forward(self, left):
        return self.embedding(left).sum(1)


def test_ragged_records_are_padded_alike_on_both_sides_by_collate_or_refused():
    words = [RNG.integers(1, 50, 3 + i % 5 + 4 * (i == 100)) for i in range(120)]
    sides = both(lambda i: {"left": torch.from_numpy(words[i]), "labels": Y[i]})
    model = Mean()
    with pytest.raises(UsageError, match=r"members: 'left' holds records of several shapes: .*collate="):
        scores(model, *sides)
    found, _ = scores(model, *sides, collate=pad)
    z = np.stack([model.embedding(torch.from_numpy(each)).sum(0).detach().numpy() for each in words])
    loss = nn.functional.cross_entropy(torch.from_numpy(z), torch.from_numpy(Y), reduction="none").numpy()
    order = np.argsort(found)
    assert (np.diff(loss[order]) <= 1e-5).all()
    loaders = [DataLoader(side, batch_size=9, collate_fn=pad) for side in sides]
    np.testing.assert_array_equal(scores(model, *loaders)[0], found)
    pairs = [([words[i] for i in range(120)[s]], Y[s]) for s in SIDES]
    with pytest.raises(UsageError, match="members holds records of several shapes"):
        scores(model, *pairs)

    def join(items):
        batch = pad([{"left": torch.from_numpy(x), "labels": y} for x, y in items])
        return batch["left"], batch["labels"]

    np.testing.assert_array_equal(scores(model, *pairs, collate=join)[0], found)
    for sides, collate, says in (
        ([(x, y[:55]) for x, y in pairs], join, "members holds 60 records and 55 labels: give one label a record"),
        ([(x[:55], y) for x, y in pairs], join, "members holds 55 records and 60 labels"),
        ([({"left": x}, y) for x, y in pairs], join, "members: x is a dict, and collate= takes a list of items"),
        (pairs, lambda items: join(items[5:]), "collate, given 120 items, makes a batch of 115: it must keep every"),
    ):
        with pytest.raises(UsageError, match=says):
            scores(model, *sides, collate=collate)


@pytest.mark.parametrize(
    ("sides", "says"),
    [
        (both(lambda i: (X[i], Y[i], 0.5)), "three things, and the third is no index"),
        (both(lambda i: (X[i], Y[i], i // 2)), "three things, and the third is no index"),
        (both(lambda i: {"image": X[i]}), "members has the fields image, of which none may be the label"),
        (both(lambda i: {"image": X[i], "label": 1, "y": 2}), "of which label and y may be the label"),
        (
            both(lambda i: {"a": X[i], "b": X[i], "y": Y[i]}),
            "has the fields a, b, and forward of the model takes input",
        ),
        (
            [DataLoader(TensorDataset(torch.from_numpy(X[s]), torch.from_numpy(Y[s])), 7, shuffle=True) for s in SIDES],
            "members is a DataLoader that draws or shuffles its records .*shuffle=False",
        ),
        (
            [DataLoader(TensorDataset(torch.zeros(60, 6)), 7, drop_last=True) for _ in SIDES],
            "drops the last batch: give it with drop_last=False",
        ),
        (both(lambda i: (["word"] * 6, Y[i])), "members: x has dtype <U4"),
    ],
)
def test_items_of_which_it_is_not_known_what_they_are_are_refused(sides, says):
    with pytest.raises(UsageError, match=says):
        scores(NET, *sides)


def test_texts_go_to_the_pipeline_as_they_were():
    words = [f"{['red', 'green', 'blue'][i % 3]} w{i}" for i in range(120)]
    got = []

    def model(texts):
        got.append(texts)
        return np.stack([NET(torch.from_numpy(X[[words.index(t) for t in texts]])).detach().numpy()])[0]

    for form in (list, np.array):
        found, _ = scores(model, *((form(words[s]), Y[s]) for s in SIDES))
        assert type(got[-1]) is type(form(["a"]))
        assert set(got[-1]) <= set(words)
    np.testing.assert_array_equal(found, scores(NET)[0])


def test_levels_keep_apart_what_is_not_the_same_and_agree_between_parts():
    values = np.empty(7, object)
    values[:] = ["1", 1, 1.0, True, None, float("nan"), float("nan")]
    codes, levels = _levels.coded_levels(values, "x")
    assert codes.tolist() == [0, 1, 2, 3, 4, 5, 5]
    assert [type(level) for level in levels] == [str, int, float, bool, type(None), float]
    table = [np.array([["a", "b"], ["c", "a"]], object), np.array([["c", "z"], ["a", "b"]], object)]
    read = _inputs.Reading(words=True)
    parts = {
        name: _inputs.read((each, np.array([0, 1])), name, least=2, reading=read)
        for name, each in zip(("one", "two"), table, strict=True)
    }
    together = _inputs.join(parts)
    assert together.form.records(together.x).tolist() == [*table[0].tolist(), *table[1].tolist()]
    with pytest.raises(UsageError, match="holds list objects"):
        _levels.coded_levels(np.array([[1], [1, 2]], dtype=object), "x")


def test_a_class_that_was_never_seen_has_a_probability_of_one_in_a_million():
    logits = np.random.default_rng(1).normal(size=(5, 2))
    found = _classes.placed(logits, ("b", "a"), ("a", "b", "c"), "model")
    np.testing.assert_array_equal(found[:, :2], logits[:, ::-1])
    p = np.exp(found) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(p[:, 2], 1e-6)
    with pytest.raises(UsageError, match="model has the class 'z', which is not among"):
        _classes.placed(logits, ("z", "a"), ("a", "b"), "model")


def test_an_old_key_of_references_stays_what_it_was():
    old = {"kind", "columns", "dtypes", "label_columns", "label_dtype", "flat_labels"}
    assert set(_form.Form("frame", ("a",), ("float64",), classes=(0, 1, 2)).key()) == old
    assert set(_form.Form(classes=("a", "b")).key()) == old | {"classes"}
    assert set(inspect.signature(_form.Form).parameters) > old


# -------------------------------------------------------------------------------------------------------- streaming


def mapped(tmp_path, side):
    path = tmp_path / f"{side.start}.npy"
    np.save(path, X[side])
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize(
    ("kind", "attack"),
    [
        *((kind, "loss") for kind in ("items", "loader", "map", "one side")),
        pytest.param("items", "gradient-norm", marks=pytest.mark.slow),
    ],
)
def test_what_is_too_large_to_be_held_is_read_as_a_stream(kind, attack, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_stream, "HELD", 60 * X[0].nbytes - 1)
    monkeypatch.setattr(_stream, "BLOCK", 25)
    monkeypatch.setattr(_stream, "_EVERY", 0.0)
    monkeypatch.setattr(_call, "BATCH", 50)
    sides = both(lambda i: (X[i], Y[i]))
    if kind == "loader":
        sides = [DataLoader(side, batch_size=8) for side in sides]
    if kind == "map":
        sides = [(mapped(tmp_path, side), Y[side]) for side in SIDES]
    if kind == "one side":
        sides[1] = (X[60:], Y[60:])
    held = audit(NET, (X[:60], Y[:60]), (X[60:], Y[60:]), attacks=attack, progress=False)
    found = audit(NET, *sides, attacks=attack)
    for one, other in zip(held.attacks, found.attacks, strict=True):
        np.testing.assert_allclose(one.score_N, other.score_N, rtol=1e-5, atol=1e-6)
    told = capsys.readouterr().err
    assert re.search(r"reading members: 25 of 60 records, about \d+ s left", told)
    assert re.search(r"asking model: 50 of 120 records, about \d+ s left", told)
    with pytest.raises(UsageError, match=r"'label-noise' cannot run.*too large to be held"):
        audit(NET, *sides, attacks="label-noise", progress=False)
    if attack == "loss":
        return
    capsys.readouterr()
    everything = audit(NET, *sides, progress=False)
    assert not capsys.readouterr().err
    assert "too large to be held" in everything.refused["label-noise"]


def test_copies_and_random_transforms_are_found_in_a_stream(monkeypatch):
    monkeypatch.setattr(_stream, "HELD", 0)
    same = [Items(side, lambda i: (X[i % 60], Y[i])) for side in SIDES]
    with pytest.raises(UsageError, match="nonmembers are all among the members"):
        audit(NET, *same, attacks="loss", progress=False)
    random = both(lambda i: (X[i] + RNG.normal(size=6).astype(np.float32), Y[i]))
    with pytest.raises(UsageError, match="members hands out other values each time a record is read"):
        audit(NET, *random, attacks="loss", progress=False)
    mixed = both(lambda i: (X[i], Y[i]) if i % 50 else (X[i].astype(np.float64), Y[i]))
    monkeypatch.setattr(_stream, "BLOCK", 7)
    with pytest.raises(UsageError, match="members holds records of several shapes or types"):
        audit(NET, *mixed, attacks="loss", progress=False)


def test_the_time_that_is_left_is_told_in_words():
    assert [_stream.left(*each) for each in ((1, 1, 31), (60, 1, 11), (3600, 1, 5))] == [
        "about 30 s",
        "about 10 min",
        "about 4 h",
    ]


_MASKED = np.ma.array(np.ones((12, 3), np.float32), mask=np.eye(12, 3))


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (_MASKED, "members: x has masked values: fill them in, or drop these records"),
        ([*_MASKED], "members: x has masked values"),
        ({"a": _MASKED}, "members: 'a' has masked values"),
        (csr_array(np.eye(12)), r"members: x is sparse, of scipy: give it as an array, \.toarray\(\)"),
        (torch.eye(12).to_sparse(), r"members: x is a sparse tensor: give it as a dense one, \.to_dense\(\)"),
        ([*torch.eye(12).to_sparse()], "members: one of the records is a sparse tensor"),
        (torch.ones(12, 2, device="meta"), "members: x is a tensor on the device 'meta', where it has no values"),
        (torch.nested.nested_tensor([*torch.eye(9)], layout=torch.jagged), "members: x is a nested tensor: pad it"),
        (torch.ones(12, 2).to(torch.float8_e4m3fn), r"members: x has dtype torch.float8_e4m3fn, .* give \.float\(\)"),
        ((np.ones(3), 0), "members is read as .x, y., and x is a tuple of parts that differ in shape"),
    ],
)
def test_records_that_are_no_plain_arrays_are_refused_with_the_mend(x, says):
    with pytest.raises(UsageError, match=says):
        _inputs.read((x, np.arange(12) % 2), "members")
    read = _inputs.read((np.ma.array(np.eye(12)), np.arange(12) % 2), "members")  # masked nowhere
    np.testing.assert_array_equal(read.x, np.eye(12))


def test_sparse_frames_labels_and_answers_are_refused_with_the_mend():
    pandas = pytest.importorskip("pandas")
    y = np.arange(12) % 2
    frame = pandas.DataFrame({"a": np.ones(12), "b": pandas.arrays.SparseArray(np.eye(12)[0])})
    for given, says in (
        ((frame, y), r"members: column 'b' is sparse: give frame\.sparse\.to_dense\(\)"),
        ((np.eye(12), np.ma.array(y, mask=y)), "members: y has masked values"),
        ((np.eye(12), torch.from_numpy(y).to_sparse()), "members: y is a sparse tensor"),
    ):
        with pytest.raises(UsageError, match=says):
            _inputs.read(given, "members")
    for answer, says in (
        (torch.eye(3).to_sparse(), "what model answers is a sparse tensor"),
        (np.ma.array(np.eye(3), mask=np.eye(3)), "what model answers has masked values"),
    ):
        with pytest.raises(UsageError, match=says):
            _pick.numbers(answer, "model")
