"""``python -m lacewing``."""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # `python -m` puts the working directory first. A file in it that is called like a library, or like an optional
    # part of one, would be imported and run. support.loading admits it, last, where a user names a module in it.
    try:  # noqa: SIM105  (contextlib could be a file of the working directory)
        sys.path[:1] = [path for path in sys.path[:1] if path not in ("", os.getcwd())]  # noqa: PTH109
    except FileNotFoundError:  # the working directory was removed, and so Python did not put it there
        pass

from lacewing.cli import main

if __name__ == "__main__":
    main()
