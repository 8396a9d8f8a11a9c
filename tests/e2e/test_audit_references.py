"""References of an audit: cached by what trains them, and refused where they are no references."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.auditing._model import audit
from lacewing.errors import UsageError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(120, 8)).astype(np.float32), RNG.integers(0, 3, 120)
MEMBERS, NONMEMBERS = (X[:60], Y[:60]), (X[60:], Y[60:])
K = 3
trained: list[int] = []  # the seeds of trainings; no recipe below refers to it by name, since it changes


def count(seed):
    globals()["trained"].append(seed)


@pytest.fixture(autouse=True)
def _fresh():
    torch.set_num_threads(1)
    trained.clear()


def fit(x, y, seed, *, epochs=30, width=16, model=None):
    count(seed)
    if model is None:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 3))
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    for _ in range(epochs):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= gradient
    return model


def audited(model, refit, out=None, **options):
    options = {"references": K, "attacks": "loss", "progress": False, "processes": 1, **options}
    trained.clear()
    found = audit(model, MEMBERS, NONMEMBERS, refit=refit, out=out, **options)
    return found, len(trained)


def plain(x, y, seed): ...


def wrapped(epochs):
    @functools.wraps(plain)
    def refit(x, y, seed):
        return fit(x, y, seed, epochs=epochs)

    return refit


class Recipe:
    def __init__(self, epochs):
        self.epochs = epochs

    def __call__(self, x, y, seed):
        return fit(x, y, seed, epochs=self.epochs)


def defaulted(epochs):
    def refit(x, y, seed, epochs=epochs):
        return fit(x, y, seed, epochs=epochs)

    return refit


@pytest.mark.parametrize(
    "form",
    [
        lambda epochs: lambda x, y, seed: fit(x, y, seed, epochs=epochs),
        defaulted,
        wrapped,
        lambda epochs: functools.partial(fit, epochs=epochs),
        Recipe,
        lambda epochs: Recipe(epochs).__call__,
    ],
    ids=["lambda", "default", "wraps", "partial", "object", "method"],
)
def test_another_recipe_never_reuses_references_and_the_same_one_does(form, tmp_path):
    model = fit(*MEMBERS, 9)
    for version in (None, "1"):
        calls = [audited(model, form(epochs), tmp_path, version=version)[1] for epochs in (1, 30, 1, 30)]
        assert calls == [K, K, 0, 0]


def test_what_cannot_be_identified_is_not_cached_and_the_note_names_it(tmp_path):
    model, start = fit(*MEMBERS, 9), nn.Linear(8, 3)

    def recipe(epochs):
        return lambda x, y, seed: fit(x, y, seed, epochs=epochs, model=copy.deepcopy(start))

    found, calls = audited(model, recipe(2), tmp_path)
    assert calls == K
    assert not (tmp_path / "references").exists()
    assert any("'start' (a Linear)" in note and "version=" in note for note in found.notes)
    calls = [audited(model, recipe(epochs), tmp_path, version="1")[1] for epochs in (2, 3, 2, 3)]
    assert calls == [K, K, 0, 0]  # the version vouches for the start, not for what is known to differ


def test_references_of_a_model_that_something_unseen_changed_are_trained_again(tmp_path):
    size = tmp_path / "width.txt"

    def refit(x, y, seed):
        return fit(x, y, seed, width=int(size.read_text()))

    size.write_text("16")
    small, large = fit(*MEMBERS, 9), fit(*MEMBERS, 9, width=24)
    assert audited(small, refit, tmp_path)[1] == K
    assert audited(small, refit, tmp_path)[1] == 0
    size.write_text("24")
    found, calls = audited(large, refit, tmp_path)
    assert calls == K
    assert any(
        "3 references were trained again: those that were stored have 195 parameters and the model 291" in n
        for n in found.notes
    )
    assert audited(large, refit, tmp_path)[1] == 0
    found, calls = audited(small, refit, tmp_path)
    assert calls == K  # of another size than the model, and nobody has said that this is meant
    assert any("291 parameters, the model 195" in note for note in found.notes)
    assert audited(small, refit, tmp_path)[1] == 0  # but now it is what this recipe gives


def stored(model):
    state = copy.deepcopy(model.state_dict())

    def load(x, y, seed):
        count(seed)
        again = fit(x, y, seed, epochs=0)
        again.load_state_dict(state)
        return again

    return load


@pytest.mark.parametrize(
    ("refit", "says", "calls"),
    [
        (lambda model: lambda x, y, seed: model, "reference 1 is the same network as the model", 0),
        (
            lambda model: lambda x, y, seed: copy.deepcopy(model).half().float(),
            "reference 1 is the same network as the model",
            0,
        ),
        (stored, "reference 1 is the same network as the model", 2),
        (lambda model: stored(fit(X, Y, 4)), "reference 2 is the same network as reference 1", 4),
        (lambda model: functools.partial(fit, model=fit(X, Y, 4)), "reference 2 the same object as for one before", 2),
        (
            lambda model: functools.partial(fit, model=model),
            "refit changed the audited model as it trained reference 1",
            1,
        ),
        (
            lambda model: lambda x, y, seed: [fit(x, y, seed), fit(x, y, seed, model=model)][0],
            "refit changed the audited model",
            2,
        ),
        (
            lambda model: lambda x, y, seed: count(seed) or nn.Linear(8, 4),
            "reference 1 answers 4 classes and model 3",
            1,
        ),
    ],
)
def test_references_that_are_none_are_refused_as_soon_as_they_are_there(refit, says, calls):
    model = fit(*MEMBERS, 9)
    made = refit(model)
    with pytest.raises(UsageError, match=says):
        audited(model, made)
    assert len(trained) == calls


class Predictor:
    """A model that goes on training, as one of scikit-learn's with partial_fit."""

    def __init__(self):
        self.net = fit(X, Y, 4, epochs=0)

    def more(self, x, y, seed):
        fit(x, y, seed, model=self.net)
        return self

    def predict_proba(self, x):
        return torch.softmax(self.net(torch.as_tensor(x)), 1).detach().numpy()


