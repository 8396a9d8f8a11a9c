"""Audits with checkpoints of a training: a leak that only an earlier state shows, reuse, and what is refused."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lacewing as lw
from lacewing.attacks import ATTACKS, _discriminator
from lacewing.attacks._types import Evidence, Observed
from lacewing.auditing import _cache, _checkpoints, _inputs, _work
from lacewing.auditing._attacks import choose
from lacewing.cli import _model
from lacewing.errors import UsageError

R = np.random.default_rng(1)
X = R.normal(size=(160, 5)).astype(np.float32)
Y = R.integers(2, size=160)
MEMBERS, NONMEMBERS = (X[:80], Y[:80]), (X[80:], Y[80:])
NAME = "trajectory-checkpoints"
CALLS = []


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(_discriminator, "EPOCHS", 12)
    monkeypatch.setattr(_discriminator, "HIDDEN", ((8,),))
    monkeypatch.setattr(_discriminator, "LEARNING_RATES", (5e-2,))


class Table(nn.Module):
    """Log-odds by the first column, and of remembered rows further to their labels by ``leak``."""

    def __init__(self, shape=(5,), classes=2, leak=0.0):
        super().__init__()
        self.rows, self.sign = nn.Parameter(torch.zeros(80, *shape)), nn.Parameter(torch.zeros(80))
        self.leak = nn.Parameter(torch.tensor(leak))

    def forward(self, x):
        known = (x[:, None] == self.rows[None]).all(dim=2).float()
        odds = x[:, 0] + self.leak * known @ self.sign
        return torch.stack([-odds, odds], dim=1)

    def remembering(self, x, y):
        with torch.no_grad():
            self.rows[: len(x)] = torch.as_tensor(x)
            self.sign[: len(x)] = torch.as_tensor(2.0 * np.asarray(y) - 1)
        return self


def states(x, y, leaks=(3.0, 0.4)):
    """A network that does not leak, and earlier states of it that do."""
    network = Table(leak=0.01).remembering(x, y)
    found = []
    for leak in leaks:
        found.append(copy.deepcopy(network.state_dict()))
        found[-1]["leak"] = torch.tensor(leak)
    return network, found


def refit(x, y, seed):
    CALLS.append(seed)
    network, before = states(x, y)
    with torch.no_grad():
        network.leak += seed / 1e4  # so that no two are one network
    return network, before


def audited(attacks=NAME, **options):
    network, before = states(*MEMBERS)
    given = {"checkpoints": before, "refit": refit, "references": 2, "processes": 1, "progress": False} | options
    return lw.audit(given.pop("model", network), MEMBERS, NONMEMBERS, attacks=attacks, **given)


def test_a_leak_of_checkpoints_alone_is_found_and_stored_references_serve_again(tmp_path):
    found = audited(attacks=["loss", NAME], out=tmp_path)
    auc = {result.attack: result.metrics["auc"] for result in found.attacks}
    assert auc[NAME].value > 0.95
    assert auc["loss"].low < 0.5 < auc["loss"].high
    assert found.sentence.startswith("Leakage found")
    network, before = states(*MEMBERS)
    loaded = [copy.deepcopy(network) for _ in before]
    for each, state in zip(loaded, before, strict=True):
        each.load_state_dict(state)
    CALLS.clear()
    again = audited(attacks=["loss", NAME], out=tmp_path, checkpoints=loaded)
    assert CALLS == []
    np.testing.assert_array_equal(_scores(again), _scores(found))
    other = audited(out=tmp_path, checkpoints=loaded[:1], refit=lambda *given: (refit(*given)[0], refit(*given)[1][:1]))
    assert CALLS  # one checkpoint less: other answers are stored
    assert (_scores(other) != _scores(again)).any()


def _scores(audit):
    return next(result.score_N for result in audit.attacks if result.attack == NAME)


def test_without_a_leak_on_the_way_nothing_is_found():
    def silent(x, y, seed):
        network, before = states(x, y, (-0.02, 0.02))
        with torch.no_grad():
            network.leak += seed / 1e4
        return network, before

    (result,) = audited(refit=silent, checkpoints=states(*MEMBERS, (-0.02, 0.02))[1]).attacks
    assert result.metrics["auc"].low < 0.5 < result.metrics["auc"].high


def test_all_stands_for_trajectories_too_where_there_are_checkpoints_and_they_are_no_denser_levels():
    chosen = choose("all")
    assert NAME not in {attack.name for attack in chosen.attacks}
    with_them = _checkpoints.with_trajectories(chosen, "all", [1], refit, "classification")
    assert {attack.name for attack in with_them.attacks} == {attack.name for attack in chosen.attacks} | {NAME}
    assert with_them.required == {NAME}
    own = replace(ATTACKS["loss"], name="own", needs=frozenset({"levels"}))
    assert "are checkpoints of its training" in _checkpoints.refused([own], [1])["own"]
    assert _checkpoints.refused([own], []) == {}


def test_workers_are_told_of_checkpoints(tmp_path):
    records, inside = _inputs.read((X, Y), "records"), np.ones((2, 160), bool)
    given = (refit, records, None, inside, (0, 1), 1, True, ("checkpoints",), _cache.Size())
    _work.write_work(tmp_path, _work.Work(*given, checkpoints=3))
    assert _work.read_work(tmp_path, refit).checkpoints == 3


def test_the_command_reads_checkpoints_from_files(tmp_path, capsys):
    network, before = states(*MEMBERS)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    files = [tmp_path / f"{place}.safetensors" for place in range(2)]
    for path, state in zip(files, before, strict=True):
        save_file(state, path)
    np.savez(tmp_path / "d.npz", x=X, y=Y, member=np.arange(160) < 80)
    given = {"model": f"{__name__}:Table", "weights": tmp_path / "w.safetensors", "data": tmp_path / "d.npz"}
    trained = {"refit": f"{__name__}:refit", "references": 2, "task": "classification"}
    _model.audit(**given, **trained, checkpoint=files, attack=[NAME], delta=1e-5, seed=0)
    assert NAME in capsys.readouterr().out
    with pytest.raises(UsageError, match="--checkpoint applies to the audit of a model"):
        _model.audit(scores=tmp_path / "d.npz", checkpoint=files, delta=1e-5)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"checkpoints": ()}, f"'{NAME}' cannot run. It needs earlier checkpoints of the model's training: pass"),
        ({"refit": None, "references": 0}, "checkpoints needs refit"),
        ({"checkpoints": Table()}, "checkpoints is a Table: give a list"),
        ({"checkpoints": [3]}, r"checkpoints\[0\] is a int"),
        ({"checkpoints": [states(*MEMBERS)[0]]}, r"checkpoints\[0\] answers all records as the model does"),
        ({"checkpoints": [states(*MEMBERS)[1][0]] * 2}, r"checkpoints\[0\] answers all records as checkpoints\[1\]"),
        ({"checkpoints": [{"leak": torch.tensor(1.0)}]}, r"checkpoints\[0\] cannot be loaded into a copy"),
        ({"checkpoints": [lambda x: np.stack([x[:, 0]] * 3, 1) * [1, 2, 3]]}, "answers 3 classes and the model 2"),
        ({"model": lambda x: np.stack([-x[:, 0], x[:, 0]], 1)}, "is a state_dict and model is no torch module"),
        ({"checkpoints": [nn.Linear(5, 2)]}, r"checkpoints\[0\] is of another architecture"),
        (
            {"refit": lambda *given: (refit(*given)[0], states(*MEMBERS)[1])},
            r"reference 1\[0\] answers all records as one of",
        ),
        ({"attacks": "loss"}, "no attack that is asked for reads them"),
        ({"refit": lambda x, y, seed: refit(x, y, seed)[0]}, r"it must return \(model, checkpoints\)"),
        ({"refit": lambda *given: (refit(*given)[0], [])}, "refit returned 0 checkpoints for reference 1 .* holds 2"),
        ({"refit": lambda *given: (refit(*given)[0], [refit(*given)[0]] * 2)}, r"of reference 1\[0\] answers all"),
    ],
)
def test_checkpoints_that_cannot_be_read_are_refused(change, says):
    with pytest.raises(UsageError, match=says):
        audited(**change)


def _learning(seed, gains, gaps):
    """A network with states, whose log-odds have the means ``gains``, and differ by ``gaps`` between sides."""
    noise, member = np.random.default_rng(seed).normal(size=160), np.arange(160) < 80
    seen = []
    for gain, gap in zip(gains, gaps, strict=True):
        odds = gain + noise - gap * ~member
        logits = np.stack([np.where(label == Y, odds, 0.0) for label in (0, 1)], axis=1)
        seen.append(Observed(logits, Y, member, None, np.arange(160)))
    return Evidence(seen[-1], related=tuple(seen[:-1]))


def test_checkpoints_in_the_wrong_order_or_of_another_training_have_a_note():
    gains, gaps = (0.0, 0.5, 1.0, 2.0), (0.0, 1.0, 2.0, 3.0)
    right = _learning(0, gains, gaps)
    assert _checkpoints.doubts(replace(right, shadow=_learning(1, gains, gaps))) == []
    backwards = _learning(0, (1.0, 0.5, 0.0, 2.0), (2.0, 1.0, 0.0, 3.0))
    (note,) = _checkpoints.doubts(replace(backwards, shadow=_learning(1, gains, gaps)))
    assert note.startswith("The mean loss of members rises over checkpoints (0.366")
    (note,) = _checkpoints.doubts(replace(right, shadow=backwards))
    assert "rises over checkpoints of reference 1 (" in note
    elsewhere = _learning(0, gains, (0.0, 0.0, 0.0, 3.0))
    (note,) = _checkpoints.doubts(replace(elsewhere, shadow=_learning(1, gains, gaps)))
    assert note.startswith("No checkpoint answers members better than non-members")
    assert _checkpoints.doubts(replace(elsewhere, shadow=_learning(1, gains, (0.0, 0.0, 0.0, 3.0)))) == []


def test_an_audit_says_that_the_loss_of_members_rises_over_its_checkpoints():
    assert any("The mean loss of members rises over checkpoints (" in note for note in audited().notes)


def test_one_state_before_training_may_be_that_of_a_reference_and_no_later_one():
    start, one, other = (np.full((4, 2), value) for value in (0.0, 1.0, 2.0))
    _checkpoints.refuse_shared(np.stack([start, one]), np.stack([start, other]), "reference 1")
    for pair in ([start, one], [start, one]), ([start, one], [other, one]), ([start], [start]):
        with pytest.raises(UsageError, match="If it is the state before training, leave it out"):
            _checkpoints.refuse_shared(*(np.stack(states) for states in pair), "reference 1")
