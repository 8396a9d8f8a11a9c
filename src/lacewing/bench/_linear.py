"""Square linear layers: dense, butterfly and pruned, each by every way of multiplying that this machine has.

Weights of one setting have the same density, that of the chain. Every way gets its input as its kernel wants it:
torch's layers and ours (records, features), the sparse formats (features, records). None has a bias.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lacewing.bench._machine import Machine
from lacewing.bench._measure import DTYPES, Cost, Function, bytes_of, interleaved, peak_bytes, silent
from lacewing.errors import UsageError
from lacewing.sparsify import use_backend
from lacewing.sparsify.chain import Chain
from lacewing.sparsify.layers import KSLinear
from lacewing.tradeoff import BUTTERFLY

DENSE, FACTORS = "dense", "butterfly: factor by factor"
PASSES = ("forward", "forward + backward")
BLOCK = 16  # of BSR


@dataclass(frozen=True)
class Setting:
    """One cell of the table."""

    n: int
    batch: int
    dtype: str
    device: str
    chain: Chain

    def random(self, *shape: int) -> Tensor:
        """Standard normal, of this dtype, here."""
        return torch.randn(shape, device=self.device, dtype=DTYPES[self.dtype])

    def weight(self, blocks: int = 1) -> Tensor:
        """A matrix of the chain's density, of the variance of 1/n a row: zeros at random, in square blocks."""
        side = self.n // blocks
        kept = max(1, round(self.chain.density * side**2))
        mask = torch.zeros(side**2, device=self.device)
        mask[torch.randperm(side**2, device=self.device)[:kept]] = 1
        whole = mask.view(side, 1, side, 1).expand(side, blocks, side, blocks).reshape(self.n, self.n)
        weight: Tensor = self.random(self.n, self.n) * whole / (self.chain.density * self.n) ** 0.5
        return weight.to(DTYPES[self.dtype])


@dataclass(frozen=True)
class Way:
    """A way to multiply, made ready.

    Attributes:
        multiply: from the input to the output.
        x: the input, as ``multiply`` wants it.
        parameters: tensors that training would move; none: the way has no gradient.
        matrix: what it multiplies by, (n, n), to be checked against.
        flops, moved: of a forward pass, counted: multiplications and additions; bytes if each number moves once.
        stored: bytes of the weights.
        columns: whether input and output are (features, records).
    """

    multiply: Callable[[Any], Any]
    x: Any
    parameters: Sequence[Tensor]
    matrix: Tensor
    flops: float
    moved: float
    stored: int
    columns: bool = False


@dataclass(frozen=True)
class LayerRow:
    """A line of the table; ``missing`` says why there is no time. Times in seconds, ``ratio`` to dense."""

    n: int
    batch: int
    dtype: str
    passes: str
    way: str
    family: str  # dense, butterfly or pruned
    density: float
    median: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    of_roofline: float | None = None
    weights_bytes: int | None = None
    peak_bytes: int | None = None
    missing: str | None = None


class Missing(Exception):
    """Says why a way of multiplying is not available here."""


def measure(machine: Machine, settings: Sequence[Setting], seconds: float) -> Iterator[list[LayerRow]]:
    """The rows of one setting and pass at a time.

    Args:
        seconds: of timing for each way, see ``interleaved``.
    """
    for setting in settings:
        ways: dict[str, Way | str] = {}
        for name, (_, make) in WAYS.items():
            try:
                way = make(setting)
                _check(name, way)
                ways[name] = way
            except Missing as error:
                ways[name] = str(error)
        for passes in PASSES:
            yield _rows(machine, setting, passes, ways, seconds)


def _rows(
    machine: Machine, setting: Setting, passes: str, ways: dict[str, Way | str], seconds: float
) -> list[LayerRow]:
    missing: dict[str, str] = {}
    functions: dict[str, Function] = {}
    for name, way in ways.items():
        try:
            functions[name] = _function(way, passes)
        except Missing as error:
            missing[name] = str(error)
    times = interleaved(functions, setting.device, seconds)
    threefold = 1 if passes == "forward" else 3  # a backward pass is two products of the same size
    rows = []
    for name, way in ways.items():
        row = LayerRow(setting.n, setting.batch, setting.dtype, passes, name, WAYS[name].family, setting.chain.density)
        fields: dict[str, Any] = {"missing": missing.get(name)}
        if isinstance(way, Way) and name in times:
            time = times[name]
            floor, _ = machine.peaks.floor(Cost(threefold * way.flops, threefold * way.moved, 0), setting.dtype)
            fields |= {
                **asdict(time),
                "ratio": time.median / times[DENSE].median,
                "of_roofline": floor / time.median,
                "weights_bytes": way.stored,
                "peak_bytes": peak_bytes(functions[name], setting.device),
            }
        rows.append(replace(row, **fields))
    return rows