def asked(predictor, x, scale=1.0):
    return predictor.predict_proba(x)


HANDED = {
    "method": lambda one: one.predict_proba,
    "partial": lambda one: functools.partial(asked, one),
    "partial of a method": lambda one: functools.partial(one.predict_proba),
    "lambda": lambda one: lambda x: one.predict_proba(x),
    "default": lambda one: lambda x, one=one: one.predict_proba(x),
}


@pytest.mark.parametrize("handed", HANDED.values(), ids=HANDED.keys())
def test_one_model_that_goes_on_training_is_noticed_behind_what_refit_returns(handed):
    model, shared = Predictor().more(*MEMBERS, 9), Predictor()
    with pytest.raises(UsageError, match="refit returned for reference 2 the same object as for one before, or a meth"):
        audited(model.predict_proba, lambda x, y, seed: handed(shared.more(x, y, seed)))
    audited(model.predict_proba, lambda x, y, seed: handed(Predictor().more(x, y, seed)))


def test_frames_whose_columns_are_dates_have_keys(tmp_path):
    frames = pytest.importorskip("pandas")
    columns = frames.date_range("2020", periods=8)

    def wrapped(net):
        return lambda x: net(torch.as_tensor(x.to_numpy().copy())).detach().numpy()

    def refit(x, y, seed):
        assert list(x.columns) == list(columns)
        return wrapped(fit(x.to_numpy().copy(), y.to_numpy().copy(), seed))

    members, nonmembers = ((frames.DataFrame(x, columns=columns), y) for x, y in (MEMBERS, NONMEMBERS))
    for calls in (K, 0):
        trained.clear()
        model = wrapped(fit(*MEMBERS, 9))
        trained.clear()
        audit(
            model,
            members,
            nonmembers,
            refit=refit,
            references=K,
            attacks="loss",
            progress=False,
            processes=1,
            out=tmp_path,
            version="1",
        )
        assert len(trained) == calls


def test_a_function_that_training_changed_is_noticed_too():
    model = fit(*MEMBERS, 9)

    def answer(x):
        return model(torch.as_tensor(x)).detach().numpy()

    def refit(x, y, seed):
        other = fit(x, y, seed)
        fit(x, y, seed, model=model)
        return lambda x: other(torch.as_tensor(x)).detach().numpy()

    with pytest.raises(UsageError, match="refit changed the audited model"):
        audited(answer, refit)
    assert audited(answer, lambda x, y, seed: fit(x, y, seed))[1] == K


def test_what_the_model_does_not_allow_is_refused_before_any_training():
    model = fit(*MEMBERS, 9)
    for attacks, says in (
        ("discriminator-queries", "'discriminator-queries' cannot run.*queries=4"),
        ("population", "'population' cannot run.*population="),
        (["loss", "discriminator-unaware"], "'discriminator-unaware' cannot run.*about sparse networks"),
    ):
        with pytest.raises(UsageError, match=says):
            audited(model, fit, attacks=attacks)
        assert trained == []
    with pytest.raises(UsageError, match="'gradient-norm' cannot run"):
        audited(lambda x: x[:, :3], fit, attacks="gradient-norm")
    assert trained == []
