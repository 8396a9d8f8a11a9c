"""The table of ``lacewing bench train`` as a script: ResNet-20 against a plain loop, perceptrons in stacks.

    python benchmarks/train.py [--quick]

``--quick`` times one network, ours and the plain loop, in a window of ten seconds each.
"""

from __future__ import annotations

import argparse

from lacewing.bench import _train, train


def quick() -> None:
    plain, ours = (next(s for s in _train._sides("cpu", 1) if s.loop == loop) for loop in ("plain", "lacewing"))
    rates = {side: _train._window(side, "cpu", 10.0) for side in (plain._replace(way="ready"), ours)}
    for side, rate in rates.items():
        print(f"{side.name('cpu'):<50}{rate:>8.0f} images/s")
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
