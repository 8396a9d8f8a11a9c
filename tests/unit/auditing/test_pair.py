"""The audit of a dense and of a sparse network: what is compared, what is refused, what each gate says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import lacewing as lw
from lacewing.errors import GateFailed, UsageError

SIMPLE = ["loss", "gap"]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def records(n: int, seed: int):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, 12)) + 0.3 * np.eye(3, 12)[y]).astype(np.float32), y


MEMBERS, NONMEMBERS = records(120, 1), records(120, 2)


def network(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, classes))


def fitted(x, y, seed: int, steps: int) -> nn.Module:
    model = network(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(torch.as_tensor(x)), torch.as_tensor(y)).backward()
        optimiser.step()
    return model.eval()


def pruned(model: nn.Module, density: float = 0.3) -> nn.Module:
    with torch.no_grad():
        for layer in (model[0], model[2]):
            bar = layer.weight.abs().flatten().kthvalue(int((1 - density) * layer.weight.numel())).values
            layer.weight.mul_(layer.weight.abs() > bar)
    return model


def train_dense(x, y, seed):
    return fitted(x, y, seed, 60)


def train_sparse(x, y, seed):
    return pruned(fitted(x, y, seed, 12))


@pytest.fixture(scope="module")
def pair():
    torch.set_num_threads(1)
    return lw.audit_pair(train_dense(*MEMBERS, 0), train_sparse(*MEMBERS, 0), MEMBERS, NONMEMBERS, attacks=SIMPLE)


def test_a_dense_network_that_memorised_is_told_from_a_sparse_one_that_did_not(pair):
    assert pair.sentence.startswith("The sparse network gives away less than the dense one: by '")
    auc = next(d for d in pair.differences if (d.attack, d.metric) == ("loss", "auc"))
    assert auc.established == "less"
    assert auc.dense == pytest.approx(next(r for r in pair.dense.attacks if r.attack == "loss").metrics["auc"].value)
    assert any("nor of sparsity as such" in said for said in pair.sentences)
    outside = pair.accuracies[1].difference
    worse = any("is less accurate than" in said for said in pair.sentences)
    assert worse == (outside.high < 0)  # the sparse network pays for what it hides, or does not
    assert any(said.startswith("At equal accuracy nothing is said: a verdict takes refit=") for said in pair.sentences)


def test_both_networks_are_audited_on_the_same_records_as_each_alone(pair):
    alone = lw.audit(train_sparse(*MEMBERS, 0), MEMBERS, NONMEMBERS, attacks=SIMPLE)
    for one, two in zip(alone.attacks, pair.sparse.attacks, strict=True):
        np.testing.assert_array_equal(one.score_N, two.score_N)
    inside, outside = pair.accuracies
    assert inside.sparse == pytest.approx(alone.attacks[0].network.train_accuracy)
    assert outside.sparse == pytest.approx(alone.attacks[0].network.test_accuracy)


def test_densities_are_those_of_the_zeros_over_the_dense_parameters(pair):
    whole = sum(p.numel() for p in network().parameters())
    kept = sum(int((p != 0).sum()) for p in train_sparse(*MEMBERS, 0).parameters())
    assert pair.density_dense == 1.0
    assert pair.density_sparse == pytest.approx(kept / whole)


def test_gates_on_differences_and_on_either_network(pair):
    (verdict,) = pair.check("difference.loss.auc > 0")
    assert verdict.failed is False
    with pytest.raises(GateFailed, match="lower end of sparse - dense is loss -"):
        pair.check("difference.loss.auc > -0.9")
    with pytest.raises(GateFailed, match="dense"):
        pair.check("dense.auc > 0.6")
    low = pair.sparse.attacks[0].metrics["auc"].low
    assert low < 0.6
    assert pair.check("auc > 0.6", "sparse.loss.auc > 0.6")[0].failed is False  # without a side: the sparse network
    with pytest.raises(UsageError, match="did not run on both"):
        pair.check("difference.lira.auc > 0")
    with pytest.raises(UsageError, match="a difference is known of auc"):
        pair.check("difference.epsilon > 1")
    with pytest.raises(UsageError, match="give more of them, or a higher rate"):
        pair.check("difference.loss.tpr@0.001 > 0")
    with pytest.raises(UsageError, match=r"gate 'sparse\.aucc > 0' must read"):
        pair.check("sparse.aucc > 0")


def test_texts_and_files_hold_no_record(pair, tmp_path):
    assert "* established together" in str(pair)
    document = json.loads(json.dumps(pair.as_json(), allow_nan=False))
    assert document["differences"][0]["attack"] in SIMPLE
    assert document["equal_accuracy"] is None
    folder = pair.save(tmp_path / "pair")
    assert {p.name for p in folder.iterdir()} == {"dense", "sparse", "pair.json", "report.html"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert pair.sentence.split(":")[0] in page
    assert "gives away less" in pair.report(tmp_path / "one.html").read_text(encoding="utf-8")


def swapped():
    return {"dense": pruned(train_dense(*MEMBERS, 0)), "sparse": train_dense(*MEMBERS, 0)}


def other_classes():
    return {"dense": train_dense(*MEMBERS, 0), "sparse": pruned(network(classes=4))}


def not_pruned():
    return {"dense": train_dense(*MEMBERS, 0), "sparse": train_dense(*MEMBERS, 1)}


def one_network():
    model = train_sparse(*MEMBERS, 0)
    return {"dense": lambda x: model(torch.as_tensor(x)), "sparse": model}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (swapped, "are the two swapped"),
        (other_classes, "dense answers 3 numbers to a record and sparse 4"),
        (not_pruned, "sparse is no sparser than dense"),
        (one_network, "sparse is the same network as dense"),
    ],
)
def test_pairs_that_are_none_are_refused(given, sentence):
    with pytest.raises(UsageError, match=sentence):
        lw.audit_pair(**given(), members=MEMBERS, nonmembers=NONMEMBERS, attacks=SIMPLE)


def never(x, y, seed):
    raise AssertionError("nothing may be trained")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"references": 8}, "references = 8 needs refit"),
        ({"refit": never}, "references = 0 is too few"),
        ({"controls": {"epochs": {"5": never}}, "references": 8}, "give it as refit="),
        ({"refit": never, "controls": {"epochs": never}, "references": 2}, "too few for controls"),
        ({"refit": never, "controls": {"sparse": never}, "references": 8}, "stands for other networks"),
        (
            {"refit": never, "controls": {"epochs/10": never, "epochs": {"10": never}}, "references": 8},
            r"controls\['epochs/10'\] and controls\['epochs'\]\['10'\] are both named 'epochs/10'",
        ),
        ({"refit": {"a": never}, "controls": {"sparse/a": never}, "references": 8}, "are both named 'sparse/a'"),
        ({"refit": never, "controls": {"epochs": {"5": 5}}, "references": 8}, r"controls\['epochs'\]\['5'\] is a int"),
        ({"refit": never, "references": 8, "metric": "loss.tpr@0.02"}, "metric = 'loss.tpr@0.02'"),
        ({"refit": never, "references": 8, "metric": "samia.auc"}, "metric = 'samia.auc': give the auc"),
        (
            {"refit": never, "refit_dense": never, "references": 8, "metric": "lira-online.tpr@0.001"},
            "too few for a TPR at an FPR of 0.001",
        ),
        ({"attacks": ["loss", "discriminator-all-levels"]}, "denser levels of a pruning chain"),
        ({"attacks": ["loss", "discriminator-mask-features"]}, "needs refit=, the training of sparse"),
        ({"attacks": ["loss", "discriminator-unaware"]}, "needs refit_dense="),
        ({"attacks": ["discriminator-unaware"]}, "at least one that runs on both"),
        ({"dry_run": True}, "dry_run says what training takes"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_trained(options, sentence):
    dense, sparse = train_dense(*MEMBERS, 0), train_sparse(*MEMBERS, 0)
    with pytest.raises(UsageError, match=sentence):
        lw.audit_pair(dense, sparse, MEMBERS, NONMEMBERS, **{"attacks": SIMPLE, **options})


class Rows:
    """A data set of dicts with a field that no network takes."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return {"x": self.x[index], "label": self.y[index], "idx": index}


