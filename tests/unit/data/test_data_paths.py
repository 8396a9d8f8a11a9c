"""Which names are paths, and which reader takes them."""

from __future__ import annotations

import pytest

from lacewing.data import load
from lacewing.data._paths import is_file_or_folder
from lacewing.errors import DataError


def test_a_name_is_a_path_by_its_suffix_its_separator_or_as_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("digits", "own"):
        (tmp_path / folder).mkdir()
    assert [is_file_or_folder(name, ("digits",)) for name in ("own.npz", "own", "./digits", "a/b")] == [True] * 4
    assert not any(is_file_or_folder(name, ("digits",)) for name in ("digits", "other", "own:load", "a.b:load"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing/", "there is no such file or folder; data.dataset takes .npz"),
        ("./own.xyz", "files of this kind are not read; data.dataset takes .npz"),
        ("empty", "is a folder that holds no data set"),
    ],
)
def test_a_path_that_nothing_reads_is_refused(name, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.xyz").write_text("1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=says):
        load(name)
