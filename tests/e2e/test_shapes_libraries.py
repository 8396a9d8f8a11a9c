"""The shapes of transformers, datasets, onnxruntime, polars, pandas and XGBoost, with the libraries themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from torch import nn

from lacewing.auditing import _form, _inputs, _work
from lacewing.auditing._model import audit
from lacewing.errors import UsageError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of the libraries' own
RNG = np.random.default_rng(0)
N = 120
X = RNG.normal(size=(N, 6)).astype(np.float32)
Y = np.arange(N) % 3
NAMES = np.array(["ant", "bee", "cat"])
SIDES = slice(N // 2), slice(N // 2, None)
WORDS = NAMES[RNG.integers(0, 3, N)]


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def scores(model, sides, *, attacks="loss", **options):
    found = audit(model, *sides, attacks=attacks, progress=False, **options)
    return found.attacks[0].score_N, found.notes


def own_odds(model, x):
    """The log-odds of each record's class, which the attack by the loss ranks records by."""
    p = model.predict_proba(x)[np.arange(N), Y].astype(float)
    return np.log(p / (1 - p))


# --------------------------------------------------------------------------------------- transformers and datasets


IDS = RNG.integers(5, 50, (N, 8))
MASK = (np.arange(8) < RNG.integers(4, 9, N)[:, None]).astype(np.int64)


def bert(seed=0):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=3,
        max_position_embeddings=16,
        id2label=dict(enumerate(NAMES.tolist())),
    )
    return transformers.BertForSequenceClassification(config)


def own_losses(model):
    model.eval()
    with torch.no_grad():
        z = model(input_ids=torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK)).logits
    return nn.functional.cross_entropy(z, torch.from_numpy(Y), reduction="none").numpy()


def as_ranked(found, losses):
    order = np.argsort(found)
    return (np.diff(losses[order]) <= 1e-5).all()


def test_a_classifier_of_transformers_takes_every_kind_of_its_records():
    datasets = pytest.importorskip("datasets")
    model = bert()
    losses = own_losses(model)
    columns = {"input_ids": IDS, "attention_mask": MASK, "labels": Y, "text": [f"t {i}" for i in range(N)]}
    whole = datasets.Dataset.from_dict(columns)
    halves = [whole.select(range(N)[side]) for side in SIDES]
    first, notes = scores(model, halves)
    assert as_ranked(first, losses)
    assert any("The fields text were left out" in note for note in notes)
    formatted = [half.with_format("torch") for half in halves]
    fields = [({"input_ids": IDS[s], "attention_mask": MASK[s]}, Y[s]) for s in SIDES]
    loaders = [torch.utils.data.DataLoader(each.remove_columns("text"), batch_size=7) for each in formatted]
    named = [({"input_ids": IDS[s], "attention_mask": MASK[s]}, NAMES[Y[s]]) for s in SIDES]
    for sides in (formatted, fields, loaders):
        np.testing.assert_allclose(scores(model, sides)[0], first, rtol=1e-5)
    np.testing.assert_allclose(scores(model, named, classes=NAMES)[0], first, rtol=1e-5)
    norms, _ = scores(model, fields, attacks="gradient-norm")
    model.eval()
    z = model(input_ids=torch.from_numpy(IDS[:1]), attention_mask=torch.from_numpy(MASK[:1])).logits
    loss = nn.functional.cross_entropy(z, torch.from_numpy(Y[:1]))
    squares = [g.square().sum() for g in torch.autograd.grad(loss, list(model.parameters())) if g is not None]
    assert np.exp(-norms[0]) == pytest.approx(float(torch.stack(squares).sum().sqrt()), rel=1e-3)


def test_ragged_tokens_are_padded_by_the_collator_of_transformers():
    transformers, datasets = pytest.importorskip("transformers"), pytest.importorskip("datasets")
    model = bert()
    rows = [IDS[i, : MASK[i].sum()].tolist() for i in range(N)]
    whole = datasets.Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(r) for r in rows], "labels": Y})
    halves = [whole.select(range(N)[side]) for side in SIDES]
    tokens = transformers.PreTrainedTokenizerFast(
        tokenizer_object=__import__("tokenizers").Tokenizer(__import__("tokenizers").models.WordLevel({"[PAD]": 0})),
        pad_token="[PAD]",
    )
    found, _ = scores(model, halves, collate=transformers.DataCollatorWithPadding(tokens))
    assert as_ranked(found, own_losses(model))


def refit_bert(fields, y, seed):
    """A module's function, as a worker imports it."""
    model = bert(seed + 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        model(**fields, labels=y).loss.backward()
        optimiser.step()
    return model


def test_references_of_halves_of_a_dataset_are_trained_once(tmp_path):
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"input_ids": IDS, "attention_mask": MASK, "labels": Y}).with_format("torch")
    halves = [whole.select(range(N)[side]) for side in SIDES]
    options = {"attacks": ["loss", "lira-online"], "progress": False, "out": tmp_path, "refit": refit_bert}
    first = audit(bert(), *halves, references=4, **options)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "references").iterdir()}
    second = audit(bert(), *halves, references=6, **options)  # goes on from there
    assert len(list((tmp_path / "references").iterdir())) == 6
    assert len(made) == 4
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    one, two = (next(r for r in found.attacks if r.attack == "loss") for found in (first, second))
    np.testing.assert_array_equal(one.score_N, two.score_N)


