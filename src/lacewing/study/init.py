"""A first project: a model, its training code, data and a study, commented, that run as they are."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from lacewing.errors import UsageError


def init(folder: Path | str) -> Path:
    """Write the project into ``folder``, which must be new or empty; returns its full path.

    All or nothing: the files are written beside it and moved into place in one step.

    Raises:
        UsageError: ``folder`` holds something, or is a file.
        OSError: it cannot be written.
    """
    folder = Path(folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder that does not exist yet.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty, and nothing in it is overwritten; name a new or an empty folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".lacewing-init-", dir=folder.parent) as aside:
        project = Path(aside) / "project"  # has the permissions that the user's umask gives; ``aside`` is private
        project.mkdir()
        for template in (resources.files("lacewing") / "templates").iterdir():
            # Code is stored as .py.txt: it belongs to a project of its own, not to the package's modules.
            (project / template.name.removesuffix(".txt")).write_bytes(template.read_bytes())
        if folder.exists():
            folder.rmdir()  # Windows renames nothing onto a folder; fails where it was filled meanwhile
        project.replace(folder)
    return folder
