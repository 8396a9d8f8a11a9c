"""Does the interval of `lacewing.sets.usage` hold the share that was used? Simulated, a minute on one core.

    python benchmarks/usage.py [--quick]

``--quick`` does 5 of the 300 repeats.
"""

from __future__ import annotations

import argparse

import numpy as np

from lacewing.sets import Known, usage

N, KNOWN, REPEATS = 200, 400, 300
LEAK = 1.5  # shift of the scores at members, in standard deviations


def network(rng: np.random.Generator, n: int, share: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of n records of which a share are members; both means vary between networks by ``spread``."""
    member = rng.permutation(n) < round(share * n)
    shift = spread * rng.normal(size=2)
    return rng.normal(size=n) + (LEAK + shift[0]) * member + shift[1], member


def cell(networks: int, share: float, spread: float, repeats: int) -> tuple[float, float]:
    """How often the interval holds the share, and its mean width."""
    rng = np.random.default_rng([networks, int(10 * share), int(100 * spread)])
    held, width = 0, 0.0
    for _ in range(repeats):
        known = [Known(*network(rng, KNOWN, 0.5, spread)) for _ in range(networks)]
        found = usage(network(rng, N, share, spread)[0], known).share
        held += found.low <= share <= found.high
        width += (found.high - found.low) / repeats
    return held / repeats, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 repeats")
    repeats = 5 if parser.parse_args().quick else REPEATS
    print(f"95 % intervals, N = {N}, {repeats} repeats a cell: covers (width)")
    shares = (0.0, 0.1, 0.5, 1.0)
    print("known  spread  " + "  ".join(f"share {share:<7}" for share in shares))
    for networks in (1, 4, 8):
        for spread in (0.0, 0.15):
            cells = (cell(networks, share, spread, repeats) for share in shares)
            print(f"{networks:<6} {spread:<7} " + "  ".join(f"{held:.3f} ({width:.2f})" for held, width in cells))


if __name__ == "__main__":
    main()