# -------------------------------------------------------------------------------------------------------- frames


def frame():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(
        {
            "a": X[:, 0],
            "n": np.arange(N),
            "word": WORDS,
            "kind": pandas.Categorical(WORDS[::-1], categories=["cat", "bee", "ant", "dog"]),
            "size": pandas.Categorical(WORDS, categories=["ant", "bee", "cat"], ordered=True),
            "day": pandas.date_range("2020-01-01", periods=N),
            "some": pandas.array([None if i % 7 == 0 else i for i in range(N)], dtype="Int64"),
            "flag": pandas.array([None if i % 9 == 0 else i % 2 == 0 for i in range(N)], dtype="boolean"),
        }
    )
    table["mixed"] = np.array([1, "1", 1.0, None, float("nan"), "x"] * (N // 6), dtype=object)
    table.loc[3:9, "word"] = None
    table.loc[3:5, "a"] = np.nan
    return table


def pipeline():
    return make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["word", "kind"]), (SimpleImputer(), ["a", "n"])
        ),
        LogisticRegression(max_iter=500),
    )


def test_a_frame_is_given_to_the_pipeline_as_it_was_in_every_column_and_to_workers_too(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = frame()
    parts = {
        name: _inputs.read((table[side], Y[side]), name, reading=_inputs.Reading(words=True))
        for name, side in zip(("members", "nonmembers"), SIDES, strict=True)
    }
    together = _inputs.join(parts)
    pandas.testing.assert_frame_equal(together.form.records(together.x), table)
    rows = RNG.permutation(N)[:30]
    again = together.form.records(together.x[rows])
    pandas.testing.assert_frame_equal(again, table.iloc[rows].reset_index(drop=True))
    plain = _inputs.join(
        {
            name: _inputs.read((part.drop(columns=["day", "flag"]), Y[side]), name, reading=_inputs.Reading(words=True))
            for name, side, part in zip(("a", "b"), SIDES, [table[s] for s in SIDES], strict=True)
        }
    )
    assert plain.form.plain
    form = _form.from_json(_form.to_json(plain.form))
    pandas.testing.assert_frame_equal(form.records(plain.x), table.drop(columns=["day", "flag"]))
    assert not together.form.plain  # of dates and pandas.NA: no worker gets them
    assert _work.from_json is _form.from_json


def refit_pipeline(x, y, seed):
    return pipeline().fit(x, y)


def test_a_pipeline_on_a_frame_with_words_and_its_references(tmp_path):
    table = frame()[["a", "n", "word", "kind"]]
    sides = [(table[s], NAMES[Y[s]]) for s in SIDES]
    model = pipeline().fit(*sides[0])
    found, notes = scores(model, sides)
    np.testing.assert_allclose(found, own_odds(model, table), rtol=1e-3)
    assert notes[0] == "model is a Pipeline: its predict_proba was asked."
    np.testing.assert_allclose(scores(lambda x: model.predict_proba(x), sides, classes=NAMES)[0], found, rtol=1e-5)
    options = {"attacks": ["loss", "lira-online"], "progress": False, "out": tmp_path, "refit": refit_pipeline}
    audit(model, *sides, references=4, **options)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "references").iterdir()}
    audit(model, *sides, references=6, **options)
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    for path in (tmp_path / "references").iterdir():
        stored = np.load(path)
        own = refit_pipeline(table[stored["in_N"]], NAMES[Y][stored["in_N"]], 0).predict_log_proba(table)
        np.testing.assert_allclose(stored["logits_NC"], own, atol=1e-3)


def test_frames_that_differ_are_refused_and_words_for_a_network():
    table = frame()[["a", "n", "word"]]
    model = lambda x: X[x["n"].to_numpy(), :3]  # noqa: E731
    with pytest.raises(UsageError, match="nonmembers: 'n' has dtype float64, and int64 in members: give one dtype"):
        scores(model, [(table[SIDES[0]], Y[SIDES[0]]), (table[SIDES[1]].astype({"n": float}), Y[SIDES[1]])])
    with pytest.raises(UsageError, match="members: x has dtype object, which is not one of numbers"):
        scores(nn.Linear(3, 3), [(table[s], Y[s]) for s in SIDES])
    with pytest.raises(UsageError, match="members: x holds NaN or infinite values in 3 records"):
        scores(nn.Linear(2, 3), [(table[["a", "n"]][s], Y[s]) for s in SIDES])


