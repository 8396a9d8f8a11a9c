"""Do the published intervals hold, and how often is a verdict false? Simulated studies of the shapes that we ship.

    python benchmarks/coverage.py [--quick] [--studies 2000] [--only slopes]

Prints one table in Markdown. Every study is drawn with a known truth (benchmarks/simulations), handed to the functions
of the package that make the published numbers, and what they say is held against the truth. A star marks a figure that
lies outside its wanted range by more than two Monte-Carlo standard errors.

``--quick`` simulates fewer cells and studies and exits with 1 if a figure lies outside by more than four standard
errors, or more than 5 % of verdicts are false on average.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from simulations import families, over_records, over_seeds, rates
from simulations.figures import Figure, average, summary, table

Part = Callable[[int, tuple[int, ...], bool], Iterator[Figure]]
PARTS: Mapping[str, Part] = {
    "slopes": over_seeds.slopes,
    "means": over_seeds.means,
    "powers": over_seeds.powers,
    "equal": families.equal,
    "folds": families.folds,
    "declared": families.declared,
    "one-network": rates.one_network,
    "two-networks": rates.two_networks,
    "slopes-over-records": over_records.slopes,
    "paired-over-records": over_records.paired,
}
SEEDS, QUICK_SEEDS = (3, 5, 8, 16), (3, 8)
STUDIES, QUICK_STUDIES = 2000, 300
ERRORS, QUICK_ERRORS = 2.0, 4.0
AVERAGE = 0.05  # of false verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cells and studies; exit 1 if a figure is outside")
    parser.add_argument("--studies", type=int, help="simulated studies a cell")
    parser.add_argument("--only", choices=PARTS, help="one part of the table")
    asked = parser.parse_args()
    studies = asked.studies or (QUICK_STUDIES if asked.quick else STUDIES)
    seeds, errors = (QUICK_SEEDS, QUICK_ERRORS) if asked.quick else (SEEDS, ERRORS)
    figures: list[Figure] = []
    for name in [asked.only] if asked.only else PARTS:
        start = time.process_time()
        figures += PARTS[name](studies, seeds, asked.quick)
        print(f"{name}: {time.process_time() - start:.0f} s of processor time", file=sys.stderr)
    print(table(figures, errors))
    print(f"\n{studies:,} studies a cell. {summary(figures, errors)}")
    return int(asked.quick and (any(f.outside(errors) for f in figures) or average(figures) > AVERAGE))


if __name__ == "__main__":
    sys.exit(main())
