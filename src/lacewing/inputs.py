"""What a network is given of raw records: standardised numbers, or token ids as they are."""

from __future__ import annotations

from torch import Tensor


def are_tokens(raw: Tensor) -> bool:
    """Whether these raw records are token ids: they are held as int32, numbers and pixels as float32 and uint8."""
    return not raw.is_floating_point() and raw.element_size() > 1


def network_inputs(raw: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Records (N, ...) as a network is given them: (raw - mean) / std in float32; token ids unchanged, as int64.

    ``mean`` and ``std`` are of a shape that fits those of ``raw``.
    """
    return raw.long() if are_tokens(raw) else (raw.float() - mean) / std
