"""Records and models that would make an audit silently wrong: random transforms, networks in training mode, copies."""

import copy
import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import lacewing as lw
from lacewing.attacks import ATTACKS
from lacewing.auditing._inputs import Form, RawData, shared
from lacewing.auditing._records import check_same_variation, counted, read
from lacewing.auditing._work import halves
from lacewing.data import duplicate_groups
from lacewing.errors import UsageError

R = np.random.default_rng(0)
N = 200
X, Y = R.normal(size=(2 * N, 8)).astype("f4"), R.integers(0, 3, 2 * N)
INSIDE, OUTSIDE = slice(0, N), slice(N, None)


class Records(torch.utils.data.Dataset):
    """Records that a transform changes each time that they are read."""

    def __init__(self, part, noise=0.0, transform=None, labels=False):
        self.x, self.y, self.noise, self.transform, self.labels = X[part], Y[part], noise, transform, labels

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        x = torch.from_numpy(self.x[index])
        label = int(torch.randint(3, ())) if self.labels else int(self.y[index])
        return x + self.noise * torch.randn_like(x), label


def learned(*last, dropout=0.0):
    return copy.deepcopy(_learned(*last, dropout=dropout))


@functools.cache
def _learned(*last, dropout):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), *last, nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 3))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(X[INSIDE])), torch.from_numpy(Y[INSIDE])).backward()
        optimiser.step()
    return model


def audit(model, members, nonmembers, **options):
    options = {"attacks": ["loss", "entropy", "gap"], "progress": False} | options
    return lw.audit(model, members, nonmembers, **options)


PLAIN = (X[INSIDE], Y[INSIDE]), (X[OUTSIDE], Y[OUTSIDE])


@pytest.mark.parametrize(
    ("members", "nonmembers", "augmented", "says"),
    [
        (Records(INSIDE, 0.5), Records(OUTSIDE), False, "members hands out other values.*augmented=True"),
        (Records(INSIDE), Records(OUTSIDE, 0.5), False, "nonmembers hands out other values"),
        (Records(INSIDE, 0.5), Records(OUTSIDE), True, "members hands out other values.*nonmembers does not"),
        (Records(INSIDE, 0.5), Records(OUTSIDE, 0.1), True, "changes members more"),
        (Records(INSIDE, 0.5, "crop"), Records(OUTSIDE, 0.5, "flip"), True, "different transforms"),
        (
            Records(INSIDE, 0.5, "crop"),
            torch.utils.data.Subset(Records(OUTSIDE, 0.5, "flip"), range(N)),
            True,
            "different",
        ),
        (Records(INSIDE), Records(OUTSIDE), True, "the same each time"),
        (Records(INSIDE, labels=True), Records(OUTSIDE), False, "members hands out other labels"),
    ],
)
def test_records_that_differ_each_time_are_refused(members, nonmembers, augmented, says):
    with pytest.raises(UsageError, match=says):
        audit(learned(), members, nonmembers, augmented=augmented)


def test_copies_that_are_meant_are_averaged_over_eight_draws():
    model = learned()
    found = audit(model, Records(INSIDE, 0.2, "noise"), Records(OUTSIDE, 0.2, "noise"), augmented=True)
    assert found.sentence.startswith("Leakage found")
    assert any("means over 8, each read through a random transform" in note for note in found.notes)
    with pytest.raises(UsageError, match="which no refit trains on"):
        audit(model, *PLAIN, augmented=True, refit=lambda x, y, seed: model, references=4)


def function_of(model):
    return lambda x: model(torch.as_tensor(x)).detach().numpy()


def test_a_function_around_a_network_in_training_mode_is_refused_and_in_evaluation_mode_taken():
    dropped, normalised = learned(dropout=0.5), learned(nn.BatchNorm1d(64))
    for model, says in (
        (dropped, "differently when asked twice.*dropout"),
        (normalised, "in another batch.*batch norm"),
    ):
        model.train()
        with pytest.raises(UsageError, match=says):
            audit(function_of(model), *PLAIN)
        inside = audit(model, *PLAIN).attacks[0].metrics["auc"]  # a module is asked in evaluation mode
        assert audit(function_of(model.eval()), *PLAIN).attacks[0].metrics["auc"].value == pytest.approx(inside.value)


def test_a_function_that_draws_is_averaged_where_that_is_meant():
    model = learned(dropout=0.3).train()
    found = audit(function_of(model), *PLAIN, augmented=True)
    assert any("which the model draws at random" in note for note in found.notes)
    assert found.sentence.startswith("Leakage found")


def test_a_module_with_statistics_of_the_batch_is_audited_by_its_outputs_alone():
    model = learned(nn.BatchNorm1d(64, track_running_stats=False))
    found = audit(model, *PLAIN, attacks="all")
    assert any("depend on the other records of a batch" in note for note in found.notes)
    assert "batch" in found.refused["gradient-norm"]
    assert "loss" in {one.attack for one in found.attacks}


