"""The audit of one's own model: what it reads, asks, sets aside, and refuses by the argument's name."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import TensorDataset

from lacewing import metrics
from lacewing.auditing import _inputs, _work
from lacewing.auditing._files import audit_model_files
from lacewing.auditing._model import audit
from lacewing.errors import UsageError
from lacewing.support.loading import load_function


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def records(n: int, seed: int, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)).astype(np.float32), np.arange(n) % 3


MEMBERS, NONMEMBERS = records(60, 1), records(60, 2)
SIMPLE = ["loss", "gap"]


def network(width: int = 6) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def linear(x):
    """A function of arrays with logits of its own."""
    return x[:, :3] * 2.0


def leaking(x):
    """Right about the members, whom it knows by heart."""
    known = {row.tobytes(): label for row, label in zip(*MEMBERS, strict=True)}
    logits = np.stack([np.random.default_rng(list(record.tobytes())).normal(size=3) for record in x])
    for row, record in enumerate(x):
        if record.tobytes() in known:
            logits[row, known[record.tobytes()]] += 3
    return logits


def test_a_function_is_asked_for_its_logits_and_the_attacks_see_them():
    found = audit(linear, MEMBERS, NONMEMBERS, attacks=SIMPLE)
    x, y = np.concatenate([MEMBERS[0], NONMEMBERS[0]]), np.concatenate([MEMBERS[1], NONMEMBERS[1]])
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(linear(x)), torch.from_numpy(y), reduction="none")
    wanted = metrics.auc(-loss.double().numpy(), np.arange(120) < 60)
    (loss,) = (result for result in found.attacks if result.attack == "loss")
    assert loss.metrics["auc"].value == pytest.approx(wanted.value, abs=1e-3)
    right = linear(x).argmax(1) == y
    assert found.attacks[0].network.train_accuracy == pytest.approx(right[:60].mean())
    assert found.attacks[0].network.test_accuracy == pytest.approx(right[60:].mean())


def test_a_planted_leak_is_found_and_the_answer_of_an_unrelated_model_is_chance():
    assert audit(leaking, MEMBERS, NONMEMBERS, attacks="loss").attacks[0].metrics["auc"].low > 0.8
    low, high = audit(linear, MEMBERS, NONMEMBERS, attacks="loss").attacks[0].metrics["auc"][1:]
    assert low <= 0.5 <= high


def test_a_module_is_asked_in_evaluation_mode_and_left_as_it_was():
    model = network().train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = audit(model, MEMBERS, NONMEMBERS, attacks=["loss", "label-noise", "gradient-norm"])
    again = audit(model, MEMBERS, NONMEMBERS, attacks=["loss", "label-noise", "gradient-norm"])
    for a, b in zip(first.attacks, again.attacks, strict=True):
        np.testing.assert_array_equal(a.score_N, b.score_N)  # dropout would make them differ
    assert model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_the_gradient_norm_is_that_of_the_users_own_network_on_its_own_inputs():
    model = network().eval()
    shifted = (MEMBERS[0] * 50 + 7, MEMBERS[1]), (NONMEMBERS[0] * 50 + 7, NONMEMBERS[1])
    found = audit(model, *shifted, attacks="gradient-norm").attacks[0]
    norms = []
    for x, y in zip(np.concatenate([shifted[0][0], shifted[1][0]]), [*MEMBERS[1], *NONMEMBERS[1]], strict=True):
        loss = nn.functional.cross_entropy(model(torch.from_numpy(x[None])), torch.tensor([y]))
        norms.append(sum(float(g.square().sum()) for g in torch.autograd.grad(loss, list(model.parameters()))))
    assert metrics.auc(-np.array(norms), found.member_N).value == pytest.approx(found.metrics["auc"].value, abs=2e-3)


class Pairs:
    """A data set of tensors with labels of Python's own."""

    def __init__(self, x, y):
        self.x, self.y = torch.from_numpy(x), y.tolist()

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Frame:
    """What of a pandas frame or series is used."""

    def __init__(self, values, columns=None):
        self.values = np.asarray(values)
        self.columns = columns
        self.dtypes = [self.values.dtype] * (len(columns) if columns else 1)

    def __len__(self):
        return len(self.values)

    def to_numpy(self):
        return self.values

    def astype(self, dtypes):
        assert list(dtypes) == self.columns
        return self


