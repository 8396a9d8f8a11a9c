"""Signals: logits, sensitivity, fixed queries, noise and gradients, against closed forms and plain loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lacewing import gradients as of_records
from lacewing.errors import UsageError
from lacewing.signals import compact, gradient_norms, observe, probe


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def _softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _images(n=9):
    return np.random.default_rng(0).integers(0, 256, (n, 2, 4, 4)).astype(np.uint8)


NORMALISATION = (np.array([100, 120], np.float32), np.array([50, 80], np.float32))


def _network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(12, 4)
    )
    model(torch.randn(16, 2, 4, 4))  # statistics other than the initial ones
    return model


def _observed(model, x, wanted=None, **options):
    wanted = np.ones(len(x), bool) if wanted is None else wanted
    return observe(model, x, normalisation=NORMALISATION, sensitivity_of=wanted, **options)


def test_logits_are_those_of_the_network_in_evaluation_mode():
    model, x = _network(), _images()
    logits, _ = _observed(model, x, batch_size=4)
    inputs = (x - NORMALISATION[0][:, None, None]) / NORMALISATION[1][:, None, None]
    with torch.no_grad():
        wanted = model.eval()(torch.from_numpy(inputs.astype(np.float32)))
    np.testing.assert_allclose(logits, wanted, atol=1e-5)


def test_sensitivity_is_that_of_the_jacobian_for_small_noise():
    """For softmax(W x) and e -> 0 it is E||J N||, J = (diag p - p p^T) W: by Monte Carlo with numpy's own noise."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(3, 5)).astype(np.float32)
    model = nn.Linear(5, 3, bias=False).double()
    model.weight.data = torch.from_numpy(weight).double()

    class Double(nn.Module):  # in float64, so that rounding does not drown the small noise
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x.double())

    x = rng.normal(size=(6, 5)).astype(np.float32)
    draws = 800
    _, found = observe(
        Double(),
        x,
        normalisation=(np.zeros(5, np.float32), np.ones(5, np.float32)),
        sensitivity_of=np.ones(6, bool),
        noise=1e-2,
        draws=draws,
    )
    p = _softmax(x.astype(np.float64) @ weight.T.astype(np.float64))
    for record in range(6):
        jacobian = (np.diag(p[record]) - np.outer(p[record], p[record])) @ weight
        norms = np.linalg.norm(rng.normal(size=(20_000, 5)) @ jacobian.T, axis=1)
        error = norms.std() / math.sqrt(draws)
        assert found[record] == pytest.approx(norms.mean(), abs=5 * error + 0.01 * norms.mean())


def test_sensitivity_scales_by_neither_noise_nor_draws():
    model, x = _network(), _images()
    base = _observed(model, x, noise=1e-2, draws=200)[1]
    half = _observed(model, x, noise=5e-3, draws=200)[1]
    many = _observed(model, x, noise=1e-2, draws=400)[1]
    np.testing.assert_allclose(half, base, rtol=0.1)
    np.testing.assert_allclose(many, base, rtol=0.2)


def test_only_the_wanted_records_have_a_sensitivity_and_it_is_the_same():
    model, x = _network(), _images()
    wanted = np.arange(len(x)) % 3 == 0
    some, all_ = _observed(model, x, wanted)[1], _observed(model, x)[1]
    assert np.isnan(some[~wanted]).all()
    np.testing.assert_allclose(some[wanted], all_[wanted], rtol=1e-2)  # a batch of another size rounds otherwise
    assert np.isnan(_observed(model, x, np.zeros(len(x), bool))[1]).all()


@pytest.mark.parametrize("batch_size", [1, 7, 250, 1000])
def test_the_batch_size_changes_rounding_only(batch_size):
    """Across a block of noise (250 records), and with a noise so large that rounding does not count."""
    x = _images(260)
    model = _network()
    wanted = np.arange(260) > 240
    found, reference = (_observed(model, x, wanted, batch_size=b, noise=0.1, draws=2) for b in (batch_size, 31))
    np.testing.assert_allclose(found[0], reference[0], atol=1e-5)
    np.testing.assert_allclose(found[1], reference[1], rtol=1e-3)


