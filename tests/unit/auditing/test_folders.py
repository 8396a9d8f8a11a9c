"""A folder for results that is a file is refused before a network is asked or trained."""

import numpy as np
import pytest
from torch import nn

import lacewing as lw
from lacewing.errors import UsageError

R = np.random.default_rng(0)
X, Y = R.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2
MEMBERS, NONMEMBERS = (X[:30], Y[:30]), (X[30:], Y[30:])


class Untouched(nn.Linear):
    def forward(self, x):
        raise AssertionError("was asked")


def _refit(x, y, seed):
    raise AssertionError("was trained")


MODEL, DENSE = Untouched(3, 2), Untouched(3, 2)
WORLDS = lw.Worlds((X, Y), of="redrawn labels", shares=(0.0, 0.5), records=20)
CALLS = {
    "audit": (lambda out: lw.audit(MODEL, MEMBERS, NONMEMBERS, refit=_refit, references=4, out=out), "references"),
    "pair": (lambda out: lw.audit_pair(DENSE, MODEL, MEMBERS, NONMEMBERS, out=out), "dense"),
    "usage": (lambda out: lw.audit_usage(MODEL, (X, Y), refit=_refit, references=4, out=out), "references"),
    "reconstruct": (lambda out: lw.reconstruct(MODEL, MEMBERS, NONMEMBERS, out=out), "rebuilt"),
    "property": (lambda out: lw.audit_property(_refit, WORLDS, networks=4, out=out), "references"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_file_in_place_of_a_folder_is_refused_before_anything_runs(tmp_path, name):
    call, within = CALLS[name]
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / within).write_text("mine")
    for out, named in ((file, file), (file / "below", file), (folder, folder / within)):
        with pytest.raises(UsageError, match=rf"out: .*{named.name} is no folder"):
            call(out)
    assert file.read_text() == (folder / within).read_text() == "mine"
