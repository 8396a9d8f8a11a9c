"""Records that a data set or a data loader hands out one by one: (x, y), (x, y, index), or dicts with a label."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lacewing.auditing._form import as_array, is_tensor, on_cpu
from lacewing.errors import UsageError
from lacewing.support.user_code import user_code

LABELS = ("labels", "label", "y", "target", "targets")  # keys of a dict that hold the label
Collate = Callable[[list[Any]], Any]


def opened(given: Any, name: str) -> tuple[Any, Collate | None]:
    """The data set behind a data loader and its function that makes batches, where that is not torch's own.

    Raises `UsageError` where the loader shuffles, draws or drops records, or its data set cannot be indexed.
    """
    data = sys.modules.get("torch.utils.data")
    if data is None or not isinstance(given, data.DataLoader):
        return given, None
    if isinstance(given.dataset, data.IterableDataset):
        raise UsageError(
            f"{name} is a DataLoader of an iterable data set: give a data set with __getitem__ and __len__."
        )
    sampler = given.sampler if given.batch_sampler is None else getattr(given.batch_sampler, "sampler", None)
    if type(sampler) is not data.SequentialSampler:
        raise UsageError(
            f"{name} is a DataLoader that draws or shuffles its records ({type(sampler).__name__}): give it with "
            "shuffle=False and no sampler, or the data set itself."
        )
    if given.drop_last and len(given.dataset) % (given.batch_size or 1):
        raise UsageError(f"{name} is a DataLoader that drops the last batch: give it with drop_last=False.")
    usual = (data.default_collate, data.default_convert)
    return given.dataset, None if given.collate_fn in usual else given.collate_fn


def is_data_set(given: Any) -> bool:
    """Whether it hands out records by their number."""
    plain = (
        isinstance(given, tuple | list | Mapping | str | bytes | np.ndarray)
        or hasattr(given, "to_numpy")
        or is_tensor(given)
    )
    return hasattr(given, "__getitem__") and hasattr(given, "__len__") and not plain


def count(given: Any, name: str) -> int:
    """How many records a data set says that it has."""
    with user_code(f"{name}: its length"):
        return len(given)


def fetched(given: Any, rows: Iterable[int], name: str) -> list[Any]:
    """The items of these numbers."""
    rows = [int(row) for row in rows]
    together = getattr(given, "__getitems__", None)  # torch's way to read several at once
    if callable(together) and rows:
        with user_code(f"{name}: items {rows[0]} to {rows[-1]}"):
            found = list(together(rows))
        if len(found) == len(rows):
            return found
    items = []
    for row in rows:
        with user_code(f"{name}: item {row}"):
            items.append(given[row])
    return items


def zipped(x: Any, y: Any, name: str) -> list[Any]:
    """The items (x, y) of records and labels. Raises `UsageError`: lengths differ, or ``x`` is no list of records."""
    if isinstance(x, Mapping | str) or hasattr(x, "columns") or not (hasattr(x, "__len__") and hasattr(y, "__len__")):
        raise UsageError(
            f"{name}: x is a {type(x).__name__}, and collate= takes a list of items: give x as a list of records, or a "
            "data set."
        )
    records, labels = (each.detach().cpu() if is_tensor(each) else each for each in (x, y))
    if len(records) != len(labels):
        raise UsageError(f"{name} holds {len(records)} records and {len(labels)} labels: give one label a record.")
    return list(zip(records, labels, strict=True))


def _length(values: Any) -> int:
    return len(values) if isinstance(values, list | tuple) else (*np.shape(values), 0)[0]


def batch_of(items: Sequence[Any], collate: Collate | None, name: str) -> tuple[Any, Any]:
    """(x, y) of items; x is a list of records, or a dict of lists, unless ``collate`` made something else of it."""
    if collate is not None:
        with user_code(f"{name}: collate, given {len(items)} items,"):
            batch = collate(list(items))
        x, y = parted(batch, len(items), f"what collate makes of {name}")
        made = {_length(each) for each in [*(x.values() if isinstance(x, Mapping) else [x]), y]}
        if made != {len(items)}:
            raise UsageError(
                f"{name}: collate, given {len(items)} items, makes a batch of {' and '.join(map(str, sorted(made)))}: "
                "it must keep every item, in its place."
            )
        return x, y
    first = items[0]
    kinds = {(type(item).__name__, len(item)) if isinstance(item, tuple | list) else _keys(item) for item in items}
    if len(kinds) > 1:
        raise UsageError(f"{name} hands out items of several kinds: give each record in one form.")
    if isinstance(first, Mapping):
        return parted({key: [item[key] for item in items] for key in first}, len(items), name)
    if not isinstance(first, tuple | list) or len(first) not in (2, 3):
        what = f" of {len(first)}" if isinstance(first, tuple | list) else ""
        raise UsageError(
            f"{name}[0] is a {type(first).__name__}{what}: each item of a data set must be (x, y), (x, y, index), or a "
            "dict of arguments of the model with the label."
        )
    return parted([list(part) for part in zip(*items, strict=True)], len(items), name)


def parted(batch: Any, n: int | None, name: str) -> tuple[Any, Any]:
    """(x, y) of a batch: a pair, a triple with an index, or a dict with one label."""
    if isinstance(batch, Mapping):
        labels = [key for key in LABELS if key in batch]
        if len(labels) != 1:
            held = ", ".join(map(str, batch))
            raise UsageError(
                f"{name} has the fields {held}, of which {' and '.join(labels) or 'none'} may be the label: name the "
                f"label one of {', '.join(LABELS)}, and leave out or rename other such fields."
            )
        return {str(key): value for key, value in batch.items() if key != labels[0]}, batch[labels[0]]
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        raise UsageError(f"{name} is a {type(batch).__name__}: it must be (x, y), or a dict with the label.")
    if len(batch) == 3:
        index = np.asarray([int(each) for each in batch[2]]) if _whole(batch[2]) else None
        if index is None or len(np.unique(index)) < len(index) or (n is not None and len(index) != n):
            raise UsageError(
                f"{name} hands out three things, and the third is no index (whole numbers, each once), so that it is "
                "not known which are the record and the label: give items (x, y)."
            )
    return batch[0], batch[1]


def _whole(values: Any) -> bool:
    try:
        return bool(as_array(values).dtype.kind in "iu")
    except (ValueError, TypeError):
        return False


def _keys(item: Any) -> tuple[Any, ...]:
    return tuple(item) if isinstance(item, Mapping) else (type(item).__name__,)


def stacked(values: Any, name: str, what: str = "records") -> Any:
    """One tensor or array of a list of records of one shape; what is no list stays as it is."""
    if not isinstance(values, list):
        return values
    if len({np.shape(value) for value in values if not isinstance(value, str)}) > 1:
        raise UsageError(
            f"{name} holds {what} of several shapes: pad or crop them to one, or give collate=, a function that "
            "makes a padded batch of a list of items."
        )
    if is_tensor(values[0]):
        return sys.modules["torch"].stack([on_cpu(value, f"{name}: one of the {what}") for value in values])
    if isinstance(values[0], str):
        return values
    return np.stack([as_array(value, f"{name}: one of the {what}") for value in values])


def size(item: Any) -> int:
    """The bytes that the numbers of an item take."""
    if isinstance(item, Mapping):
        return sum(size(each) for each in item.values())
    if isinstance(item, tuple) or (isinstance(item, list) and not all(isinstance(each, int | float) for each in item)):
        return sum(size(each) for each in item)
    return 0 if isinstance(item, str) else int(item.nbytes) if hasattr(item, "nbytes") else np.asarray(item).nbytes
