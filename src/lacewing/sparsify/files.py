"""``lacewing sparsify``: load a model and its weights, make it sparse without training, and write it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lacewing.errors import UsageError, did_you_mean
from lacewing.models._weights import load_weights
from lacewing.support import numbers
from lacewing.support.files import write_atomically
from lacewing.support.loading import load_function
from lacewing.support.user_code import user_code

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lacewing.sparsify import Masks, Summary
    from lacewing.sparsify._prune import Score

Method = Literal["magnitude", "random", "butterfly"]
METHODS = ("magnitude", "random", "butterfly")
MOST_AXES, MOST_VALUES, MOST_CLASSES = 8, 2**24, 100_000
LAYERS = ("all", "linear", "conv")
SCOPES = ("global", "per-layer", "erk")


@dataclass(frozen=True)
class Sparsified:
    """The result: sizes and densities of each layer, and the relative change of its weight's norm."""

    method: str
    summary: Summary
    written: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """The document that ``--json`` prints."""
        files = [str(path) for path in self.written]
        return {"schema": 1, "method": self.method, **self.summary.as_dict(), "written": files}

    def __str__(self) -> str:
        return "\n".join([str(self.summary), *(f"written: {path}" for path in self.written)])


def sparsify_files(
    *,
    model: str,
    weights: Path | None,
    to: Path,
    method: str = "magnitude",
    density: float | None = None,
    pattern: str | None = None,
    scope: str = "global",
    ignore: Sequence[str] = (),
    factors: int | None = None,
    layers: str = "all",
    parts_to: Path | None = None,
    shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    seed: int = 0,
) -> Sparsified:
    """Make a model sparse and write it as an ordinary checkpoint: zeros in place, butterfly factors composed.

    Args:
        model: "package.module:factory", called without arguments or, where ``shape`` and ``classes`` are given, as
            ``factory(shape, classes)``.
        weights: the state_dict, .safetensors or .pt; the factory's own initialisation if not given.
        to: the .safetensors file to write; the same factory loads it.
        method: "magnitude" or "random" (pruning), or "butterfly" (projection onto chains of factors).
        density: target share of parameters kept: stored parameters / all parameters.
        pattern: instead of ``density``, such as "2:4": keep two of every four weights along the inputs.
        scope: for pruning by density: "global", "per-layer" or "erk".
        ignore: layers to leave dense.
        factors: for butterfly: number of factors per chain.
        layers: for butterfly: which kind of layer is replaced: "all", "linear" or "conv".
        parts_to: also write the masks (eight weights per byte), or the state_dict with the factors.
        seed: of the factory's initialisation and of random scores.

    Raises:
        UsageError: the options are wrong or do not fit the model; the message names the option.
        OSError: a file cannot be written.
    """
    import torch
    from safetensors.torch import save

    from lacewing import sparsify as sp
    from lacewing.sparsify.masks import pack

    _check(to, parts_to, method, density, pattern, scope, factors, layers)
    seed = numbers.seed(seed, "--seed")
    torch.manual_seed(seed)
    network = _built(model, shape, classes)
    if weights is not None:
        load_weights(network, weights)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if method == "butterfly":
        assert density is not None
        done = sp.butterfly(network, density=density, factors=factors, ignore=ignore, layers=layers, projected=True)  # type: ignore[arg-type]
        parts, state = dict(network.state_dict()), sp.composed_state(network)
        made = {layer.name: layer for layer in done.summary.layers if layer.name not in done.dense}
        notes = done.dense | {
            name: f"{layer.note}, {_changed(before, state, _composed(name))}" for name, layer in made.items()
        }
        summary = sp.summary(network, notes=notes)
    else:
        masks = _pruned(
            network, sp.random(seed) if method == "random" else sp.magnitude, density, pattern, scope, ignore
        )
        parts, state = pack(masks), dict(network.state_dict())
        summary = sp.summary(network, masks, notes={name: _changed(before, state, name) for name in masks})
    metadata = {"method": method, "density": repr(summary.density)}
    written = [(to, state)] + ([(parts_to, parts)] if parts_to is not None else [])
    for path, tensors in written:
        write_atomically(path, save({name: t.contiguous().clone() for name, t in tensors.items()}, metadata))
    return Sparsified(method, summary, tuple(path for path, _ in written))


