"""A data set that a user's function loads: ``package.module:name``, or a name that an installed package adds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lacewing.data._columns import Column, is_frame, of_frame, of_series, of_values
from lacewing.data._dataset import Dataset
from lacewing.data._npz import checked
from lacewing.data._table import Table, of_columns
from lacewing.errors import DataError
from lacewing.support.loading import DATASETS, load_users
from lacewing.support.user_code import user_code

_FIELD = "data.dataset"


def load_own(
    name: str, root: Path, *, built_in: Iterable[str], groups: Iterable[str] = (), table: Table | None = None
) -> Dataset:
    """The data set of a user's function, called as ``load()``, or as ``load(root)`` where it takes an argument.

    It returns a `Dataset`, or arrays (x, y) as an .npz holds them, or (x, y, groups) with arrays of ids by their names;
    all are checked as an .npz is, and the digest is that of the records, whatever the function says. Or it returns a
    frame of pandas or polars with a column of labels, or (frame, y), which are read as a table is, see `of_columns`.

    Args:
        name: as a study has it.
        root: the folder of data sets.
        built_in: names of the registry, for messages.
        groups: columns of ids, of a frame.
        table: which columns of a frame are what.

    Raises:
        UsageError: nothing has this name, or it cannot be loaded.
        UserCodeError: the function fails.
        DataError: what it returns is no data set.
    """
    function = load_users(name, DATASETS, _FIELD, built_in=built_in)
    where = f"{_FIELD}: {name}"
    if not callable(function):
        raise DataError(f"{where} is a {type(function).__name__}; name a function that returns (x, y) or a Dataset.")
    arguments = (root,) if _takes_root(function) else ()
    with user_code(f"{where}({', '.join(map(str, arguments))})"):
        found = function(*arguments)
    if (frame := _framed(found, where)) is not None:
        columns, target = frame
        asked = table or Table()
        if target is not None and asked.target is not None:
            raise DataError(f"data.target: {name} returns the labels beside its frame; leave it out.")
        return of_columns(
            columns, tuple(groups), asked if target is None else replace(asked, target=target), where, name
        )
    if table is not None:
        table.refuse(name)
    if isinstance(found, Dataset):
        x, y, groups = _array(found.x, where), _array(found.y, where), _groups(found.groups, where)
        return _as_declared(checked(x, y, where, name, groups), found, where)
    if not isinstance(found, tuple | list) or len(found) not in (2, 3):
        raise DataError(
            f"{where} returned a {type(found).__name__}; it must return (x, y), (x, y, groups) or a "
            "lacewing.data.Dataset."
        )
    x, y = (_array(part, where) for part in found[:2])
    return checked(x, y, where, name, _groups(found[2] if len(found) == 3 else {}, where))


def _framed(found: Any, where: str) -> tuple[dict[str, Column], str | None] | None:
    """Columns of a frame, and the one that holds the labels that were given beside it; None: it is no frame."""
    whole = found[0] if isinstance(found, tuple | list) and found else found
    if type(whole).__name__ == "LazyFrame":
        raise DataError(f"{where} returned a LazyFrame, which holds no rows yet: return its .collect().")
    if isinstance(found, tuple | list) and len(found) == 3 and is_frame(whole):
        raise DataError(
            f"{where} returned (frame, y, groups): leave ids of groups in the frame, and name their columns in "
            "data.groups."
        )
    if is_frame(found):
        return of_frame(found, where), None
    if not isinstance(found, tuple | list) or len(found) != 2 or not is_frame(found[0]):
        return None
    columns, y = of_frame(found[0], where), found[1]
    if not hasattr(y, "__len__") or isinstance(y, str | Mapping | Set):
        raise DataError(f"{where} returned a frame and a {type(y).__name__}: give a label for each row beside it.")
    _check_order(found[0], y, where)
    labels = of_series(y) if hasattr(y, "dtype") and hasattr(y, "to_list") else of_values(list(y))
    count = len(labels.lengths if labels.kind == "lists" else labels.values)
    if count != len(found[0]):
        raise DataError(f"{where} returned {len(found[0])} rows and {count} labels: they must be as many.")
    target = "the labels"
    while target in columns:
        target += "'"
    return {**columns, target: labels}, target


def _check_order(frame: Any, y: Any, where: str) -> None:
    """Refuse labels whose index says that they are of other rows than those that stand beside them."""
    ours: Any = getattr(frame, "index", None)
    theirs: Any = getattr(y, "index", None)
    if hasattr(ours, "equals") and hasattr(theirs, "equals") and len(ours) == len(theirs) and not ours.equals(theirs):
        raise DataError(
            f"{where} returned a frame and labels whose indices differ: give y.loc[frame.index], or y.to_numpy() where "
            "the rows stand in one order."
        )


def _groups(found: Any, where: str) -> dict[str, npt.NDArray[Any]]:
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise DataError(f"{where} returned groups as a {type(found).__name__}; give arrays of ids by their names.")
    return {name: _array(ids, where) for name, ids in found.items()}


def _array(values: Any, where: str) -> npt.NDArray[Any]:
    with user_code(f"{where}: what it returned, as arrays,", "; return numpy arrays"):
        return np.asarray(values)


def _as_declared(found: Dataset, own: Dataset, where: str) -> Dataset:
    """With the names of classes that the user's own data set gives them."""
    if own.classes != found.classes:
        raise DataError(f"{where} says that there are {own.classes} classes, and y holds {found.classes}: mend either.")
    names = own.class_names
    if names is not None and (len(names) != own.classes or not all(isinstance(each, str) for each in names)):
        raise DataError(f"{where} returned class_names that are not {own.classes} texts: give one a class, or None.")
    return replace(found, class_names=None if names is None else tuple(names))


def _takes_root(function: Callable[..., Any]) -> bool:
    """Whether it can be called with one argument by its place."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a function in C
        return False
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
