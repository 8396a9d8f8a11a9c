"""A data set: made up, so that the example needs no files."""

import numpy as np

from lacewing.data import Dataset, make_dataset

RECORDS, SIDE, NOISE = 400, 8, 150.0


def stripes() -> Dataset:
    """Noisy grey images of level and of upright stripes, 8x8, two classes."""
    rng = np.random.default_rng(0)
    y = np.arange(RECORDS) % 2
    row = 255.0 * (np.arange(SIDE) // 2 % 2)
    clean = np.where(y[:, None, None] == 0, row[None, :, None], row[None, None, :])
    noisy = clean + rng.normal(scale=NOISE, size=(RECORDS, SIDE, SIDE))
    x = np.clip(noisy, 0, 255).astype(np.uint8)[:, None]
    return make_dataset("stripes", x, y, 2, ("level", "upright"))
