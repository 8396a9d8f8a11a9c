"""Chains and products of factors that the tests of projection share."""

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from lacewing.sparsify import Chain, project

CHAINS = {
    "one factor": Chain([(2, 3, 4, 2)]),
    "Monarch": Chain.monarch(12, 24),
    "butterfly of radix 2": Chain.butterfly(16),
    "radix 3": Chain.butterfly(27, 3),
    "rank 2": Chain([(1, 4, 8, 4), (4, 8, 6, 1)]),
    "ranks 2 and 3": Chain([(1, 4, 4, 4), (2, 4, 6, 2), (4, 6, 5, 1)]),
    "wide, three factors": Chain.cheapest(16, 72, 3),
    "tall, three factors": Chain.cheapest(72, 16, 3),
    "a waist": Chain.cheapest(16, 36, 2, monotone=False),
    "a rank above what blocks can have": Chain([(1, 2, 4, 2), (1, 8, 3, 1)]),
    "without full support": Chain([(2, 3, 2, 4), (4, 2, 3, 2)]),
}
TWO = [name for name, chain in CHAINS.items() if len(chain.patterns) == 2]
FULL = [name for name in CHAINS if name not in ("one factor", "without full support")]
names = pytest.mark.parametrize("name", CHAINS)


@st.composite
def chains(draw):
    """Two to four factors, any ranks, with or without full support."""

    def divisor(n):
        return draw(st.sampled_from([m for m in range(1, n + 1) if n % m == 0]))

    numbers, d = st.integers(1, 4), draw(st.sampled_from([1, 2, 4, 6]))
    chain = [(draw(st.integers(1, 2)), draw(numbers), draw(numbers), d)]
    for _ in range(draw(st.integers(1, 3))):
        a, _, c, d = chain[-1]
        rank, after = divisor(c), divisor(d)
        chain.append((a * c // rank, rank * d // after, draw(numbers), after))
    return Chain(chain)


def random_matrix(*shape):
    return torch.randn(shape, dtype=torch.float64)


def random_factors(chain, groups=1):
    return [random_matrix(groups * p.a, p.b, p.c, p.d) for p in chain.patterns]


def product_by_numpy(chain, factors, groups=1):
    """The products of all groups, one at a time, by numpy: shape (groups, rows, columns)."""
    each = [[f.numpy().reshape(groups, -1, *f.shape[1:])[g] for f in factors] for g in range(groups)]
    return np.stack([chain.dense(own) for own in each])


def projected(matrix, chain):
    return chain.dense(project(matrix, chain))


def assert_same(found, wanted, tolerance=1e-12):
    found, wanted = np.asarray(found), np.asarray(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(1e-300, float(np.abs(wanted).max())))


def bits_reversed(size):
    bits = size.bit_length() - 1
    return [int(f"{n:0{bits}b}"[::-1], 2) for n in range(size)]
