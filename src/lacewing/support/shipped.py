"""Files that come with the package."""

from __future__ import annotations

from importlib import resources


def builtin_studies() -> dict[str, str]:
    """The shipped studies: name -> TOML text."""
    folder = resources.files("lacewing") / "studies"
    return {p.name.removesuffix(".toml"): p.read_text("utf-8") for p in folder.iterdir() if p.name.endswith(".toml")}
