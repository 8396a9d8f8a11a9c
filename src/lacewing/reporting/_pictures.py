"""Rebuilt records beside the training records next to them: private data, drawn only where a user asks for it."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lacewing.reporting._svg import style

Images = npt.NDArray[np.floating]


def pictures(rows: Mapping[str, tuple[Images, Images]]) -> bytes:
    """A PNG with two rows an attack: (P, C, H, W) rebuilt records, and the training record beside each.

    Each pair is shown on the scale of its training record, and grey where values are not finite.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    most = max(1, *(len(rebuilt) for rebuilt, _ in rows.values()))
    with style():
        figure = Figure(figsize=(1.6 + 1.1 * most, 2.3 * len(rows)), facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2 * len(rows), most, squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        for place, (name, pair) in enumerate(rows.items()):
            for side, (images, said) in enumerate(zip(pair, ("rebuilt", "training record"), strict=True)):
                first = axes[2 * place + side, 0]
                first.text(-0.1, 0.5, f"{name}\n{said}", ha="right", va="center", transform=first.transAxes)
                for ax, image, true in zip(axes[2 * place + side], images, pair[1], strict=False):
                    ax.imshow(_shown(image, true), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=80, bbox_inches="tight", metadata={"Software": None})
    return stream.getvalue()


def _shown(image_CHW: Images, like_CHW: Images) -> Images:
    """(H, W) or (H, W, 3) from 0 to 1."""
    low, high = float(like_CHW.min()), float(like_CHW.max())
    scaled = np.nan_to_num((image_CHW - low) / ((high - low) or 1.0), nan=0.5, posinf=1.0, neginf=0.0).clip(0, 1)
    return scaled[0] if len(scaled) == 1 else np.moveaxis(scaled, 0, -1)
