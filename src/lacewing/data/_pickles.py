"""The one place where a pickle is read: CIFAR's python files, by an unpickler that can build nothing but data."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from lacewing.errors import DataError

_RECONSTRUCT = np.empty(0).__reduce__()[0]  # the function that numpy itself writes into pickles of arrays
_ADMITTED = {  # numpy.core is numpy 1's name, which the official files use; numpy._core is numpy 2's
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _DataOnly(pickle.Unpickler):
    """Looks every global up in a table of four, so that no module is imported and no other callable is reached."""

    def __init__(self, data: bytes, where: str) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False, encoding="bytes")
        self._where = where

    def find_class(self, module: str, name: str) -> Any:
        """The admitted global, else DataError."""
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise DataError(
                f"{self._where}: the pickle asks for {module}.{name}, which is refused: only numpy arrays and plain "
                "containers are admitted; delete the file and take the original from its publisher."
            ) from None


def load_plain(data: bytes, where: str, mend: str) -> Any:
    """The object that the pickle ``data`` holds: numpy arrays and plain containers, and nothing else.

    Text of Python 2 comes back as bytes. Raises DataError for any other global (named in the message) and for bytes
    that are no whole pickle; ``where`` names the file in messages.
    """
    try:
        return _DataOnly(data, where).load()
    except DataError:
        raise
    except Exception as error:  # a broken pickle can raise nearly anything
        raise DataError(f"{where}: is no whole pickle ({type(error).__name__}: {error}); {mend}") from error