@pytest.mark.parametrize(
    "form",
    [
        lambda x, y: (x, y),
        lambda x, y: [x.tolist(), y.tolist()],
        lambda x, y: (torch.from_numpy(x), torch.from_numpy(y)),
        lambda x, y: TensorDataset(torch.from_numpy(x), torch.from_numpy(y)),
        Pairs,
        lambda x, y: (Frame(x, list("abcdef")), Frame(y)),
    ],
    ids=["arrays", "lists", "tensors", "dataset", "items", "frames"],
)
def test_every_form_of_records_gives_the_same_audit(form, monkeypatch):
    wanted = audit(network(), MEMBERS, NONMEMBERS, attacks=["loss", "gradient-norm"])
    found = audit(network(), form(*MEMBERS), form(*NONMEMBERS), attacks=["loss", "gradient-norm"])
    for a, b in zip(wanted.attacks, found.attacks, strict=True):
        np.testing.assert_allclose(a.score_N, b.score_N, rtol=1e-5)


def test_a_function_gets_records_in_the_form_that_the_user_gave(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=Frame))
    seen = []

    def model(x):
        seen.append(type(x))
        return np.asarray(x.to_numpy() if isinstance(x, Frame) else x)[:, :3]

    audit(model, MEMBERS, NONMEMBERS, attacks="loss")
    audit(model, *((torch.from_numpy(x), y) for x, y in (MEMBERS, NONMEMBERS)), attacks="loss")
    audit(model, *((Frame(x, list("abcdef")), y) for x, y in (MEMBERS, NONMEMBERS)), attacks="loss")
    assert list(dict.fromkeys(seen)) == [np.ndarray, torch.Tensor, Frame]


def test_token_ids_stay_whole_numbers():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.out = nn.Embedding(50, 4), nn.Linear(4, 3)

        def forward(self, x):
            assert x.dtype == torch.int64
            return self.out(self.embedding(x).mean(1))

    rng = np.random.default_rng(0)
    sides = [(rng.integers(0, 50, (40, 7)).astype(np.int16), np.arange(40) % 3) for _ in range(2)]
    assert len(audit(Text(), *sides, attacks=["loss", "gradient-norm"]).attacks) == 2
    found = audit(Text(), *sides)
    assert {"loss", "gradient-norm"} <= {result.attack for result in found.attacks}
    assert "label-noise" in found.refused
    assert any("whole numbers" in note for note in found.notes)
    with pytest.raises(UsageError, match="'label-noise' cannot run"):
        audit(Text(), *sides, attacks="label-noise")


def test_density_counts_the_zeros_of_the_users_network():
    model = network()
    with torch.no_grad():
        model[0].weight[:4] = 0
    found = audit(model, MEMBERS, NONMEMBERS, attacks="loss").attacks[0].network
    assert (found.parameters, found.nonzero) == (83, 83 - 24)
    assert found.density == pytest.approx(59 / 83)
    assert found.density_prunable == pytest.approx(48 / 72)


def test_a_fifth_of_the_nonmembers_at_least_100_are_set_aside_where_an_attack_needs_a_population():
    many = records(600, 3)
    found = audit(linear, MEMBERS, many, attacks=["loss", "population"])
    assert found.attacks[0].n_nonmembers == 480
    assert any("120 of the 600 non-members" in note for note in found.notes)
    assert audit(linear, MEMBERS, records(200, 3), attacks="population").attacks[0].n_nonmembers == 100
    other = audit(linear, MEMBERS, many, attacks="loss")
    assert (other.attacks[0].n_nonmembers, other.notes) == (600, ())
    given = audit(linear, MEMBERS, many, population=records(300, 4), attacks="population")
    assert given.attacks[0].n_nonmembers == 600
    assert "Z = 300" in given.attacks[0].variant
    few = audit(linear, MEMBERS, records(199, 3))
    assert "199 non-members are too few" in few.refused["population"]
    assert few.attacks[0].n_nonmembers == 199


def test_the_same_records_are_set_aside_each_time_and_others_with_another_seed():
    many = records(300, 3)
    rows = [
        audit(linear, MEMBERS, many, attacks="population", seed=seed).attacks[0].score_N.tobytes() for seed in (0, 0, 1)
    ]
    assert rows[0] == rows[1] != rows[2]


def test_what_cannot_run_says_which_argument_would_let_it():
    found = audit(network(), MEMBERS, NONMEMBERS)
    assert "pass refit=" in found.refused["lira-online"]
    assert "pass refit=" in found.refused["discriminator"]
    assert "queries=4" in found.refused["discriminator-queries"]
    with pytest.raises(UsageError, match=r"'rmia-online' cannot run.*refit="):
        audit(network(), MEMBERS, (records(300, 2)), attacks="rmia-online")


