"""results.csv: its columns are a contract, and equal results give equal bytes."""

import csv
import io

import numpy as np
import pytest

from lacewing.errors import UsageError
from lacewing.results import METRICS, AttackResult, Epoch, Estimate, NetworkResult, read_results_csv, results_csv

COLUMNS = (
    "schema,network,method,role,seed,density,density_prunable,parameters,nonzero,train_accuracy,test_accuracy,"
    "attack,variant,threat_model,n_members,n_nonmembers,"
    "balanced_accuracy,balanced_accuracy_low,balanced_accuracy_high,auc,auc_low,auc_high,"
    "tpr_at_fpr_0.01,tpr_at_fpr_0.01_low,tpr_at_fpr_0.01_high,tpr_at_fpr_0.001,tpr_at_fpr_0.001_low,"
    "tpr_at_fpr_0.001_high,defence,defence_low,defence_high,advantage,advantage_low,advantage_high,"
    "oracle_balanced_accuracy,oracle_balanced_accuracy_low,oracle_balanced_accuracy_high,"
    "realised_fpr_0.01,realised_fpr_0.01_low,realised_fpr_0.01_high,"
    "realised_fpr_0.001,realised_fpr_0.001_low,realised_fpr_0.001_high,"
    "clean_test_accuracy,holdout_accuracy,population_accuracy,family,kind,init"
)


def _network(name="dense", role="target", seed=0, **fields):
    facts = {"density": 1.0, "density_prunable": 1.0, "parameters": 10, "nonzero": 10}
    return NetworkResult(name, "dense", role, seed, **facts, train_accuracy=0.9, test_accuracy=2 / 3, **fields)


def _attack(network, name="discriminator", **metrics):
    return AttackResult(network, name, "mlp 30, 30", 'said "so"', 7, 9, metrics)


def _rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_columns_are_those_of_the_contract():
    assert results_csv([], []) == COLUMNS + "\n"


def test_a_row_holds_what_was_found():
    network = _network(clean_test_accuracy=0.7, curve=(Epoch(1, 2.0, 0.5, 0.1),))
    found = {m: Estimate(i + 0.5, i + 0.25, i + 0.75) for i, m in enumerate(METRICS)}
    found["tpr_at_fpr_0.001"] = None
    (row,) = _rows(results_csv([network], [_attack(network, **found)]))
    assert (row["schema"], row["network"], row["role"], row["seed"]) == ("1", "dense", "target", "0")
    assert float(row["test_accuracy"]) == 2 / 3  # to the last bit
    assert (row["variant"], row["threat_model"]) == ("mlp 30, 30", 'said "so"')
    assert (row["n_members"], row["n_nonmembers"]) == ("7", "9")
    assert (row["clean_test_accuracy"], row["holdout_accuracy"]) == ("0.7", "")
    for i, metric in enumerate(METRICS):
        cells = [row[f"{metric}{end}"] for end in ("", "_low", "_high")]
        wanted = ["", "", ""] if metric == "tpr_at_fpr_0.001" else [str(i + x) for x in (0.5, 0.25, 0.75)]
        assert cells == wanted


def test_there_is_a_row_for_each_network_and_attack_in_their_order():
    networks = [_network(), _network(role="shadow"), _network("imp-01"), _network(seed=1)]
    attacks = [_attack(networks[2]), _attack(networks[0], "first"), _attack(networks[0], "second")]
    rows = _rows(results_csv(networks, attacks))
    assert [(r["network"], r["role"], r["seed"], r["attack"]) for r in rows] == [
        ("dense", "target", "0", "first"),
        ("dense", "target", "0", "second"),
        ("dense", "shadow", "0", ""),
        ("imp-01", "target", "0", "discriminator"),
        ("dense", "target", "1", ""),
    ]


def test_equal_results_give_equal_bytes_whatever_number_type_and_iterator_holds_them():
    network = _network()
    numpy_made = _network()
    text = results_csv([network], [_attack(network, auc=Estimate(0.1 + 0.2, 0.0, 1.0))])
    again = results_csv(
        iter([numpy_made]),
        iter([_attack(numpy_made, auc=Estimate(np.float64(0.1 + 0.2), np.float64(0), np.float64(1)))]),
    )
    assert text == again
    assert "\r" not in text
    assert text.endswith("\n")


def test_identifiers_address_a_network_of_a_run_folder():
    assert _network("imp-03", "shadow", 2).id == "imp-03/shadow/2"