def _pruned(
    network: nn.Module,
    score: Score,
    density: float | None,
    pattern: str | None,
    scope: str,
    ignore: Sequence[str],
) -> Masks:
    """Prune the network in place, to a pattern or a density; returns its masks."""
    from lacewing import sparsify as sp

    if pattern is not None:
        n, m = _pattern(pattern)
        masks = sp.n_of_m(network, n, m, score=score, ignore=ignore)
    else:
        masks = sp.prune(network, density=density, score=score, scope=scope, ignore=ignore)  # type: ignore[arg-type]
    sp.apply_masks(network, masks)
    return masks


def _check(
    to: Path,
    parts_to: Path | None,
    method: str,
    density: float | None,
    pattern: str | None,
    scope: str,
    factors: int | None,
    layers: str,
) -> None:
    """Check the options before anything is loaded."""
    for option, path in (("--to", to), ("--parts-to", parts_to)):
        if path is not None and path.suffix != ".safetensors":
            raise UsageError(f"{option} {path}: the file must end in .safetensors.")
    if to == parts_to:
        raise UsageError(f"--to and --parts-to both name {to}; give two files.")
    if method not in METHODS:
        raise UsageError(f"--method: unknown method '{method}'; {did_you_mean(method, METHODS)}")
    if scope not in SCOPES:
        raise UsageError(f"--scope: unknown scope '{scope}'; {did_you_mean(scope, SCOPES)}")
    if layers not in LAYERS:
        raise UsageError(f"--layers: unknown kind '{layers}'; {did_you_mean(layers, LAYERS)}")
    if (density is None) == (pattern is None):
        raise UsageError("give either --density 0.1 or --pattern 2:4.")
    if density is not None and not 0 < density <= 1:
        raise UsageError(f"--density {density:g} must lie between 0 and 1.")
    if factors is not None:
        numbers.whole("--factors", factors, 2, 8, why="the search for longer chains takes too long")
    if pattern is not None:
        _pattern(pattern)
    given = {
        "--pattern": (pattern is not None, method != "butterfly"),
        "--scope": (scope != "global", method != "butterfly" and pattern is None),
        "--factors": (factors is not None, method == "butterfly"),
        "--layers": (layers != "all", method == "butterfly"),
    }
    for option, (is_given, fits) in given.items():
        if is_given and not fits:
            raise UsageError(f"{option} does not apply to this method and these options; leave it out.")


def _pattern(text: str) -> tuple[int, int]:
    n, colon, m = text.partition(":")
    if not (colon and re.fullmatch(r"[0-9]{1,4}", n) and re.fullmatch(r"[0-9]{1,4}", m) and 0 < int(n) < int(m)):
        raise UsageError(f"--pattern {text[:20]!r} must have the form N:M with 1 <= N < M <= 9999, e.g. 2:4.")
    return int(n), int(m)


def _built(model: str, shape: tuple[int, ...] | None, classes: int | None) -> nn.Module:
    from torch import nn

    if (shape is None) != (classes is None):
        raise UsageError("--shape and --classes go together: give both or neither.")
    if shape is not None:
        if len(shape) > MOST_AXES or math.prod(shape) > MOST_VALUES:
            raise UsageError(
                f"--shape {','.join(map(str, shape))[:40]}: at most {MOST_AXES} numbers with a product of at most "
                f"{MOST_VALUES:,}, so that a record fits into memory."
            )
        numbers.whole("--classes", classes, 1, MOST_CLASSES, why="the number of outputs")
    factory = load_function(model, "--model")
    arguments = () if shape is None else (shape, classes)
    mend = "; if it needs the shape of a record and the number of classes, give --shape and --classes"
    with user_code(f"--model: {model}", "" if arguments else mend):
        network = factory(*arguments)
    if not isinstance(network, nn.Module):
        raise UsageError(f"--model: {model} returned a {type(network).__name__}; it must return a torch.nn.Module.")
    return network


def _composed(layer: str) -> str:
    """Name in the plain network of the weight that a butterfly layer stands for."""
    return f"{layer}_weight" if layer.endswith("in_proj") else f"{layer}.weight"


def _changed(before: dict[str, Tensor], after: dict[str, Tensor], name: str) -> str:
    """The change of a weight, relative to its norm."""
    norm = before[name].norm()
    share = float((after[name] - before[name]).norm() / norm) if norm > 0 else 0.0
    return f"changed by {share:.1%} of its norm"
