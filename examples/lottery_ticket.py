"""Make your own network sparse: iterative magnitude pruning with rewinding, and butterfly layers.

    python examples/lottery_ticket.py            # ten seconds or so on two cores: 6 levels of pruning
    python examples/lottery_ticket.py --small    # seconds

A plain torch CNN on handwritten digits (real scans in scikit-learn) and its own training loop. Pruning needs three
more lines in the loop, which are marked. The pruned network at each density is compared with a control: the same number
of weights in every layer, at random positions. The difference is the effect of the mask.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lacewing.sparsify import Guard, butterfly, controls, imp, summary

SMALL = {"levels": 2, "epochs": 4}
Fit = Callable[[nn.Module, Guard], None]


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels (1,200), test images and labels (597); images (N, 1, 8, 8) in 0..1."""
    x, y = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order].view(-1, 1, 8, 8).float() / 16, y[order]
    return x[:1200], y[:1200], x[1200:], y[1200:]


def network() -> nn.Module:
    """A CNN of 43,000 parameters, always from the same initialisation."""
    torch.manual_seed(1)
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def training(x: Tensor, y: Tensor, epochs: int) -> Fit:
    """Your own training loop, as a function of the model and its guard."""

    def fit(model: nn.Module, guard: Guard) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        guard.attach(optimizer)  # 1: what is pruned stays at zero
        model.train()
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(50):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
            schedule.step()
            guard.epoch_end()  # 2: the end of epoch 1 is where pruning rewinds to

    return fit


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of images whose label the model finds."""
    return (model.eval()(x).argmax(1) == y).float().mean().item()


def main(levels: int = 6, epochs: int = 10) -> Iterator[tuple[str, float, float]]:
    """Train, prune, rewind, train again; print and yield what (name, density, test accuracy) each network has."""
    x, y, test_x, test_y = digits()
    fit = training(x, y, epochs)

    def row(name: str, model: nn.Module, density: float) -> tuple[str, float, float]:
        found = name, density, accuracy(model, test_x, test_y)
        print(f"{name:<14} density {density:>7.2%}   test accuracy {found[2]:.3f}")
        return found

    model = network()
    for level in imp(model, fit, levels=levels, fraction=0.45):  # 3: instead of fit(model)
        density = summary(model, level.masks).density
        yield row(f"level {level.number}", model, density)
        if level.number:
            control = network()
            fit(control, Guard(control, masks=controls.random_mask(level.masks, seed=level.number)))
            yield row("random mask", control, density)

    model = network()
    done = butterfly(model, density=0.15)
    fit(model, Guard(model))
    yield row("butterfly", model, done.summary.density)
    print(done)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="fewer levels and epochs: seconds")
    for _ in main(**SMALL if parser.parse_args().small else {}):
        pass
