"""A data set that is not here: the number and shape of its records are declared, so that a study can be planned."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from lacewing.data._dataset import Dataset, Inputs, digest_of
from lacewing.data._split import Records, prepare
from lacewing.errors import UsageError

_FORM = re.compile(r"([0-9]{1,12}(?:x[0-9]{1,12})+):([0-9]{1,12})")
_MOST_RECORDS, _MOST_NUMBERS = 10**8, 2**28  # in all; in one record


def declared(name: str, text: str) -> Dataset:
    """A data set of the size that ``text`` declares, ``"1280000x3x224x224:1000"``: records x shape of one : classes.

    Its records are one random record over and over, which takes no memory: uint8 for images (C, H, W), zeros and ones
    as float32 for rows (D,). Every class has equally many, up to one.

    Raises:
        UsageError: the text is not of this form, or a study cannot have such records.
    """
    found = _FORM.fullmatch(text)
    if not found:
        raise UsageError(
            f"--shape {text[:60]!r}: give records x shape of one : classes, as in 1280000x3x224x224:1000 (images) or "
            "100000x446:30 (rows)."
        )
    (records, *shape), classes = [int(number) for number in found[1].split("x")], int(found[2])
    if len(shape) not in (1, 3):
        raise UsageError(
            f"--shape {text}: a record has {len(shape)} axes; give channels x height x width (images) or one number "
            "(rows)."
        )
    size = int(np.prod(shape, dtype=object))
    if not 1 <= size <= _MOST_NUMBERS:
        raise UsageError(f"--shape {text}: a record has {size:,} numbers; give 1 to {_MOST_NUMBERS:,}.")
    if not 1 <= records <= _MOST_RECORDS:
        raise UsageError(f"--shape {text}: {records:,} records; give 1 to {_MOST_RECORDS:,}.")
    if not 2 <= classes <= records:
        raise UsageError(f"--shape {text}: {classes:,} classes; give 2 or more, and no more than records.")
    rng = np.random.default_rng(0)
    kind, most = (np.uint8, 256) if len(shape) == 3 else (np.float32, 2)
    x: Inputs = np.broadcast_to(rng.integers(0, most, (1, *shape)).astype(kind), (records, *shape))
    y = np.arange(records, dtype=np.int64) % classes
    digest = digest_of(np.frombuffer(f"declared {text}".encode(), np.uint8))
    return Dataset(name, x, y, classes, None, digest, declared=True)


def prepare_declared(
    dataset: Dataset, *, records: int | None, label_noise: float, seed: int = 0, canaries: int = 0
) -> Records:
    """As ``prepare``, of a data set that is `declared`: no record is read or copied."""
    labels = replace(dataset, x=np.empty((len(dataset), 0), np.uint8))
    found = prepare(labels, records=records, label_noise=label_noise, seed=seed, canaries=canaries)
    if records is None:
        return replace(found, x=dataset.x)
    return replace(found, x=np.broadcast_to(dataset.x[:1], (len(found), *dataset.shape)))