class Named(nn.Module):
    """A network with its record as argument x."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def test_records_are_read_as_in_an_audit_of_one_network():
    names = ["ant", "bee", "cat"]
    sides = [Rows(x, np.array(names)[y]) for x, y in (MEMBERS, NONMEMBERS)]

    def joined(items):
        batch = {key: [item[key] for item in items] for key in items[0]}
        return {**batch, "x": torch.from_numpy(np.stack(batch["x"]))}

    models = {"dense": network(), "sparse": pruned(network())}
    asked = [Named(model) for model in models.values()]
    found = lw.audit_pair(*asked, *sides, attacks="loss", classes=names, collate=joined)
    for name, model in models.items():
        alone = lw.audit(model, MEMBERS, NONMEMBERS, attacks="loss")
        np.testing.assert_array_equal(getattr(found, name).attacks[0].score_N, alone.attacks[0].score_N)
    assert any("The fields idx were left out" in note for note in found.notes)


def test_estimators_with_names_of_classes_are_a_pair_unless_their_classes_differ():
    from sklearn.linear_model import LogisticRegression

    sides = [(x, np.array(["ant", "bee", "cat"])[y]) for x, y in (MEMBERS, NONMEMBERS)]
    dense, sparse = (LogisticRegression(C=c).fit(*sides[0]) for c in (10.0, 0.01))
    found = lw.audit_pair(dense, sparse, *sides, attacks="loss")
    alone = lw.audit(sparse, *sides, attacks="loss")
    np.testing.assert_array_equal(found.sparse.attacks[0].score_N, alone.attacks[0].score_N)
    two = sides[0][1] != "cat"
    with pytest.raises(UsageError, match="the models have other classes in their classes_"):
        lw.audit_pair(dense, LogisticRegression().fit(sides[0][0][two], sides[0][1][two]), *sides, attacks="loss")
