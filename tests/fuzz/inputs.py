"""The inputs: each follows from a seed and its number, and is a folder with files and the words of a command."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from mutate import HOSTILE, NUMBERS, archive, array, damaged, json_text, reworded
from vocabulary import COMMANDS, FIELDS, FURTHER, OWN, STUDY, VALUES

from forging import regular, reseal


def scores(kind: int) -> dict[str, Any]:
    """Arrays for ``lacewing audit``: 0 scores, 1 outputs, 2 with references, 3 with a population too."""
    rng = np.random.default_rng(kind)
    n, c, k, z = 60, 3, 4, 30
    member, label = np.arange(n) % 2, rng.integers(0, c, n)
    if kind == 0:
        return {"score": rng.normal(size=n) + member, "member": member, "id": np.arange(n), "class": label}
    logits = rng.normal(size=(n, c)) + 3 * np.eye(c)[label] * (1 + member[:, None])
    made = {"logits": logits, "label": label, "member": member, "sensitivity": rng.random(n)}
    if kind > 1:
        made["reference_logits"] = rng.normal(size=(k, n, c)) + 3 * np.eye(c)[label]
        made["reference_in"] = (np.arange(n) // 2 + np.arange(k)[:, None]) % 2
    if kind > 2:
        made["population_logits"] = rng.normal(size=(z, c))
        made["population_label"] = rng.integers(0, c, z)
        made["population_reference_logits"] = rng.normal(size=(k, z, c))
    return made


def records() -> dict[str, Any]:
    """Arrays of labelled records for a study or for the audit of a model."""
    rng = np.random.default_rng(9)
    y = np.arange(60) % 3
    return {"x": (rng.normal(size=(60, 5)) + y[:, None]).astype(np.float32), "y": y}


def table(arrays: dict[str, Any]) -> str:
    """The arrays of scores as CSV."""
    columns = {}
    for name, values in arrays.items():
        if values.ndim == 1 and not name.startswith("population"):
            columns[name] = values
        elif name == "logits":
            columns |= {f"logit_{at}": values[:, at] for at in range(values.shape[1])}
    lines = [",".join(columns)] + [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    return "\n".join(lines) + "\n"


def toml(random: Random) -> bytes:
    """A study, damaged or not, as text."""
    text = STUDY + "".join(random.sample(FURTHER, random.choice((0, 0, 1, 2))))
    kind = random.randrange(7)
    if kind == 0:
        return damaged(random, text.encode())
    if kind == 1:
        return reworded(random, text).encode("utf-8", "surrogatepass")
    if kind == 2:  # one value by another
        lines = text.splitlines()
        at = random.choice([i for i, line in enumerate(lines) if "=" in line])
        lines[at] = f"{lines[at].split('=')[0]}= {literal(random)}"
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    if kind == 3:  # fields of anywhere, anywhere
        lines = text.splitlines()
        name = random.choice(list(FIELDS))
        lines.insert(random.randrange(len(lines)), f"{name.rpartition('.')[2]} = {literal(random)}")
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    return text.encode()


def literal(random: Random) -> str:
    """A TOML value, or nearly one."""
    kind = random.randrange(7)
    if kind == 0:
        return str(random.choice(NUMBERS)).lower()
    if kind == 1:
        return json.dumps(random.choice(HOSTILE))
    if kind == 2:
        return random.choice(list(FIELDS.values()))
    if kind == 3:
        return "[" + ", ".join(literal(random) for _ in range(random.randrange(3))) + "]"
    if kind == 4:
        return "{ " + ", ".join(f"{key} = {literal(random)}" for key in ("lr", "epochs")[: random.randrange(3)]) + " }"
    if kind == 5:
        return random.choice(
            ("1979-05-27T07:32:00Z", "07:32:00", "0x7fffffffffffffff", "1_000", "inf", "-nan", "[" * 3000)
        )
    return str(random.randrange(-2, 70))


def study(random: Random, folder: Path, base: Path) -> list[str]:
    """A study as TOML and by ``--set``."""
    (folder / "small.toml").write_bytes(toml(random))
    (folder / "own.py").write_text(OWN)
    words = ["run", "small.toml", "--out", "r"]
    for _ in range(random.choice((0, 0, 1, 1, 2, 3))):
        name = random.choice(list(FIELDS))
        if random.random() < 0.1:
            name = reworded(random, name)
        words += ["--set", f"{name}={literal(random) if random.random() < 0.7 else random.choice(HOSTILE)}"]
    real = random.random() < 0.05
    return argv([*words, *(("--budget", "4s") if real else ("--dry-run",)), *["--json"] * (random.random() < 0.2)])


def audit(random: Random, folder: Path, base: Path) -> list[str]:
    """Scores or outputs for an audit, as .npz or .csv."""
    arrays = scores(random.choice((0, 0, 1, 1, 2, 3)))
    if random.random() < 0.65:
        name, content = "scores.npz", archive(random, arrays)
    else:
        text, name = table(arrays), "scores.csv"
        kind = random.randrange(4)
        if kind == 0:
            content = damaged(random, text.encode())
        elif kind == 1:
            content = reworded(random, text).encode("utf-8", "surrogatepass")
        else:
            lines = [line.split(",") for line in text.splitlines()]
            for _ in range(random.choice((1, 3, 30))):
                row = lines[random.randrange(len(lines))]
                row[random.randrange(len(row))] = random.choice((*HOSTILE, *map(str, NUMBERS), "2", "-1", "0.5"))
            content = "\n".join(",".join(line) for line in lines).encode("utf-8", "surrogatepass")
    (folder / name).write_bytes(content)
    words = ["audit", name]
    if "logits" in arrays and random.random() < 0.9:
        words += [
            "--attack",
            random.choice(("loss", "entropy", "lira-offline", "rmia-offline", "population", "correctness")),
        ]
    words += ["--json"] * (random.random() < 0.2) + ["--out", "o"] * (random.random() < 0.1)
    if random.random() < 0.15:
        words += [
            "--fail-if",
            random.choice(("any.auc > 0.5", "scores.tpr@0.01 > 0.1", "loss.epsilon >= 0", random.choice(VALUES))),
        ]
    return argv(words)


def model(random: Random, folder: Path, base: Path) -> list[str]:
    """A user's data, weights and factory for the audit of a model."""
    arrays = {**records(), "member": np.arange(60) % 2}
    (folder / "own.py").write_text(OWN)
    whole = (base / "weights.safetensors").read_bytes()
    kind = random.randrange(4)
    weights = damaged(random, whole) if kind == 0 else safetensors(random, whole) if kind == 1 else whole
    (folder / "w.safetensors").write_bytes(weights)
    if kind >= 2:
        (folder / "d.npz").write_bytes(archive(random, arrays))
    else:
        np.savez(folder / "d.npz", **arrays)
    return ["audit", "--model", "own:net", "--weights", "w.safetensors", "--data", "d.npz", "--attack", "loss"]


