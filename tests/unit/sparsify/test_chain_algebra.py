"""Products of factors and fused pairs, against Kronecker sums and support matrices."""

import numpy as np
import pytest
import torch

from lacewing.errors import UsageError
from lacewing.sparsify.chain import Chain

torch.set_num_threads(1)


def random_chain(seed):
    """One to four factors with numbers of 1 to 8, any rank, with or without full support."""
    rng = np.random.default_rng(seed)
    a, b, c, d = (
        int(n) for n in (rng.integers(1, 3), rng.integers(1, 5), rng.integers(1, 5), rng.choice([1, 2, 4, 6]))
    )
    chain = [(a, b, c, d)]
    for _ in range(rng.integers(0, 4)):
        rank = int(rng.choice([n for n in range(1, c + 1) if c % n == 0]))
        right_d = int(rng.choice([n for n in range(1, d + 1) if d % n == 0]))
        a, b, c, d = a * c // rank, rank * d // right_d, int(rng.integers(1, 5)), right_d
        chain.append((a, b, c, d))
    return Chain(chain)


def _kronecker(factor):
    """The sum over i and k of e_i e_i' (x) factor[i, :, :, k] (x) e_k e_k'."""
    a, _, _, d = factor.shape
    return sum(
        np.kron(np.diag(np.eye(a)[i]), np.kron(factor[i, :, :, k], np.diag(np.eye(d)[k])))
        for i in range(a)
        for k in range(d)
    )


@pytest.mark.parametrize("seed", range(100))
def test_dense_is_the_product_of_kronecker_sums(seed):
    chain, rng = random_chain(seed), np.random.default_rng(seed)
    factors = [rng.normal(size=p) for p in chain.patterns]
    expected = np.linalg.multi_dot([np.eye(chain.shape[0]), *map(_kronecker, factors)])
    found = chain.dense(factors)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, atol=1e-12)

    tensors = [torch.tensor(f, requires_grad=True) for f in factors]
    product = chain.dense(tensors)
    np.testing.assert_allclose(product.detach().numpy(), expected, atol=1e-12)
    loss = (product * torch.tensor(rng.normal(size=chain.shape))).sum()
    loss.backward()
    for tensor in tensors:  # Euler: the product is linear in each factor
        torch.testing.assert_close((tensor * tensor.grad).sum(), loss, rtol=1e-9, atol=1e-9)


def test_dense_keeps_the_type_of_its_factors():
    chain = Chain.monarch(6, 9)
    singles = [np.ones(p, dtype=np.float32) for p in chain.patterns]
    assert chain.dense(singles).dtype == np.float32
    assert chain.dense([torch.from_numpy(f) for f in singles]).dtype == torch.float32


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ([(1, 4, 4, 4)], "the chain has 2 factors, and 1 were given"),
        ([(1, 4, 4, 4), (4, 4, 4)], r"factor 2 has shape \(4, 4, 4\); the chain has \(4, 4, 4, 1\)"),
        ([(1, 4, 4, 1), (4, 4, 4, 1)], r"factor 1 has shape \(1, 4, 4, 1\)"),
    ],
)
@pytest.mark.parametrize("ones", [np.ones, torch.ones])
def test_dense_names_the_factor_of_another_shape(shapes, said, ones):
    with pytest.raises(UsageError, match=said):
        Chain.monarch(16, 16).dense([ones(shape) for shape in shapes])


@pytest.mark.parametrize("seed", range(60))
def test_fusing_any_pair_keeps_shape_and_support(seed):
    chain = random_chain(seed)
    support = chain.dense([np.ones(p) for p in chain.patterns]) > 0
    for place in range(len(chain.patterns) - 1):
        fused = chain.fuse(place)
        assert fused.shape == chain.shape
        pair = chain.patterns[place].support().astype(int) @ chain.patterns[place + 1].support().astype(int)
        np.testing.assert_array_equal(fused.patterns[place].support(), pair > 0)
        assert (
            fused.patterns[:place] + fused.patterns[place + 1 :] == chain.patterns[:place] + chain.patterns[place + 2 :]
        )
        np.testing.assert_array_equal(fused.dense([np.ones(p) for p in fused.patterns]) > 0, support)


@pytest.mark.parametrize(("place", "said"), [(-1, "give 0 to 1"), (2, "no factors 2 and 3 .* give 0 to 1")])
def test_fuse_names_the_pairs_there_are(place, said):
    with pytest.raises(UsageError, match=said):
        Chain.butterfly(8).fuse(place)
    with pytest.raises(UsageError, match="nothing to fuse"):
        Chain([(1, 2, 2, 1)]).fuse(0)
