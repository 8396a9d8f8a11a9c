"""Planted garbage: no result is computed from it without a word."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded everything")

N, C, K = 200, 4, 4
STUDY = """
schema = 1
name = "planted"
[data]
dataset = "own.npz"
[model]
name = "mlp"
hidden = [8]
[train]
epochs = 2
batch_size = 10
precision = "fp32"
[[networks]]
method = "dense"
[attacks]
names = ["loss"]
[run]
seeds = [0]
"""


@pytest.fixture(scope="module")
def server(preloaded: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = preloaded.Server(tmp_path_factory.mktemp("said"))
    yield made
    made.close()


def scores() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    member = np.arange(N) % 2
    return {"score": rng.normal(size=N) + 2 * member, "member": member}


def outputs() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    member, label = np.arange(N) % 2, rng.integers(0, C, N)
    logits = rng.normal(size=(N, C)) + np.eye(C)[label] * (2 + 3 * member[:, None])
    return {"logits": logits, "label": label, "member": member}


def referenced() -> dict[str, Any]:
    made = outputs()
    rng = np.random.default_rng(2)
    inside = (np.arange(N) // 2 + np.arange(K)[:, None]) % 2
    answers = rng.normal(size=(K, N, C)) + np.eye(C)[made["label"]] * (2 + 3 * inside[:, :, None])
    return {**made, "reference_logits": answers, "reference_in": inside}


def records() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    y = np.arange(N) % C
    return {"x": (rng.normal(size=(N, 6)) + y[:, None]).astype(np.float32), "y": y}


class Garbage(NamedTuple):
    """What is wrong with good arrays, the exit code that it must end with, and what must be said."""

    good: Callable[[], dict[str, Any]]
    wrong: Callable[[dict[str, Any]], dict[str, Any]]
    code: int
    said: str


def changed(**values: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda arrays: {**arrays, **{name: change(arrays[name].copy()) for name, change in values.items()}}


def put(values: Any, at: Any, what: Any) -> Any:
    values[at] = what
    return values


def shuffled(values: Any) -> Any:
    return np.random.default_rng(5).permutation(values)


PLANTED = {
    "scores in another order": Garbage(scores, changed(score=shuffled), 0, "No leakage found above an AUC"),
    "constant scores": Garbage(scores, changed(score=lambda v: v * 0), 2, "constant"),
    "a score that is no number": Garbage(scores, changed(score=lambda v: put(v, 3, np.nan)), 2, "NaN"),
    "an infinite score": Garbage(scores, changed(score=lambda v: put(v, 3, np.inf)), 2, "infinite"),
    "losses for scores": Garbage(scores, changed(score=lambda v: -v), 0, "below 0.5: a score must be HIGHER"),
    "nobody a member": Garbage(scores, changed(member=lambda v: v * 0), 2, "members and non-members are needed"),
    "everybody a member": Garbage(scores, changed(member=lambda v: v * 0 + 1), 2, "members and non-members are needed"),
    "members marked with 2": Garbage(scores, changed(member=lambda v: 2 * v), 2, "member holds 2"),
    "members marked with -1": Garbage(scores, changed(member=lambda v: 2 * v - 1), 2, "member holds -1"),
    "members by chance": Garbage(scores, changed(member=lambda v: v + 0.5), 2, "member holds"),
    "members in words": Garbage(scores, changed(member=lambda v: np.array(["no", "yes"])[v]), 2, "member"),
    "an id twice": Garbage(scores, lambda a: {**a, "id": put(np.arange(N), 1, 0)}, 2, "id holds 0 twice"),
    "fewer scores than members": Garbage(scores, changed(score=lambda v: v[1:]), 2, "score has shape"),
    "scores as a column": Garbage(scores, changed(score=lambda v: v[:, None]), 2, "score has shape"),
    "complex scores": Garbage(scores, changed(score=lambda v: v * 1j), 2, "score holds complex"),
    "scores as text": Garbage(scores, changed(score=lambda v: v.astype(str)), 2, "score holds"),
    "an unknown array": Garbage(scores, lambda a: {**a, "scroes": a["score"]}, 2, "did you mean 'score'"),
    "infinite logits": Garbage(outputs, changed(logits=lambda v: put(v, (2, 1), np.inf)), 2, "infinite"),
    "logits that are no numbers": Garbage(outputs, changed(logits=lambda v: put(v, (2, 1), np.nan)), 2, "NaN"),
    "constant logits": Garbage(outputs, changed(logits=lambda v: v * 0), 2, "constant"),
    "probabilities for logits": Garbage(
        outputs, changed(logits=lambda v: np.exp(v) / np.exp(v).sum(1, keepdims=True)), 0, "taken as probabilities"
    ),
    "rounded probabilities": Garbage(
        outputs, changed(logits=lambda v: (np.exp(v) / np.exp(v).sum(1, keepdims=True)).round(2)), 2, "round"
    ),
    "a label too large": Garbage(outputs, changed(label=lambda v: put(v, 5, C)), 2, "label holds values that are no"),
    "a label below 0": Garbage(outputs, changed(label=lambda v: put(v, 5, -1)), 2, "label holds -1"),
    "labels from 1": Garbage(outputs, changed(label=lambda v: v + 1), 2, "label holds values that are no class"),
    "a label between two": Garbage(outputs, changed(label=lambda v: v + 0.5), 2, "task regression"),
    "fewer labels": Garbage(outputs, changed(label=lambda v: v[:-1]), 2, "label has shape"),
    "labels in another order": Garbage(outputs, changed(label=shuffled), 0, "no better than always answering"),
    "members exchanged with others": Garbage(outputs, changed(member=lambda v: 1 - v), 0, "inverted"),
    "members in another order": Garbage(outputs, changed(member=shuffled), 0, "No leakage found above an AUC"),
    "references that are the model itself": Garbage(
        referenced, lambda a: {**a, "reference_logits": np.stack([a["logits"]] * K)}, 2, "the same"
    ),
    "references that trained on nothing": Garbage(
        referenced, changed(reference_in=lambda v: v * 0), 0, "No reference network trained on some"
    ),
    "references that trained on 2": Garbage(
        referenced, changed(reference_in=lambda v: 2 * v), 2, "reference_in holds 2"
    ),
    "constant records": Garbage(records, changed(x=lambda v: v * 0), 2, "x"),
    "pixels cast to nothing": Garbage(records, changed(x=lambda v: (v * 0).astype(np.uint8)), 2, "x"),
    "a record that is no number": Garbage(records, changed(x=lambda v: put(v, (7, 1), np.nan)), 2, "NaN or Inf in 1"),
    "labels of records in fractions": Garbage(records, changed(y=lambda v: v + 0.5), 2, "labels must be integers"),
    "labels of records as numbers with a point": Garbage(records, changed(y=lambda v: v * 1.0), 2, "must be integers"),
    "a label that is missing": Garbage(records, changed(y=lambda v: v * 2), 2, "labels must be 0..K-1"),
    "one class": Garbage(records, changed(y=lambda v: v * 0), 2, "1 class"),
    "more records than labels": Garbage(records, changed(y=lambda v: v[:-1]), 2, "they must be as many"),
    "one-hot labels": Garbage(records, changed(y=lambda v: np.eye(C, dtype=int)[v]), 2, "one integer a record"),
    "a label a record": Garbage(records, changed(y=lambda v: np.arange(N)), 2, "y"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_garbage_is_refused_or_named(what: str, server: Any, tmp_path: Path) -> None:
    garbage = PLANTED[what]
    data = garbage.good is records
    np.savez(tmp_path / "own.npz", **garbage.wrong(garbage.good()))
    (tmp_path / "planted.toml").write_text(STUDY)
    words = ["run", "planted.toml", "--dry-run"] if data else ["audit", "own.npz"]
    if garbage.good is not scores and not data:
        words += ["--attack", "loss"]
    ended = server.run(*words, folder=tmp_path)
    assert not ended.faults(), ended
    assert ended.code == garbage.code, ended
    assert re.search(garbage.said, ended.said), ended


@pytest.mark.parametrize("good", [scores, outputs, referenced, records])
def test_what_is_no_garbage_passes(good: Callable[[], dict[str, Any]], server: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", **good())
    (tmp_path / "planted.toml").write_text(STUDY)
    words = ["run", "planted.toml", "--dry-run"] if good is records else ["audit", "own.npz"]
    if good is not scores and good is not records:
        words += ["--attack", "loss"]
    ended = server.run(*words, folder=tmp_path)
    assert ended.code == 0, ended
    assert not re.search("inverted|no better than|below 0.5", ended.said), ended


TABLES = {
    "an empty table": ("", 2, "is empty"),
    "a header alone": ("member,score\n", 2, "1 line"),
    "a row too short": ("member,score\n1,2\n0\n1,3\n", 2, "line 3 has 1 cells"),
    "a column twice": ("member,member,score\n1,1,2\n0,0,3\n", 2, "two columns"),
    "words for numbers": ("member,score\n1,much\n0,3\n", 2, "holds a word: give a number"),
    "a member in words": ("member,score\nyes,1\nno,3\n", 2, "holds a word: give a number"),
    "semicolons": ("member;score\n1;2\n0;3\n", 2, "Unknown column"),
    "a column of logits left out": ("member,label,logit_0,logit_2\n1,0,2,3\n0,1,3,1\n", 2, "'logit_1' is missing"),
    "no number": ("member,score\n1,nan\n0,3\n", 2, "NaN"),
    "a null byte": ("member,score\n1,\x00\n0,3\n", 2, ""),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_of_garbage_is_refused(what: str, server: Any, tmp_path: Path) -> None:
    text, code, said = TABLES[what]
    (tmp_path / "own.csv").write_text(text)
    ended = server.run("audit", "own.csv", folder=tmp_path)
    assert not ended.faults(), ended
    assert ended.code == code, ended
    assert said in ended.err, ended
    assert "own.csv" in ended.err or "line" in ended.err or "column" in ended.err or "score" in ended.err, ended