def _function(way: Way | str, passes: str) -> Function:
    """What is timed; run once, so that what torch refuses is found here."""
    if isinstance(way, str):
        raise Missing(way)
    if passes == "forward":

        def forward() -> Any:
            with torch.no_grad():
                return way.multiply(way.x)

        function = forward
    elif not way.parameters:
        raise Missing("no gradient")
    else:
        moved = [way.x.requires_grad_(), *way.parameters]
        gradient = torch.ones_like(way.multiply(way.x))

        def both() -> Any:
            return torch.autograd.grad(way.multiply(way.x), moved, gradient)

        function = both
    try:
        function()
    except RuntimeError as error:  # NotImplementedError too
        raise Missing(str(error).splitlines()[0]) from None
    return function


def _check(name: str, way: Way) -> None:
    """Every way must give what its matrix gives, or the time says nothing."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.as_tensor(way.multiply(way.x))
    except RuntimeError as error:
        raise Missing(str(error).splitlines()[0]) from None
    x = torch.as_tensor(way.x).float()
    matrix = way.matrix.float()
    expected = matrix @ x if way.columns else x @ matrix.T
    off = float((found.float() - expected).abs().max() / expected.abs().max())
    if not off < (2e-2 if found.dtype == torch.bfloat16 else 1e-4):
        raise UsageError(f"'{name}' is off by {off:.1e} of the largest output here; its time would say nothing.")


def _dense(setting: Setting) -> Way:
    weight = setting.weight().requires_grad_()
    x = setting.random(setting.batch, setting.n)
    flops, moved = _of_product(setting, weight)
    return Way(lambda x: F.linear(x, weight), x, [weight], weight.detach(), flops, moved, bytes_of(weight))


def _of_product(setting: Setting, *operands: Tensor) -> tuple[float, float]:
    """Flops and bytes of a dense product; ``operands`` beside the input and the output."""
    n, batch = setting.n, setting.batch
    return 2.0 * batch * n * n, bytes_of(*operands) + 2 * batch * n * DTYPES[setting.dtype].itemsize


def _butterfly(setting: Setting, backend: Any) -> Way:
    layer = KSLinear(setting.n, setting.n, bias=False, chain=setting.chain)
    layer = layer.to(setting.device, DTYPES[setting.dtype])
    x = setting.random(setting.batch, setting.n)

    def multiply(x: Tensor) -> Tensor:
        with use_backend(backend):
            return layer(x)  # type: ignore[no-any-return]

    factors = list(layer.factors)
    if backend == "compose":
        flops, moved = _of_product(setting, layer.weight)
        for factor in factors[:-1]:  # times the product of those right of it, (n, n)
            flops += 2.0 * factor.numel() * setting.n
            moved += bytes_of(factor, layer.weight, layer.weight)
    else:
        flops, moved = _of_factors(setting)
    return Way(multiply, x, factors, layer.composed().detach(), flops, moved, bytes_of(*factors))


def _of_factors(setting: Setting) -> tuple[float, float]:
    """Flops and bytes of a chain applied factor by factor, what lies between written and read."""
    patterns, batch = setting.chain.patterns, setting.batch
    activations = sum(p.rows + p.columns for p in patterns) * batch
    return 2.0 * batch * setting.chain.nnz, (setting.chain.nnz + activations) * DTYPES[setting.dtype].itemsize


def _triton(setting: Setting) -> Way:
    if setting.device != "cuda":
        raise Missing("CUDA only")
    try:
        import triton  # noqa: F401
    except ImportError:
        raise Missing("triton is not installed") from None
    return _butterfly(setting, "triton")


def _lazylinop(setting: Setting) -> Way:
    try:
        with silent(), warnings.catch_warnings():  # it sets filters of its own
            threads, recursion = torch.get_num_threads(), sys.getrecursionlimit()
            from lazylinop.butterfly import ksm

            torch.set_num_threads(threads)  # its import changes both
            sys.setrecursionlimit(recursion)
    except ImportError as error:
        raise Missing(f"{error.name} is not installed") from None
    layer = KSLinear(setting.n, setting.n, bias=False, chain=setting.chain).to(setting.device, DTYPES[setting.dtype])
    factors = [factor.detach().requires_grad_() for factor in layer.factors]
    flops, moved = _of_factors(setting)
    matrix = (layer.composed() / layer.gain).detach()
    x = setting.random(setting.n, setting.batch)
    options = {"backend": "xp", "params": None}
    if setting.device == "cuda":
        options["backend"] = "ksmm"  # its own kernels; they have no gradient
        operator = ksm([factor.detach() for factor in factors], options)
        return Way(lambda x: operator @ x, x, [], matrix, flops, moved, bytes_of(*factors), columns=True)

    def multiply(x: Tensor) -> Any:  # built anew, as training has to: the factors have moved
        return ksm(factors, options) @ x

    return Way(multiply, x, factors, matrix, flops, moved, bytes_of(*factors), columns=True)


def _masked(setting: Setting) -> Way:
    matrix = setting.weight()
    mask = matrix != 0
    weight = nn.Parameter(matrix + 0)
    flops, moved = _of_product(setting, weight, mask, weight, weight)  # the weight is read, and written once masked
    x = setting.random(setting.batch, setting.n)
    return Way(
        lambda x: F.linear(x, weight * mask), x, [weight], matrix, flops + matrix.numel(), moved, bytes_of(weight, mask)
    )


def _csr(setting: Setting) -> Way:
    matrix = setting.weight()
    return _compressed(setting, matrix, _unwarned(matrix.to_sparse_csr))


def _bsr(setting: Setting) -> Way:
    matrix = setting.weight(BLOCK)
    return _compressed(setting, matrix, _unwarned(lambda: matrix.to_sparse_bsr((BLOCK, BLOCK))))


def _unwarned(convert: Callable[[], Tensor]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the formats are in beta
        return convert()


def _compressed(setting: Setting, matrix: Tensor, sparse: Tensor) -> Way:
    sparse.requires_grad_()
    parts = sparse.values(), sparse.col_indices(), sparse.crow_indices()
    x = setting.random(setting.n, setting.batch)
    flops = 2.0 * setting.batch * sparse.values().numel()
    return Way(lambda x: sparse @ x, x, [sparse], matrix, flops, bytes_of(*parts, x, x), bytes_of(*parts), columns=True)


def _two_of_four(setting: Setting) -> Way:
    if setting.device != "cuda" or torch.cuda.get_device_capability() < (8, 0):
        raise Missing("needs CUDA 8.0")
    if setting.dtype == "fp32":
        raise Missing("not in fp32")
    from torch.sparse import to_sparse_semi_structured

    matrix = setting.random(setting.n, setting.n) / setting.n**0.5
    groups = matrix.view(-1, 4)
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, groups.abs().topk(2).indices, True)
    matrix = (groups * mask).view_as(matrix)
    sparse = _unwarned(lambda: to_sparse_semi_structured(matrix))
    x = setting.random(setting.n, setting.batch)
    stored = bytes_of(matrix) // 2 + matrix.numel() // 8  # two bits a kept weight
    flops = 2.0 * setting.batch * matrix.numel() / 2
    return Way(lambda x: torch.mm(sparse, x), x, [], matrix, flops, stored + bytes_of(x, x), stored, columns=True)


def _scipy(setting: Setting) -> Way:
    if setting.device != "cpu":
        raise Missing("CPU only")
    if setting.dtype != "fp32":
        raise Missing("not in bf16")
    from scipy.sparse import csr_array

    matrix = setting.weight()
    sparse = csr_array(matrix.numpy())
    x = setting.random(setting.n, setting.batch).numpy()
    stored = sparse.data.nbytes + sparse.indices.nbytes + sparse.indptr.nbytes
    flops = 2.0 * setting.batch * sparse.nnz
    return Way(lambda x: sparse @ x, x, [], matrix, flops, stored + 2 * x.nbytes, stored, columns=True)


class Maker(NamedTuple):
    """Makes a way of multiplying ready, by weights of a family."""

    family: str
    make: Callable[[Setting], Way]


WAYS: dict[str, Maker] = {
    DENSE: Maker("dense", _dense),
    FACTORS: Maker(BUTTERFLY, lambda setting: _butterfly(setting, "bmm")),
    "butterfly: composed": Maker(BUTTERFLY, lambda setting: _butterfly(setting, "compose")),
    "butterfly: Triton": Maker(BUTTERFLY, _triton),
    "butterfly: lazylinop": Maker(BUTTERFLY, _lazylinop),
    "pruned: masked dense": Maker("pruned", _masked),
    "pruned: torch CSR": Maker("pruned", _csr),
    f"pruned: torch BSR, {BLOCK} x {BLOCK}": Maker("pruned", _bsr),
    "pruned: scipy CSR": Maker("pruned", _scipy),
    "pruned: 2:4, half the weights": Maker("pruned", _two_of_four),
}
