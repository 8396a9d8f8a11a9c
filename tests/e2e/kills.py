"""A run that is killed a thousand times: at random moments, and at random file operations of it and its workers.

    python tests/e2e/kills.py --kills 1000

Each life is a study run as a whole, the same study as two slices, and their merge. Whatever is killed is started again
with the same words, until it ends; then the next begins. After each kill what is published must be whole, and at the
end of each life every byte of the results equal to that of an undisturbed one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import preloaded

STUDY = """
schema = 1
name = "small"
[data]
dataset = "digits"
records = 80
[model]
name = "mlp"
hidden = [8]
[train]
epochs = 12
batch_size = 10
precision = "fp32"
[[networks]]
method = "dense"
[[networks]]
method = "imp"
levels = 2
fraction = 0.5
[attacks]
names = ["loss"]
[run]
seeds = [0]
"""
STAGES: dict[str, tuple[str, ...]] = {
    "whole": ("run", "small.toml", "--out", "whole"),
    "targets": ("run", "small.toml", "--out", "targets", "--only", "role=target"),
    "shadows": ("run", "small.toml", "--out", "shadows", "--only", "role=shadow", "--keep", "signals"),
    "merged": ("merge", "merged", "targets", "shadows"),
}
RESULTS = ("results.csv", "tradeoff.json")
LEFT_OVER = ("metrics.json", "signals.npz", "scores.npz", "probe.npz")  # of jobs: bytes that do not hang on the time
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
_WRITING = os.O_WRONLY | os.O_RDWR


class Life:
    """One folder with the folders of the four stages.

    Args:
        folder: empty.
        whole: of each stage: its seconds and the changes to files that it makes, when nothing disturbs it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "small.toml").write_text(STUDY)
        self.folder, self.said = folder, folder.with_name(f"{folder.name}-said")
        self.said.mkdir()

    def start(self, stage: str, first: Callable[[], object] | None = None) -> int:
        """Start a stage; returns its process."""
        return preloaded.fork(STAGES[stage], self.folder, (self.said / "out", self.said / "err"), first=first)

    def results(self) -> dict[str, str]:
        """The digest of all that must be equal at the end."""
        found = {}
        for stage in STAGES:
            place = self.folder / stage
            paths = [place / name for name in RESULTS if (place / name).exists()]
            paths += [path for path in sorted(place.glob("jobs/*/*")) if path.name in LEFT_OVER]
            found |= {str(path.relative_to(self.folder)): _digest(path) for path in paths}
        return found

    def check(self, wanted: dict[str, str]) -> None:
        """Nothing that is published is half-written, whenever one looks."""
        for stage in STAGES:
            place = self.folder / stage
            for name in RESULTS:
                if (place / name).exists():
                    assert _digest(place / name) == wanted[f"{stage}/{name}"], f"{stage}/{name} is not whole"
            for path in (place / "plan.json", place / "failed.json"):
                if path.exists():
                    json.loads(path.read_text())
            for path in (place / "report.html", *place.glob("figures/*.svg")):
                assert not path.exists() or path.read_text().rstrip().endswith(">"), f"{path} is not whole"
            for job in place.glob("jobs/*"):
                facts = json.loads((job / "job.json").read_text())
                for name, digest in facts["files"].items():
                    if (job / name).exists():
                        assert _digest(job / name) == digest, f"{job / name} is not whole"

    def at_the_end(self, wanted: dict[str, str]) -> None:
        """All bytes are those of an undisturbed life, and nothing unfinished is left."""
        assert self.results() == wanted, sorted(
            name for name in wanted.keys() | self.results().keys() if wanted.get(name) != self.results().get(name)
        )
        for stage in STAGES:
            left = [path for path in (self.folder / stage).rglob("*") if path.name.endswith((".part", ".publishing"))]
            assert not left, left
            work = self.folder / stage / "work"
            assert not work.exists() or not list(work.iterdir()), list(work.iterdir())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def at_change(folder: Path, reached: Callable[[int], None]) -> Callable[[], None]:
    """Call ``reached`` with its number at each change to a file under a folder, in a fork and in forks of it."""

    def install() -> None:
        count = 0
        under = f"{folder}{os.sep}"

        def hook(event: str, args: tuple[Any, ...]) -> None:
            nonlocal count
            if event in _CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & _WRITING):
                place = args[0]
                if isinstance(place, str | os.PathLike) and str(Path.cwd() / os.fspath(place)).startswith(under):
                    count += 1
                    reached(count)

        sys.addaudithook(hook)

    return install


def _counting(path: Path) -> Callable[[int], None]:
    return lambda count: path.with_name(f"{path.name}.{os.getpid()}").write_text(str(count)) and None


def undisturbed(life: Life) -> dict[str, tuple[float, int]]:
    """Of each stage its seconds and the number of its changes in one process, when nothing disturbs it."""
    found = {}
    for stage in STAGES:
        begun = time.monotonic()
        pid = life.start(stage, at_change(life.folder, _counting(life.said / stage)))
        assert _ended(pid) == 0, (life.said / "err").read_text()
        counts = [int(path.read_text()) for path in life.said.glob(f"{stage}.*")]
        found[stage] = time.monotonic() - begun, max(counts)
    return found


def kill(random: Random, life: Life, stage: str, seconds: float, changes: int) -> int:
    """Start a stage and kill it at a random moment; returns its exit code, 0 where it was too fast."""
    if random.random() < 0.5:
        pid = life.start(stage)
        time.sleep(random.uniform(0.0, seconds))
        os.kill(pid, signal.SIGKILL)
    else:  # at the very change, by whichever process makes it
        fatal, ours = random.randint(1, changes), os.getpid()
        target: list[int] = []

        def first() -> None:
            target.append(os.getpid())
            at_change(life.folder, lambda count: os.kill(target[0], signal.SIGKILL) if count == fatal else None)()

        pid = life.start(stage, first)
        assert os.getpid() == ours
    code = _ended(pid)
    if code == -signal.SIGKILL and random.random() < 0.5:
        preloaded.stop(pid)
    return code


def _ended(pid: int) -> int:
    begun = time.monotonic()
    while (found := os.waitpid(pid, os.WNOHANG))[0] == 0:
        assert time.monotonic() - begun < 120, "a run hangs"
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    random = Random(asked.seed)
    preloaded.preload()
    preloaded.draw_nothing()
    with tempfile.TemporaryDirectory(prefix="lacewing-kills-") as folder:
        first = Life(Path(folder) / "undisturbed")
        undisturbed(first)
        preloaded.warm(first.folder / "whole")
        second = Life(Path(folder) / "again")
        times = undisturbed(second)
        wanted = first.results()
        second.at_the_end(wanted)
        kills, lives, where = 0, 0, Counter[str]()
        while kills < asked.kills:
            lives += 1
            life = Life(Path(folder) / f"life-{lives}")
            for stage in STAGES:
                code = -signal.SIGKILL
                while code != 0:
                    if kills < asked.kills:
                        code = kill(random, life, stage, *times[stage])
                    else:
                        code = _ended(life.start(stage))
                    assert code in (0, -signal.SIGKILL), (stage, code, (life.said / "err").read_text())
                    if code:
                        kills += 1
                        where[stage] += 1
                        life.check(wanted)
            life.at_the_end(wanted)
    print(f"{kills} kills in {lives} lives ({', '.join(f'{of} {n}' for of, n in where.items())}): equal bytes")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
