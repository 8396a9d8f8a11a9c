"""The conformance table: what every attack finds where something is planted, and in 200 nulls.

    python tests/conformance/table.py

Prints one table in Markdown (docs/attacks/conformance.md). It takes about ten minutes of one core.
"""

from __future__ import annotations

import test_attacks as drawn
import test_measured as measured
import test_reconstruction as rebuilt

from lacewing.attacks import ATTACKS, perform


def main() -> None:
    for module, name, value in drawn.SMALL:
        setattr(module, name, value)
    measured.small()
    print("| attack | planted: AUC | AUC, of 200 nulls | decisions, of 200 nulls |\n|---|---|---|---|")
    for name in ATTACKS:
        auc = perform(ATTACKS[name], drawn.world(1, leak=4.0, n=300), drawn.NETWORK, seed=0).metrics["auc"]
        assert auc is not None
        print("|", " | ".join([f"`{name}`", auc.text(), *map(str, drawn.misses(name, drawn.REPEATS))]), "|", flush=True)
    print("\n| on networks, and of sets | planted: found | found, of 200 nulls |\n|---|---|---|")
    for module, attribute, value in rebuilt.SMALL:
        setattr(module, attribute, value)
    for name, found in {**measured.ROWS, **rebuilt.ROWS}.items():
        hits = sum(found(seed, False) for seed in range(measured.REPEATS))
        print(f"| {name} | {'yes' if found(0, True) else 'NO'} | {hits} |", flush=True)


if __name__ == "__main__":
    main()