def test_a_polars_frame_is_given_as_it_was():
    polars = pytest.importorskip("polars")
    from polars.testing import assert_frame_equal

    table = polars.DataFrame(
        {
            "a": X[:, 0],
            "n": np.arange(N),
            "word": [None if i % 11 == 0 else str(w) for i, w in enumerate(WORDS)],
            "kind": polars.Series(WORDS.tolist(), dtype=polars.Categorical),
            "size": polars.Series(WORDS.tolist(), dtype=polars.Enum(["cat", "bee", "ant"])),
            "some": [None if i % 7 == 0 else i for i in range(N)],
            "flag": [i % 2 == 0 for i in range(N)],
        }
    )
    parts = {
        name: _inputs.read((table[side], Y[side]), name, reading=_inputs.Reading(words=True))
        for name, side in zip(("members", "nonmembers"), SIDES, strict=True)
    }
    together = _inputs.join(parts)
    assert_frame_equal(together.form.records(together.x), table)
    cut = table.select("a", "n", "kind").with_columns(polars.col("kind").cast(polars.String))
    make = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["kind"]), ("passthrough", ["a", "n"]))
    sides = [(cut[s], polars.Series(NAMES[Y[s]].tolist())) for s in SIDES]
    model = make_pipeline(make, LogisticRegression(max_iter=500)).fit(*sides[0])
    found, _ = scores(model, sides)
    np.testing.assert_allclose(found, own_odds(model, cut), rtol=1e-3)


def test_a_pipeline_of_texts():
    texts = [f"{word} w{i}" for i, word in enumerate(WORDS)]
    sides = [(texts[s], NAMES[Y[s]]) for s in SIDES]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(*sides[0])
    found, _ = scores(model, sides)
    np.testing.assert_allclose(found, own_odds(model, texts), rtol=1e-3)


def test_xgboost_is_an_estimator_like_others():
    xgboost = pytest.importorskip("xgboost")
    sides = [(X[s], Y[s]) for s in SIDES]
    model = xgboost.XGBClassifier(n_estimators=3).fit(*sides[0])
    found, _ = scores(model, sides)
    np.testing.assert_allclose(found, own_odds(model, X), rtol=1e-3)


# ---------------------------------------------------------------------------------------------------------- ONNX


def exported(tmp_path: Path, model, shape, **options) -> str:
    pytest.importorskip("onnxscript")
    from lacewing.study.onnx import to_onnx

    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(model, shape, {}))
    return str(path)


def test_an_onnx_file_answers_as_the_network_it_was_made_of(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    sides = [(X[s], Y[s]) for s in SIDES]
    path = exported(tmp_path, model, (6,))
    found, notes = scores(path, sides)
    np.testing.assert_allclose(found, scores(model, sides)[0], rtol=1e-4, atol=1e-5)
    assert notes[0] == "model is model.onnx: it was asked through onnxruntime."
    np.testing.assert_allclose(scores(path, [(X.astype(float)[s], Y[s]) for s in SIDES])[0], found, rtol=1e-4)
    with pytest.raises(UsageError, match=r"model: model.onnx, asked about 120 records, failed with InvalidArgument"):
        scores(path, [(X[s, :4], Y[s]) for s in SIDES])
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(UsageError, match=r"model: .*bad.onnx cannot be read as ONNX"):
        scores(str(tmp_path / "bad.onnx"), sides)
    with pytest.raises(UsageError, match="model: there is no file"):
        scores(tmp_path / "absent.onnx", sides)


def test_a_fixed_batch_of_an_onnx_file_is_filled(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = nn.Linear(6, 3).eval()
    document = onnx.load(exported(tmp_path, model, (6,)))
    for value in (*document.graph.input, *document.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 7
    onnx.save(document, tmp_path / "seven.onnx")
    sides = [(X[s], Y[s]) for s in SIDES]
    np.testing.assert_allclose(scores(tmp_path / "seven.onnx", sides)[0], scores(model, sides)[0], rtol=1e-4, atol=1e-5)


def test_an_onnx_file_of_a_pipeline_gets_columns_by_name(tmp_path):
    skl2onnx = pytest.importorskip("skl2onnx")
    pytest.importorskip("onnxruntime")
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": X[:, 0], "word": WORDS})
    make = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["word"]), ("passthrough", ["a"]))
    sides = [(table[s], NAMES[Y[s]]) for s in SIDES]
    model = make_pipeline(make, LogisticRegression()).fit(*sides[0])
    kinds = [("a", FloatTensorType([None, 1])), ("word", StringTensorType([None, 1]))]
    (tmp_path / "p.onnx").write_bytes(skl2onnx.to_onnx(model, initial_types=kinds).SerializeToString())
    found, notes = scores(tmp_path / "p.onnx", sides, classes=NAMES)
    np.testing.assert_allclose(found, scores(model, sides)[0], rtol=1e-3)
    assert any("'output_probability' (120, 3) was taken" in n or "was taken, the only one" in n for n in notes)
