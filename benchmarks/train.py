"""The table of ``lacewing bench train`` as a script: ResNet-20 against a plain loop, perceptrons in stacks.

    python benchmarks/train.py [--quick]

``--quick`` times one network, ours and the plain loop, in a window of ten seconds each, or more on a busy machine.
"""

from __future__ import annotations

import argparse

from lacewing.bench import _train, train
from lacewing.errors import UsageError


def rate(side: _train._Side) -> float:
    """Images/s in a window of ten seconds or, where the machine is too busy for one pass, of more."""
    for seconds in (10.0, 40.0):
        try:
            return _train._window(side, "cpu", seconds)
        except UsageError:
            continue
    return _train._window(side, "cpu", 160.0)


def quick() -> None:
    plain, ours = (next(s for s in _train._sides("cpu", 1) if s.loop == loop) for loop in ("plain", "lacewing"))
    rates = {side: rate(side) for side in (plain._replace(way="ready"), ours)}
    for side, speed in rates.items():
        print(f"{side.name('cpu'):<50}{speed:>8.0f} images/s")
    first, second = rates.values()
    print(f"ratio: {second / first:.2f}, lacewing / plain loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one network, a window each")
    if parser.parse_args().quick:
        quick()
    else:
        print(train())


if __name__ == "__main__":
    main()