def test_records_that_are_members_and_nonmembers_are_counted():
    x = NONMEMBERS[0].copy()
    x[:5] = MEMBERS[0][:5]
    found = audit(linear, MEMBERS, (x, NONMEMBERS[1]), attacks="loss")
    assert any("5 of the 60 audited non-members" in note for note in found.notes)
    with pytest.raises(UsageError, match="all among the members"):
        audit(linear, MEMBERS, MEMBERS, attacks="loss")


def _spoilt(values, at, value):
    values = values.copy()
    values[at] = value
    return values


X, Y = MEMBERS


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ((X, Y[:-1]), "members holds 60 records and 59 labels"),
        ((X[:9], Y[:9]), "members holds 9 records: at least 10"),
        ((_spoilt(X, (3, 2), np.nan), Y), "members: x holds NaN or infinite values in 1 records"),
        ((X.astype(object), Y), "members: x has dtype object"),
        ((X[:, 0], Y), r"members: x has shape \(60,\)"),
        ((X[:, :4], Y), r"nonmembers holds records of shape \(6,\) and members of \(4,\)"),
        ((X.astype(int), Y), "nonmembers holds records of dtype float32 and members of int64"),
        ((X, Y + 0.5), "members: y has dtype float64"),
        ((X, Y[:, None]), r"members: y has shape \(60, 1\)"),
        ((X, Y - 1), "members: y holds -1"),
        ((X, Y + 1), "y holds the label 3, and model answers 3 classes"),
        (X, "members is a ndarray: give"),
        ({"x": X}, "members has the fields x, of which none may be the label"),
        ([1] * 20, "members is a list: give"),
    ],
)
def test_bad_records_are_refused_by_name(members, says):
    with pytest.raises(UsageError, match=says):
        audit(linear, members, NONMEMBERS, attacks="loss")


class Estimator:
    def predict_proba(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (SimpleNamespace(fit=len), r"model is a SimpleNamespace, which cannot be called"),
        (Estimator(), r"the answers of model range from .*: they are no probabilities"),
        (lambda x: np.full((len(x), 3), 1 / 3), "model answers the same to all 120 records"),
        (lambda x: np.zeros(len(x)), "the answers of model are one number a record.*task='binary'"),
        (lambda x: np.zeros((len(x), 1)), "the answers of model are one number a record.*task='regression'"),
        (lambda x: np.zeros((5, 3)), r"shape \(5, 3\) to 120 records"),
        (lambda x: np.full((len(x), 3), -np.inf), "model answered NaN or infinite.*floor log-probabilities"),
        (lambda x: {"a": x, "b": x}, r"model answers a dict of .*: give a function .*f\(x\)\['a'\]"),
        (lambda x: (x, x), r"model answers a tuple of 0 \(120, 6\), 1 .*: give a function .*f\(x\)\[0\]"),
        (network(9), r"model, asked about records of shape \(6,\) and dtype float32, failed with RuntimeError"),
    ],
)
def test_bad_models_are_refused_with_the_mend(model, says):
    with pytest.raises(UsageError, match=says):
        audit(model, MEMBERS, NONMEMBERS, attacks="loss")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"references": 4}, "references = 4 needs refit"),
        ({"refit": linear}, "references = 0 is too few"),
        ({"refit": linear, "references": 1}, "references = 1 is too few"),
        ({"refit": "mod:refit", "references": 4}, "refit is a str"),
        ({"refit": linear, "references": 2, "processes": 0}, "processes = 0"),
        ({"queries": 0}, "queries = 0"),
        ({"attacks": "lyra"}, "attacks: unknown name 'lyra'"),
        ({"population": (X, Y[:3])}, "population holds 60 records and 3 labels"),
    ],
)
def test_bad_options_are_refused_by_name(options, says):
    with pytest.raises(UsageError, match=says):
        audit(linear, MEMBERS, NONMEMBERS, **{"attacks": "loss", **options})