class ThroughNumpy(torch.nn.Module):
    """Answers that no gradient can be taken of."""

    def __init__(self):
        super().__init__()
        self.net = learned()

    def forward(self, x):
        return torch.from_numpy(self.net(x).detach().numpy())


def test_gradients_that_cannot_be_taken_leave_the_other_attacks():
    found = audit(ThroughNumpy(), *PLAIN, attacks="all")
    assert "gradients of single records cannot be taken" in found.refused["gradient-norm"]
    assert {"loss", "label-noise"} <= {one.attack for one in found.attacks}
    with pytest.raises(UsageError, match=r"'gradient-norm' cannot run\. The gradients"):
        audit(ThroughNumpy(), *PLAIN, attacks="gradient-norm")


# ---------------------------------------------------------------------------------------------------- copies, groups


def test_copies_on_one_side_count_once_and_copies_by_chance_each():
    member = np.arange(80) < 40
    notes = []
    groups = counted(np.arange(80) // 10, member, None, 0, notes, what="records")
    np.testing.assert_array_equal(groups, np.arange(80) // 10)
    assert notes[0].startswith("36 of the 40 members and 36 of the 40 audited non-members are exact copies")
    assert "copies count once" in notes[0]
    natural = np.random.default_rng(1).integers(0, 12, 80)  # rows of few binary features
    assert counted(natural, member, None, 0, notes, what="records") is None
    assert "each counts" in notes[1]
    assert counted(np.arange(80), member, None, 0, notes, what="records") is None
    assert len(notes) == 2


def test_copies_across_the_sides_are_never_one_group():
    member = np.arange(20) < 10
    groups = counted(np.arange(20) % 10, member, np.arange(20), 0, [], what="records")
    assert len(np.unique(groups)) == 20


def test_a_group_counts_as_one_unit_whose_score_is_the_mean_of_its_records():
    patients = (np.arange(N) // 4, 1000 + np.arange(N) // 2)
    found = audit(learned(), *PLAIN, groups=patients)
    single = audit(learned(), *PLAIN)
    one = found.attacks[0]
    assert (one.n_members, one.n_nonmembers) == (N // 4, N // 2)
    scores = single.attacks[0].score_N
    np.testing.assert_allclose(one.score_N[: N // 4], scores[:N].reshape(-1, 4).mean(axis=1))
    np.testing.assert_allclose(one.score_N[N // 4 :], scores[N:].reshape(-1, 2).mean(axis=1))
    assert sum(row["n_members"] for row in found.by_class()) == N // 4
    given = {"score": scores, "member": np.arange(2 * N) < N, "group": np.concatenate(patients)}
    again = lw.audit_scores(given).attacks[0]
    assert again.metrics["auc"] == one.metrics["auc"]


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        (np.arange(2 * N), "two lists of ids"),
        ((np.arange(N), np.arange(N - 1)), "ids of nonmembers have shape"),
        ((np.arange(N), np.arange(N)), "200 groups have members and nonmembers"),
        ((np.arange(N) / 2, np.arange(N)), "whole number or word"),
    ],
)
def test_wrong_groups_are_named(groups, says):
    with pytest.raises(UsageError, match=says):
        audit(learned(), *PLAIN, groups=groups)


def test_a_group_with_members_and_nonmembers_is_refused_in_scores():
    with pytest.raises(UsageError, match="2 groups have members and nonmembers"):
        lw.audit_scores({"score": np.arange(4.0), "member": [1, 0, 1, 0], "group": ["a", "a", "b", "b"]})


def test_halves_and_population_hold_whole_groups():
    codes = np.sort(R.integers(0, 60, 300))
    for inside in halves(codes, 6, 0):
        assert all(len(np.unique(inside[codes == code])) == 1 for code in np.unique(codes))
        assert abs(inside.mean() - 0.5) < 0.05
    owners = np.arange(N) // 2
    seen = []

    def attack(evidence):
        seen.append(evidence)
        return -evidence.observed.logits_NC.max(axis=1)

    x = np.repeat(R.normal(size=(400, 8)).astype("f4"), 2, axis=0)  # each patient's two rows are equal
    y = np.repeat(R.integers(0, 3, 400), 2)
    audit(
        learned(),
        PLAIN[0],
        (x, y),
        groups=(owners, 1000 + np.arange(800) // 2),
        attacks=[attack, "population"],
    )
    population = seen[0].population
    assert len(population) == 200
    assert np.unique(duplicate_groups(population.logits_ZC), return_counts=True)[1].tolist() == [2] * 100


class Elsewhere(Records):
    """Records of which a transform changes some columns."""

    def __init__(self, part, change):
        super().__init__(part)
        self.change = change

    def __getitem__(self, index):
        return self.change(torch.from_numpy(self.x[index]).clone()), int(self.y[index])


def noisy(columns):
    def change(x):
        x[columns] += 2 * torch.randn_like(x[columns])
        return x

    return change


def test_transforms_of_equal_size_that_change_other_features_are_refused():
    with pytest.raises(UsageError, match="other features"):
        audit(learned(), Elsewhere(INSIDE, noisy(slice(0, 4))), Elsewhere(OUTSIDE, noisy(slice(4, 8))), augmented=True)


@pytest.mark.parametrize(
    "change",
    [
        noisy(slice(0, 8)),
        lambda x: x.flip(0) if torch.rand(()) < 0.5 else x,
        lambda x: x.roll(int(torch.randint(3, ()))),
        lambda x: x * (torch.rand(8) > 0.3),
    ],
)
def test_a_transform_that_is_alike_on_both_sides_is_accepted(change):
    torch.manual_seed(0)
    refused = 0
    for seed in range(50):
        x = np.random.default_rng(seed).normal(size=(80, 8)).astype("f4")
        side = np.arange(80) < 40
        made = [np.stack([change(torch.from_numpy(row).clone()).numpy() for row in x]) for _ in range(2)]
        given = [SimpleNamespace(audited=SimpleNamespace(x=values), member_N=side) for values in made]
        try:
            check_same_variation(*given)
        except UsageError:
            refused += 1
    assert refused <= 1


@pytest.mark.parametrize("missing", [None, float("nan"), ""])
def test_missing_ids_are_refused(missing):
    ids = np.array([*range(N)], object), np.array([*range(N, 2 * N)], object)
    ids[0][:2] = missing
    with pytest.raises(UsageError, match="2 records have"):
        audit(learned(), *PLAIN, groups=ids)


def test_fewer_than_ten_groups_a_side_are_refused():
    with pytest.raises(UsageError, match="200 members form 2 groups"):
        audit(learned(), *PLAIN, groups=(np.arange(N) % 2, 2 + np.arange(N) % 2))
    with pytest.raises(UsageError, match="20 members form 2 groups"):
        lw.audit_scores({"score": np.arange(40.0), "member": np.arange(40) < 20, "group": np.arange(40) // 10})


def test_shared_records_are_told_value_for_value():
    whole, flags = np.eye(8, dtype=np.int64), np.eye(8, dtype=bool)
    y = np.arange(8)
    assert shared(RawData(flags, y, Form()), RawData(7 * whole, y, Form())) == 0
    assert shared(RawData(flags, y, Form()), RawData(whole, y, Form())) == 8
    assert shared(RawData(np.zeros((8, 2)), y, Form()), RawData(-np.zeros((8, 2)), y, Form())) == 8


@pytest.mark.parametrize("share", [0.3, 0.4, 0.47])
def test_halves_of_a_large_group_are_halves(share):
    large = int(share * 200)
    inside = halves(np.r_[np.zeros(large, int), 1 + np.arange(200 - large)], 20, 0)
    assert set(inside.sum(axis=1)) == {100}


def test_a_group_of_more_than_half_of_the_records_has_no_halves():
    with pytest.raises(UsageError, match="holds 110 of the 200"):
        halves(np.r_[np.zeros(110, int), 1 + np.arange(90)], 4, 0)


def test_halves_without_groups_are_those_of_always():
    order = np.random.default_rng([5, 301, 0]).permutation(101)
    expected = np.isin(np.arange(101), order[:50])
    np.testing.assert_array_equal(halves(np.arange(101), 2, 5), [expected, ~expected])


def test_no_record_of_the_population_equals_an_audited_nonmember():
    x = R.normal(size=(900, 4)).repeat(3, axis=0)
    y = np.arange(2700) % 3
    population = list(ATTACKS.values())
    found = read((x[:900], y[:900]), (x[900:], y[900:]), None, chosen=population, notes=[])
    outside = RawData(found.audited.x[~found.member_N], found.audited.y[~found.member_N], Form())
    assert found.population is not None
    assert shared(outside, found.population) == 0


@pytest.mark.parametrize(("rows", "of"), [(slice(0, 150), "members"), (slice(150, 300), "audited non-members")])
def test_a_population_that_is_audited_is_refused_unless_rows_repeat_by_nature(rows, of):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 6)).astype(np.float32), rng.integers(2, size=400)
    sides, audited = [(x[:150], y[:150]), (x[150:300], y[150:300])], (x[rows], y[rows])
    with pytest.raises(UsageError, match=f"150 of 150 records are equal to one of the {of}, value for value"):
        read(*sides, audited, notes=[])
    mixed = tuple(np.concatenate([values[:100], apart[300:]]) for values, apart in zip(audited, (x, y), strict=True))
    with pytest.raises(UsageError, match=f"100 of 200 records are equal to one of the {of}"):
        read(*sides, mixed, notes=[])
    assert len(read(*sides, (x[300:], y[300:]), notes=[]).population) == 100
    few = (x > 0).astype(np.float32)  # 64 different rows
    notes = []
    assert (
        len(read((few[:150], y[:150]), (few[150:300], y[150:300]), (few[300:], y[300:]), notes=notes).population) == 100
    )
    assert sum("of the 100 population records are equal to one of the" in note for note in notes) == 2