def test_queries_are_the_same_each_time_whatever_ran_before():
    model, x = _network(), _images()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = _observed(model, x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    for a, b in zip(first, _observed(model, x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mode_buffers_and_precision_settings_stay_as_they_were():
    model = _network()
    model[1].eval()  # a frozen batch norm inside a network in training
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    _observed(model, _images())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_an_ambient_autocast_does_not_reach_the_queries():
    model, x = _network(), _images()
    plain = _observed(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        inside = _observed(model, x)
    for a, b in zip(plain, inside, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scale", [1, 30, 1e5])
def test_compact_logits_keep_softmax_and_the_predicted_class(scale):
    logits = (np.random.default_rng(0).normal(size=(200, 10)) * scale + 1e3).astype(np.float32)
    stored = compact(logits)
    assert stored.dtype == np.float16
    assert np.isfinite(stored).all()
    assert (stored.max(1) == 0).all()
    np.testing.assert_array_equal(stored.argmax(1), logits.argmax(1))
    np.testing.assert_allclose(_softmax(stored.astype(np.float64)), _softmax(logits.astype(np.float64)), atol=2e-3)


LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0])


def _probed(model, x, y=LABELS, wanted=None, normalisation=NORMALISATION, **options):
    wanted = np.ones(len(x), bool) if wanted is None else wanted
    return probe(model, x, y, normalisation=normalisation, of=wanted, **options)


def _shifted(images, down, right):
    """By numpy: what moves in is zero."""
    moved = np.roll(images, (down, right), axis=(2, 3))
    rows, columns = np.indices(images.shape[2:])
    height, width = images.shape[2:]
    moved[:, :, (rows - down < 0) | (rows - down >= height) | (columns - right < 0) | (columns - right >= width)] = 0
    return moved


def _log_odds(logits, y):
    p = _softmax(logits.astype(np.float64))[np.arange(len(y)), y]
    return np.log(p) - np.log1p(-p)


def test_queries_of_an_image_are_mirrored_and_shifted_in_the_documented_order():
    model, x = _network().eval(), _images()
    found = _probed(model, x, queries=18, gradients=False, noise_draws=1)
    inputs = ((x - NORMALISATION[0][:, None, None]) / NORMALISATION[1][:, None, None]).astype(np.float32)
    shifts = [(2, 2), (-2, -2), (2, -2), (-2, 2), (2, 0), (-2, 0), (0, 2), (0, -2)]
    mirrored = inputs[:, :, :, ::-1]
    variants = [inputs, mirrored, *(_shifted(images, *s) for images in (inputs, mirrored) for s in shifts)]
    for query, variant in enumerate(variants):
        with torch.no_grad():
            logits = model(torch.from_numpy(variant.copy())).numpy()
        np.testing.assert_allclose(found.phi_NQ[:, query], _log_odds(logits, LABELS), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found.right_NQ[:, query], logits.argmax(1) == LABELS)
    few = _probed(model, x, queries=3, gradients=False)
    np.testing.assert_array_equal(few.phi_NQ, found.phi_NQ[:, :3])
    with pytest.raises(UsageError, match="queries = 19"):
        _probed(model, x, queries=19)


class Echo(nn.Module):
    """A network whose logits are what it was asked; it keeps the questions."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x):
        self.asked.append(x.clone())
        return x


class Counting(nn.Module):
    """A network of three classes that keeps how many records it saw at once."""

    def __init__(self, features):
        super().__init__()
        self.layer, self.seen = nn.Linear(features, 3), []

    def forward(self, x):
        self.seen.append(len(x))
        return self.layer(x.flatten(1))


@pytest.mark.parametrize(
    ("shape", "most"), [((3, 32, 32), 50), ((1, 8, 8), 250), ((10,), 250), ((3, 64, 64), 12), ((3, 128, 128), 8)]
)
def test_on_a_cpu_large_records_are_seen_few_at_once(shape, most):
    x = np.random.default_rng(0).normal(size=(300, *shape)).astype(np.float32)
    normalisation = np.zeros(shape[0], np.float32), np.ones(shape[0], np.float32)
    model, none = Counting(math.prod(shape)), np.zeros(300, bool)
    found, _ = observe(model, x, normalisation=normalisation, sensitivity_of=none)
    assert max(model.seen) == most
    asked, _ = observe(model, x, normalisation=normalisation, sensitivity_of=none, batch_size=31)
    assert max(model.seen[-10:]) == 31
    np.testing.assert_allclose(found, asked, rtol=1e-4, atol=1e-5)
    probe(model, x, np.zeros(300, int), normalisation=normalisation, of=none, queries=1, gradients=False)
    assert max(model.seen[-2:]) <= most


@pytest.mark.parametrize("images", [True, False])
def test_what_is_asked_apart_is_what_is_asked_together(images):
    x = _images() if images else np.random.default_rng(0).normal(size=(9, 12)).astype(np.float32)
    model = _network() if images else nn.Sequential(nn.Linear(12, 4))
    normalisation = NORMALISATION if images else (np.zeros(12, np.float32), np.ones(12, np.float32))
    together = _probed(model, x, normalisation=normalisation, queries=2)
    queries = _probed(model, x, normalisation=normalisation, queries=2, noise_sizes=(), gradients=False)
    noise = _probed(model, x, normalisation=normalisation, queries=0, gradients=False)
    gradients = _probed(model, x, normalisation=normalisation, queries=0, noise_sizes=())
    np.testing.assert_array_equal(queries.phi_NQ, together.phi_NQ)
    np.testing.assert_array_equal(queries.right_NQ, together.right_NQ)
    np.testing.assert_array_equal(noise.right_NS, together.right_NS)
    np.testing.assert_array_equal(gradients.gradient_N2, together.gradient_N2)
    assert noise.phi_NQ.shape == gradients.right_NQ.shape == (9, 0)


def test_queries_of_a_table_flip_bits_and_move_numbers_alike_for_every_record():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.integers(0, 2, (20, 100)), rng.normal(5, 3, (20, 50))], axis=1).astype(np.float32)
    mean = np.where(np.arange(150) < 100, 0, 5).astype(np.float32)
    std = np.where(np.arange(150) < 100, 1, 3).astype(np.float32)
    model = Echo()
    _probed(model, x, np.zeros(20, int), np.zeros(20, bool), (mean, std), queries=3, gradients=False)
    record, *others = (asked.numpy() for asked in model.asked)
    np.testing.assert_allclose(record, (x - mean) / std, atol=1e-6)
    assert len(others) == 2
    for other in others:
        flipped = other[:, :100] != x[:, :100]
        assert (flipped == flipped[0]).all()
        assert flipped[0].sum() == 2
        assert np.isin(other[:, :100], (0, 1)).all()
        moved = other[:, 100:] - record[:, 100:]
        np.testing.assert_allclose(moved, moved[[0]].repeat(20, 0), atol=1e-6)
        assert 0.05 < moved[0].std() < 0.2
    assert (others[0] != others[1]).any()


def test_a_query_of_a_record_does_not_depend_on_the_other_records():
    x = np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32)
    torch.manual_seed(1)
    model, y, unit = nn.Linear(6, 3), np.arange(30) % 3, (np.zeros(6, np.float32), np.ones(6, np.float32))
    whole = _probed(model, x, y, normalisation=unit, gradients=False)
    part = _probed(model, x[::-2].copy(), y[::-2], normalisation=unit, gradients=False)
    np.testing.assert_allclose(part.phi_NQ, whole.phi_NQ[::-2], atol=1e-5)


def test_noise_has_the_stated_size_and_rounds_bits_with_the_probability_of_crossing():
    """Answers of a sign function are right with probability Phi(1/s) at distance 1, a bit stays with Phi(1/(2s))."""
    n = 2000
    sizes = (0.5, 1.0, 2.0)

    class Sign(nn.Module):
        def forward(self, x):
            return torch.stack([torch.zeros(len(x)), x[:, 0] - self.border], 1)

    def share(values, border):
        model = Sign()
        model.border = border
        wanted, unit = np.ones(n, bool), (np.zeros(1, np.float32), np.ones(1, np.float32))
        x = np.full((n, 1), values, np.float32)
        found = _probed(model, x, np.ones(n, int), wanted, unit, gradients=False, noise_sizes=sizes, noise_draws=5)
        return found.right_NS.mean(0)

    normal = [0.5 * math.erfc(-1 / (size * math.sqrt(2))) for size in sizes]
    bit = [0.5 * math.erfc(-0.5 / (size * math.sqrt(2))) for size in sizes]
    np.testing.assert_allclose(share(3, 2), normal, atol=0.02)
    np.testing.assert_allclose(share(1, 0.5), bit, atol=0.02)


class Unmappable(nn.Module):
    """Branches on its input, which vmap refuses."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) if x.sum() > 1e9 else self.inner(x) * 1.0


@pytest.mark.parametrize("wrap", [lambda m: m, Unmappable], ids=["vmap", "loop"])
@pytest.mark.parametrize("batch_size", [1, 4, 250])
def test_gradient_norms_are_those_of_autograd_for_each_record(wrap, batch_size, monkeypatch):
    looped = []
    loop = of_records._looped
    monkeypatch.setattr(of_records, "_looped", lambda *a: looped.append(1) or loop(*a))
    model = wrap(_network()).eval()
    inputs, labels = torch.randn(9, 2, 4, 4), torch.from_numpy(LABELS)
    masks = {n: torch.rand(p.shape) < 0.4 for n, p in model.named_parameters() if p.ndim > 1}
    found = gradient_norms(model, inputs, labels, masks=masks, batch_size=batch_size)
    assert len(looped) == (9 if wrap is Unmappable else 0)
    for record in range(9):
        loss = nn.functional.cross_entropy(model(inputs[record : record + 1]), labels[record : record + 1])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        kept = pruned = 0.0
        for (name, _), g in zip(model.named_parameters(), gradients, strict=True):
            keep = masks.get(name, torch.ones_like(g, dtype=torch.bool))
            kept, pruned = kept + float(g[keep].square().sum()), pruned + float(g[~keep].square().sum())
        np.testing.assert_allclose(found[record], [math.sqrt(kept), math.sqrt(pruned)], rtol=1e-5)


def test_a_mask_of_another_model_is_refused():
    with pytest.raises(UsageError, match=r"'9\.weight'"):
        gradient_norms(_network(), torch.zeros(1, 2, 4, 4), torch.tensor([0]), masks={"9.weight": torch.ones(3) > 0})


def test_probes_are_deterministic_partial_and_independent_of_the_batch_size():
    model, x = _network(), _images(260)
    y, wanted = np.arange(260) % 4, np.arange(260) > 240
    some, again = (_probed(model, x, y, wanted, batch_size=b) for b in (250, 250))
    for a, b in zip(vars(some).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isnan(some.right_NS[~wanted]).all()
    assert np.isnan(some.gradient_N2[~wanted]).all()
    assert np.isfinite(some.phi_NQ).all()
    whole = _probed(model, x, y, batch_size=7)
    np.testing.assert_allclose(whole.phi_NQ, some.phi_NQ, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(whole.right_NS[wanted], some.right_NS[wanted])
    np.testing.assert_allclose(whole.gradient_N2[wanted], some.gradient_N2[wanted], rtol=1e-3, atol=1e-6)


def test_probes_leave_the_network_and_the_random_state_as_they_were():
    model = _network()
    model[1].eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    _probed(model, _images())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_labels_beyond_the_outputs_and_other_shapes_are_refused():
    with pytest.raises(UsageError, match="labels that are not classes"):
        _probed(_network(), _images(), LABELS + 1)
    with pytest.raises(UsageError, match=r"\(9, 2, 4\)"):
        _probed(_network(), _images()[..., 0])


def test_weights_that_hooks_compute_are_left_as_they_were():
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.utils.prune.l1_unstructured(model[0], "weight", 0.5)
    before = model[0].weight.detach().clone()
    gradient_norms(model, torch.randn(6, 5), torch.zeros(6, dtype=torch.long))
    assert model[0].weight.detach().numpy() == pytest.approx(before.numpy())  # a tensor of vmap gives no array