@settings(max_examples=40, deadline=None)
@given(n=st.integers(20, 300), count=st.integers(2, 9), seed=st.integers(0, 1000))
def test_halves_are_random_complementary_and_cover_every_record(n, count, seed):
    inside = _work.halves(np.arange(n), count, seed)
    np.testing.assert_array_equal(inside, _work.halves(np.arange(n), count, seed))
    assert set(inside.sum(axis=1)) <= {n // 2, n - n // 2}
    for k in range(1, count, 2):
        np.testing.assert_array_equal(inside[k], ~inside[k - 1])
    np.testing.assert_array_equal(inside[: count - 1], _work.halves(np.arange(n), count - 1, seed))
    assert len({row.tobytes() for row in inside}) == count


def test_shared_records_are_those_equal_value_for_value():
    a, b = _inputs.read(MEMBERS, "a"), _inputs.read((MEMBERS[0].astype(np.float64)[::-2].copy(), MEMBERS[1][:30]), "b")
    assert _inputs.shared(a, b) == 30


# -------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def files(tmp_path, monkeypatch):
    (tmp_path / "own_factory_module.py").write_text(
        "from torch import nn\ndef make(shape, classes):\n    return nn.Linear(shape[0], classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(3)
    state = nn.Linear(6, 3).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    x, y = (np.concatenate(pair) for pair in zip(MEMBERS, NONMEMBERS, strict=True))
    np.savez(tmp_path / "own.npz", x=x, y=y, member=np.arange(120) < 60)
    return tmp_path


def _audited(files, **options):
    asked = {"model": "own_factory_module:make", "weights": files / "w.safetensors", "data": files / "own.npz"}
    return audit_model_files(**{**asked, "attacks": "loss", **options})


def test_a_model_in_files_is_audited_like_the_model_itself(files):
    torch.manual_seed(3)
    wanted = audit(nn.Linear(6, 3), MEMBERS, NONMEMBERS, attacks="loss").attacks[0].score_N
    for weights in ("w.safetensors", "w.pt"):
        np.testing.assert_array_equal(_audited(files, weights=files / weights).attacks[0].score_N, wanted)


def test_bad_files_are_refused_by_name(files):
    np.savez(files / "lacks.npz", x=X, y=Y)
    np.savez(files / "typo.npz", x=X, y=Y, members=Y > 0)
    np.savez(files / "flags.npz", x=X, y=Y, member=Y)
    np.savez(files / "pickled.npz", x=np.array([{}]), y=Y, member=Y)
    (files / "broken.npz").write_bytes(b"PK\x03\x04 cut off")
    save_file({"weight": torch.zeros(2, 2)}, files / "other.safetensors")
    torch.save({"weight": slice, "bias": SimpleNamespace()}, files / "code.pt")
    (files / "w.h5").write_bytes(b"")
    for options, says in (
        ({"data": files / "none.npz"}, "data: there is no file"),
        ({"data": files / "lacks.npz"}, "lacks member"),
        ({"data": files / "typo.npz"}, "holds 'members'; did you mean 'member'"),
        ({"data": files / "flags.npz"}, "member must hold 1"),
        ({"data": files / "pickled.npz"}, "has dtype object"),
        ({"data": files / "broken.npz"}, "not a complete .npz archive"),
        ({"weights": files / "none.pt"}, "weights: there is no file"),
        ({"weights": files / "w.h5"}, "weights: w.h5 must be"),
        ({"weights": files / "code.pt"}, "weights: .* cannot be read"),
        ({"weights": files / "other.safetensors"}, "weights: .* does not fit"),
        ({"model": "own_factory_module:nake"}, "does not define 'nake'"),
        ({"refit": "own_factory_module", "references": 2}, "refit: 'own_factory_module' must read"),
        ({"refit": "own_factory_module:nake", "references": 2}, "refit: .* did you mean 'make'"),
        ({"refit": "no_such_module:f", "references": 2}, "refit: cannot import"),
    ):
        with pytest.raises(UsageError, match=says):
            _audited(files, **options)


def test_a_function_is_found_by_its_path():
    assert load_function("numpy:median", "refit") is np.median


def test_attacks_outside_all_run_on_a_model_where_they_are_named():
    x, y = records(60, 1)
    inside, outside = (x[:30], y[:30]), (x[30:], y[30:])

    def refit(x, y, seed):
        torch.manual_seed(seed)
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            optimizer.step()
        return model

    model = refit(*inside, 5)
    named = ["label-boundary", "white-box-learned", "loss"]
    found = {a.attack: a for a in audit(model, *(inside, outside), refit=refit, references=2, attacks=named).attacks}
    assert set(found) == set(named)
    assert found["label-boundary"].notes["queries"]["most"] <= 1000
    right = found["loss"].correct_N
    assert ((found["label-boundary"].score_N > 0) == right).all()  # 0: answered wrong
    for name, why in (("trajectory-checkpoints", "earlier checkpoints"), ("trajectory-levels", "sparse networks")):
        with pytest.raises(UsageError, match=f"'{name}' cannot run.*{why}"):
            audit(model, inside, outside, refit=refit, references=2, attacks=name, progress=False)
