"""Butterfly networks: which layers are replaced, how many entries they have, and what they export to."""

import copy

import pytest
import torch
from torch import nn

from lacewing.errors import UsageError
from lacewing.models.resnet import ResNet
from lacewing.sparsify import KSConv2d, butterfly, composed_state

DENSE = 272_474  # parameters of ResNet-20
DENSITIES = {(1, 2): 32.26, (1, 3): 29.61, (2, 2): 15.95, (2, 3): 12.73, (3, 2): 11.79, (3, 3): 8.50}  # %
CHAINS = {  # rows x columns: non-zeros at two and at three factors
    (16, 144): (416, 384),
    (32, 144): (800, 544),
    (32, 288): (1088, 832),
    (64, 288): (2176, 1344),
    (64, 576): (3200, 1920),
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize(("segments", "factors"), DENSITIES)
def test_resnet20_has_the_known_densities(segments, factors):
    with torch.device("meta"):
        model = ResNet()
        chains = butterfly(model, segments=segments, factors=factors).chains
    assert len(chains) == 6 * segments  # every 3x3 convolution of three blocks a segment
    entries = sum(p.numel() for p in model.parameters())
    saved = sum(chain.shape[0] * chain.shape[1] - CHAINS[chain.shape][factors - 2] for chain in chains.values())
    assert entries == DENSE - saved
    assert 100 * entries / DENSE == pytest.approx(DENSITIES[segments, factors], abs=0.01)


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_stem_shortcuts_norms_and_classifier_stay(segments):
    model = ResNet(depth=14, width=8)
    before = dict(model.named_modules())
    state = copy.deepcopy(model.state_dict())
    chains = butterfly(model, segments=segments, factors=2).chains
    after = dict(model.named_modules())
    replaced = {name for name, module in after.items() if isinstance(module, KSConv2d)}
    wanted = {
        name
        for name, module in before.items()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and name.startswith("segments.")
        if int(name.split(".")[1]) >= 3 - segments
    }
    assert replaced == set(chains) == wanted
    kept = {key for key in state if key.removesuffix(".weight") not in replaced}
    assert all(torch.equal(model.state_dict()[key], state[key]) for key in kept)


@pytest.mark.parametrize("columns", ["channel-first", "kernel-first"])
def test_the_composed_state_loads_into_the_plain_network_and_computes_the_same(columns):
    torch.manual_seed(0)
    model = ResNet(depth=8, width=8)
    keys = set(model.state_dict())
    butterfly(model, segments=3, factors=2, columns=columns)
    x = torch.randn(4, 3, 8, 8)
    model(x)  # moves the batch norms' statistics
    model.eval()
    state = composed_state(model)
    assert set(state) == keys
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in state.values())
    plain = ResNet(depth=8, width=8).eval()
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(x), model(x), atol=1e-5, rtol=0)


def test_equal_seeds_give_equal_layers():
    def made(seed):
        torch.manual_seed(seed)
        model = ResNet(depth=8, width=4)
        butterfly(model, segments=2, factors=2)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(made(1), made(1))
    assert not torch.equal(made(1), made(2))


class Odd(nn.Module):
    """A stem, a convolution that has a chain, and one that cannot be replaced."""

    def __init__(self, last):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), last)


@pytest.mark.parametrize(
    ("model", "segments", "factors", "said"),
    [
        (ResNet(depth=8, width=4), 4, 2, "segments = 4, but the model has 3 segments .* give 1 to 3"),
        (ResNet(depth=8, width=4), 0, 2, "segments = 0"),
        (
            Odd(nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")),
            1,
            2,
            r"butterfly layer 'layers\.2' must stay dense \(padded with reflect\)",
        ),
        (Odd(nn.Conv2d(8, 1, 3)), 2, 2, r"butterfly layer 'layers\.2': no chain of 2 factors makes a 1 x 72 matrix"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 1, 2, "the model has none"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1)), 1, 2, "the model has none"),
    ],
)
def test_errors_say_what_and_leave_the_model_as_it_was(model, segments, factors, said):
    with pytest.raises(UsageError, match=said):
        butterfly(model, segments=segments, factors=factors)
    assert not any(isinstance(module, KSConv2d) for module in model.modules())
