"""Records as token ids: what is refused, and that networks are given the very ids."""

import numpy as np
import pytest
import torch
from torch import nn

from lacewing import data, signals
from lacewing.config import Train
from lacewing.errors import DataError, UsageError
from lacewing.inputs import network_inputs
from lacewing.training.batches import Batches


def _dataset(x) -> data.Dataset:
    x = np.asarray(x)
    return data.make_dataset("mine.npz", x, np.arange(len(x)) % 2, 2)


@pytest.mark.parametrize(
    "x", [np.array([[0, 3], [255, 1]], np.uint8), np.array([[0, 3], [2**24 - 1, 1]], np.float32), [[0, 3], [7, 1]]]
)
def test_ids_become_int32_without_a_change_and_the_data_set_keeps_its_digest(x):
    plain = _dataset(np.asarray(x, np.int32) if isinstance(x, list) else x)
    found = data.as_tokens(plain)
    assert found.x.dtype == np.int32
    assert (found.x == plain.x).all()
    assert found.digest == plain.digest


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.array([[1, 2], [1, 2.5]], np.float32), r"not whole \(the first in record 1\)"),
        (np.array([[1, -2], [1, 2]], np.float32), r"ids below 0 \(the first in record 0\)"),
        (np.array([[1, -2], [1, 2]], np.int32), r"ids below 0 \(the first in record 0\)"),
        (np.array([[2**24, 2], [1, 2]], np.float32), "holds the id 16,777,216: ids below 16,777,216 are read"),
        (np.zeros((4, 1, 2, 2), np.uint8), r"records of shape \(1, 2, 2\), and token ids are rows"),
    ],
)
def test_what_is_no_id_is_one_sentence(x, said):
    with pytest.raises(DataError, match=f"data.tokens: mine.npz .*{said}"):
        data.as_tokens(_dataset(x))


class Listening(nn.Module):
    """Keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.embed, self.asked = nn.Embedding(300, 3), []

    def forward(self, ids):
        self.asked.append(ids.clone())
        return self.embed(ids).mean(1)


IDS = np.random.default_rng(0).integers(0, 300, (10, 4)).astype(np.int32)
LABEL = np.arange(10, dtype=np.int64) % 3
AS_IT_IS = np.zeros(4, np.float32), np.ones(4, np.float32)


def test_training_is_given_ids_and_tables_the_same_numbers_as_before():
    config = Train(batch_size=10, precision="fp32")
    (batch,) = Batches(IDS, LABEL, config, AS_IT_IS, torch.device("cpu")).epoch(3)
    assert batch.inputs.dtype == torch.int64
    assert sorted(map(tuple, batch.inputs.tolist())) == sorted(map(tuple, IDS.tolist()))
    for raw in (torch.tensor([[0, 255]], dtype=torch.uint8), torch.tensor([[0.5, -2.0]])):
        mean, std = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.1])
        assert torch.equal(network_inputs(raw, mean, std), (raw.float() - mean) / std)


def test_a_network_is_asked_about_the_very_ids_and_its_local_sensitivity_is_zero():
    model, every = Listening(), np.ones(10, bool)
    every[3] = False
    logits, sensitivity = signals.observe(model, IDS, normalisation=AS_IT_IS, sensitivity_of=every)
    assert torch.equal(torch.cat(model.asked), torch.from_numpy(IDS).long())  # and nothing else
    np.testing.assert_array_equal(sensitivity, np.where(every, 0, np.nan))
    found = signals.probe(model, IDS, LABEL, normalisation=AS_IT_IS, of=every, queries=1, noise_sizes=())
    others = np.log(np.exp(logits.astype(float)).sum(1) - np.exp(logits[np.arange(10), LABEL].astype(float)))
    np.testing.assert_allclose(found.phi_NQ[:, 0], logits[np.arange(10), LABEL] - others, rtol=1e-5, atol=1e-6)
    assert (found.gradient_N2[every, 0] > 0).all()
    for asked in ({"queries": 2, "noise_sizes": ()}, {"queries": 1}):
        with pytest.raises(UsageError, match="token ids have no changed copies"):
            signals.probe(model, IDS, LABEL, normalisation=AS_IT_IS, of=every, **asked)


def test_ids_in_a_mapped_file_are_checked_and_read_as_they_are(tmp_path):
    for name, y in (("x.npy", IDS), ("y.npy", LABEL)):
        np.save(tmp_path / name, y)
    found = data.as_tokens(data.load(str(tmp_path)))
    assert found.x.dtype == np.int32
    assert (found.x[np.arange(10)] == IDS).all()
    np.save(tmp_path / "x.npy", IDS - 1000)
    with pytest.raises(DataError, match=r"ids below 0 \(the first in record 0\)"):
        data.as_tokens(data.load(str(tmp_path)))