def test_words_of_others_are_no_formulas_and_numbers_stay_numbers():
    network = _network("=cmd|'/C calc'!A0")
    found = {m: Estimate(-0.5, -1e-9, 0.5) for m in METRICS}
    attack = AttackResult(network, "@attack", "+1", "-1 at \t", 7, 9, found)
    text = results_csv([network], [attack])
    (row,) = _rows(text)
    assert [row[name] for name in ("network", "attack", "variant", "threat_model")] == [
        "'=cmd|'/C calc'!A0",
        "'@attack",
        "'+1",
        "'-1 at \t",
    ]
    assert (row["auc"], row["auc_low"]) == ("-0.5", "-1e-09")


def _study():
    facts = {"population_accuracy": 0.5, "family": "imp", "kind": "sparse"}
    networks = [_network(), _network(role="shadow"), _network("imp-01", **facts), _network(seed=1)]
    found = {m: Estimate(0.5, 0.25, 0.75) for m in METRICS} | {"tpr_at_fpr_0.001": None}
    return networks, [_attack(networks[0], **found), _attack(networks[2], "=lira", **found)]


def test_what_is_written_is_read_back_without_curves_notes_and_records(tmp_path):
    networks, attacks = _study()
    path = tmp_path / "results.csv"
    path.write_text(results_csv(networks, attacks), encoding="utf-8")
    found, ran = read_results_csv(path)
    # Networks come in the order of their first rows; the same rows are written again.
    assert {n.id: n for n in found} == {n.id: n for n in networks}
    assert [(a.network, a.attack, a.variant, a.n_members, a.metrics) for a in ran] == [
        (a.network, a.attack, a.variant, a.n_members, a.metrics) for a in attacks
    ]
    assert results_csv(networks, ran) == results_csv(networks, attacks)


def test_a_file_of_an_older_version_and_ends_taken_off_are_read(tmp_path):
    text = results_csv(*_study()).splitlines()
    rows = [dict(zip(text[0].split(","), line, strict=True)) for line in csv.reader(text[1:])]
    lacking = {"population_accuracy", "family", "kind"}
    head = [name for name in rows[0] if name not in lacking]
    path = tmp_path / "results.csv"
    with path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, head, extrasaction="ignore")
        table.writeheader()
        table.writerows({**row, "tpr_at_fpr_0.01_low": "", "tpr_at_fpr_0.01_high": ""} for row in rows)
    networks, attacks = read_results_csv(path)
    assert {(n.family, n.kind) for n in networks} == {("", None)}
    value, low, high = attacks[0].metrics["tpr_at_fpr_0.01"]
    assert (value, np.isnan(low), np.isnan(high)) == (0.5, True, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "the column schema is missing"),
        (lambda text: text.replace("test_accuracy", "accuracy"), "the column test_accuracy is missing"),
        (lambda text: text.replace(",10,10,", ",10,ten,"), "line 2"),
        (lambda text: text.replace("sparse", "spurious"), "line 4"),
        (lambda text: text + "1,dense\n", "line 6: 2 cells"),
        (lambda text: text.replace("\n1,", "\n2,"), "line 2"),
        (lambda text: text.replace(",7,9,0.5", ",7,9,half"), "line 2"),
        (lambda text: text + text.splitlines()[1].replace(",0.9,", ",0.8,") + "\n", "line 6: the network's columns"),
        (lambda text: text + text.splitlines()[1] + "\n", "line 6: a second line of the attack"),
        (lambda text: "".join(f"{line},{line.split(',')[5]}\n" for line in text.splitlines()), "two columns 'density'"),
    ],
)
def test_what_is_no_results_csv_is_named(tmp_path, change, said):
    path = tmp_path / "results.csv"
    text = results_csv(*_study())
    path.write_text(change(text), encoding="utf-8")
    assert change(text) != text
    with pytest.raises(UsageError, match=said):
        read_results_csv(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("test_accuracy", "80.0"),
        ("test_accuracy", "-0.1"),
        ("test_accuracy", "nan"),
        ("density", "0"),
        ("seed", "-4"),
        ("seed", "1_0"),
        ("parameters", "١٠"),
        ("n_members", "-5"),
        ("n_members", "0"),
        ("balanced_accuracy", "7.5"),
        ("balanced_accuracy", "inf"),
        ("balanced_accuracy", "0.9"),  # above its interval
        ("auc", "1_0"),
        ("auc", "٠.٥"),
        ("auc_low", "0.6"),
    ],
)
def test_numbers_that_no_study_has_are_named(tmp_path, column, value):
    head, *rows = csv.reader(io.StringIO(results_csv(*_study())))
    rows[0][head.index(column)] = value
    path = tmp_path / "results.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])
    with pytest.raises(UsageError, match="line 2"):
        read_results_csv(path)