def safetensors(random: Random, content: bytes) -> bytes:
    """Weights with another header."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json_text(random, content[8 : 8 + length])
    length = len(header) if random.random() < 0.9 else random.choice((0, 2**40, 2**63, len(content)))
    return struct.pack("<Q", length) + header + content[8 + length :]


def data(random: Random, folder: Path, base: Path) -> list[str]:
    """A data set of the user's own, or official files that are damaged."""
    kind = random.randrange(8)
    if kind < 5:
        (folder / "own.npz").write_bytes(archive(random, records()))
        (folder / "small.toml").write_text(STUDY.replace("records = 60\n", "").replace('"digits"', '"own.npz"'))
        return ["run", "small.toml", "--out", "r", "--dry-run"]
    if kind == 5:
        for name, head in (
            ("train-images-idx3-ubyte", (0x0803, 60_000, 28, 28)),
            ("train-labels-idx1-ubyte", (0x0801, 60_000)),
            ("t10k-images-idx3-ubyte", (0x0803, 10_000, 28, 28)),
            ("t10k-labels-idx1-ubyte", (0x0801, 10_000)),
        ):
            content = struct.pack(f">{len(head)}I", *head) + bytes(random.choice((0, 100, 60_000)))
            if random.random() < 0.5:
                name, content = f"{name}.gz", gzip.compress(content)
            (folder / name).write_bytes(damaged(random, content) if random.random() < 0.5 else content)
        return ["data", "check", "fashion-mnist", "--data-root", "."]
    if kind == 6:
        np.savez(folder / "location30.npz", x=np.zeros((4, 446), np.uint8), y=np.arange(4))
        whole = (folder / "location30.npz").read_bytes()
        (folder / "location30.npz").write_bytes(damaged(random, whole))
        return ["data", "check", "location30", "--data-root", "."]
    fine = random.random() < 0.5
    for name in ("train", "test") if fine else (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        content = pickle.dumps({b"data": random.choice(NUMBERS), b"labels": [0] * 10}, random.randrange(5))
        if random.random() < 0.5:
            name, content = f"{name}.bin", bytes(3073 * random.randrange(4))
        (folder / name).write_bytes(damaged(random, content))
    return ["data", "check", "cifar100" if fine else "cifar10", "--data-root", "."]


def argument(random: Random, folder: Path, base: Path) -> list[str]:
    """Commands, options and values of the grammar, in any number."""
    (folder / "small.toml").write_text(STUDY)
    (folder / "own.py").write_text(OWN)
    np.savez(folder / "scores.npz", **scores(0))
    np.savez(folder / "own.npz", **records())
    shutil.copytree(base / "run", folder / "run")
    command = random.choice(list(COMMANDS))
    count, options = COMMANDS[command]
    good = {"run": "small.toml", "audit": "scores.npz", "merge": "m", "data check": "digits"}.get(command, "run")
    given = [good] + [random.choice(("dense", "imp-01", "run", *VALUES)) for _ in range(count - 1)]
    given = [value if random.random() < 0.7 else random.choice(VALUES) for value in given[:count]]
    words = [*command.split(), *given]
    for option in random.sample(options, min(len(options), random.choice((0, 1, 1, 2, 3)))):
        words += [option, random.choice(VALUES)] if option not in ("--json", "--show-records") else [option]
    if random.random() < 0.15:
        words.insert(random.randrange(len(words) + 1), random.choice((*VALUES, "--help", "--nope", "--", "-", "-x")))
    if command == "run":
        words += ["--dry-run"]
    return argv(words)


def folder(random: Random, here: Path, base: Path) -> list[str]:
    """A finished run folder, altered, for every command that takes one."""
    run = here / "run"
    shutil.copytree(base / "run", run)
    alter(random, run)
    if random.random() < 0.25:
        with suppress(Exception):  # what is damaged already can be beyond reading
            alter(random, run)
    if random.random() < 0.5:
        reseal(run)
    (here / "small.toml").write_text(STUDY)
    network = ["dense", "imp-01"]
    return random.choice(
        (
            ["report", "run"],
            ["report", "run"],
            ["report", "run", "--json"],
            ["report", "run", "--show-records"],
            ["status", "run"],
            ["status", "run", "--json"],
            ["compare", "run", *network, "--attack", "loss"],
            ["compare", "run", "dense/target/0", "imp-01", "--attack", "loss", "--json"],
            ["merge", "m", "run"],
            ["merge", "run", "run"],
            ["export", "run", random.choice(network), "--to", "x.safetensors"],
            ["run", "small.toml", "--out", "run", "--budget", "4s"],
            ["run", "small.toml", "--out", "run", "--dry-run"],
            ["run", "small.toml", "--out", "r", "--reuse", "run", "--budget", "4s"],
            ["run", "small.toml", "--out", "r", "--reuse", "run", "--dry-run"],
        )
    )


def alter(random: Random, run: Path) -> None:
    """Change one file or folder of a run folder."""
    files = sorted(path for path in run.rglob("*") if regular(path) and path.suffix not in (".svg", ".html", ".md"))
    picked = random.choice(files)
    kind = random.randrange(10)
    if kind <= 4:
        documents = [
            path
            for path in files
            if path.suffix == ".json" and path.name not in ("tradeoff.json", "mechanism.json", "stability.json")
        ]
        picked = random.choice(documents)
        picked.write_bytes(json_text(random, picked.read_bytes()))
    elif kind <= 6:
        change(random, random.choice([path for path in files if path.suffix in (".npz", ".safetensors", ".toml")]))
    elif kind == 7:
        picked.write_bytes(damaged(random, picked.read_bytes()))
    else:
        displace(random, run, picked)


def change(random: Random, path: Path) -> None:
    """Change what a file of arrays, weights or a study holds."""
    if path.suffix == ".npz":
        with np.load(path) as read:
            arrays = {name: read[name] for name in read.files}
        if random.random() < 0.5:
            name = random.choice(list(arrays))
            arrays[name] = array(random, arrays[name])
            np.savez(path, **arrays)
        else:
            path.write_bytes(archive(random, arrays))
    elif path.suffix == ".toml":
        text = path.read_text()
        path.write_text(
            reworded(random, text) if random.random() < 0.5 else text.replace("2", literal(random), 1),
            "utf-8",
            "replace",
        )
    else:
        path.write_bytes(safetensors(random, path.read_bytes()))


def displace(random: Random, run: Path, path: Path) -> None:
    """Put something else where a file or a folder was."""
    if random.random() < 0.3:
        path = path.parent
        if path == run:
            path = run / "jobs"
    kind = random.randrange(9)
    saved = path.read_bytes() if path.is_file() else b""
    if kind == 0 and path.is_dir():
        path.rename(path.with_name(random.choice(("0" * 64, "x", "f" * 64, path.name.upper(), path.name[:-1]))))
        return
    if kind == 1:
        (path.parent if path.is_file() else path).joinpath(
            random.choice(("extra", "\x1b[2J", "job.json.bak", ".x.part"))
        ).write_text("x")
        return
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if kind == 2:
        path.mkdir()
    elif kind == 3:
        os.mkfifo(path)
    elif kind == 4:
        path.symlink_to(random.choice(("/dev/zero", "/dev/null", "nowhere", path.name, "../..", "/proc/self/mem", "/")))
    elif kind == 5:
        aside = run.parent / "outside"
        aside.write_bytes(saved)
        path.symlink_to(aside)
    elif kind == 6:
        path.write_bytes(b"")
    elif kind == 7:
        path.write_bytes(random.randbytes(1000))


def argv(words: list[str]) -> list[str]:
    """Words as a system can pass them: no zero byte, and none too long."""
    return [word.replace("\x00", "")[:100_000] for word in words]


METHODS: dict[str, tuple[int, Callable[[Random, Path, Path], list[str]]]] = {  # how often, in 100
    "study": (26, study),
    "audit": (22, audit),
    "model": (5, model),
    "data": (9, data),
    "argument": (12, argument),
    "folder": (26, folder),
}


def kind_of(seed: int, number: int) -> str:
    """The kind of an input."""
    return Random(f"kind {seed}:{number}").choices(list(METHODS), [share for share, _ in METHODS.values()])[0]


def make(seed: int, number: int, folder: Path, base: Path) -> list[str]:
    """Write the files of an input; returns the words of the command.

    Args:
        seed: of all inputs.
        number: of this one.
        folder: empty, becomes the working directory.
        base: holds ``run``, a finished run folder of `STUDY`, and ``weights.safetensors`` of `OWN`.
    """
    return METHODS[kind_of(seed, number)][1](Random(f"{seed}:{number}"), folder, base)
