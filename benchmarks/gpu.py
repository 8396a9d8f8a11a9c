"""Everything that only a GPU can tell, in one command of eight minutes: what works, what is fastest, how fast.

    python benchmarks/gpu.py [--minutes 8] [--out runs/gpu] [--data-root DIR] [--quick]

In this order, each in processes of its own with a limit of time: the tests that need a GPU, the routes of `lacewing
bench train`, `lacewing bench butterfly` in bf16 and fp32 (cuSPARSE CSR and BSR, 2:4, our kernels), and a slice of the
study `paper` (CIFAR-10 under --data-root) by the fastest route, for as long as is left. A step that fails, hangs or
gets no time costs the others nothing: what is not used of its limit goes to those after it. The folder holds
summary.json and summary.md, written anew after each step, and the output of each. ``--quick`` is a tiny form on the
CPU with the study `digits`. The exit code is 1 if a step failed.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _steps import Ended, limited

ROOT = Path(__file__).resolve().parents[1]
LEAST = 5.0  # seconds with which a step is begun
RESERVE = 10.0  # seconds of all that no step gets: to end what hangs and to write
SHARES = {"tests": 0.25, "routes": 0.35, "butterfly-bf16": 0.12, "butterfly-fp32": 0.1, "study": 1.0}  # of all, at most
TINY = {"tests": 0.3, "routes": 0.25, "butterfly-bf16": 0.15, "butterfly-fp32": 0.15, "study": 0.15}
# Routes in the order of what they tell: whose loop, way, networks at once, precision. The first two are held against.
ROUTES = [
    ("plain", "ready", 1, "fp32"),
    ("lacewing", "eager", 1, "bf16"),
    ("lacewing", "graph", 1, "bf16"),
    ("lacewing", "graph", 2, "bf16"),
    ("lacewing", "compiled-graph", 1, "bf16"),
    ("lacewing", "compiled-graph", 2, "bf16"),
    ("lacewing", "graph", 4, "bf16"),
    ("lacewing", "compiled", 1, "bf16"),
    ("lacewing", "graph", 1, "fp32"),
    ("lacewing", "eager", 1, "fp32"),
    ("plain", "loader", 1, "fp32"),
]


@dataclass
class Step:
    """What a step did; ``result``: ok, failed, or no time left."""

    name: str
    limit: float
    seconds: float = 0.0
    result: str = "ok"
    why: str = ""
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """Where and how large: ``window`` seconds of each route, ``sizes`` of layers."""

    device: str
    out: Path
    data_root: Path | None
    window: float
    routes: Sequence[tuple[str, str, int, str]]
    butterfly: Sequence[str]
    study: str

    def lacewing(self, *words: str) -> list[str]:
        """A command of the package."""
        return [sys.executable, "-m", "lacewing", *words]


Do = Callable[[Setting, Step, Mapping[str, Step]], None]


def perform(
    setting: Setting,
    steps: Mapping[str, Do],
    seconds: float,
    shares: Mapping[str, float],
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Step]:
    """Do the steps in order within ``seconds``; each gets its share of them or what is left, if that is less."""
    begun, done = clock(), dict[str, Step]()
    for name, do in steps.items():
        left = seconds - RESERVE - (clock() - begun)
        step = done[name] = Step(name, max(0.0, min(left, shares[name] * seconds)))
        print(f"{name}: at most {step.limit:.0f} s", file=sys.stderr, flush=True)
        start = clock()
        if step.limit < LEAST:
            step.result, step.why = "no time left", f"{step.limit:.0f} s were left"
        else:
            try:
                do(setting, step, done)
            except Exception as error:  # what one step meets must not end the others
                step.result, step.why = "failed", " ".join(f"{type(error).__name__}: {error}".split())
        step.seconds = round(clock() - start, 1)
        print(f"{name}: {step.result} {step.why}", file=sys.stderr, flush=True)
        write(setting, done)
    return done


def ended(step: Step, how: Ended, also_good: Sequence[int] = ()) -> None:
    """Note how the command of a step ended."""
    if how.failed and how.code not in also_good:
        step.result, step.why = "failed", how.failed


def tests(setting: Setting, step: Step, _: Mapping[str, Step]) -> None:
    """Those with the marker gpu; on a GPU none may be skipped for want of one, so that at least one must pass."""
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    log = setting.out / "tests.txt"
    # No plugin of the environment: a verbose line a test stands in the log even if a later one hangs.
    command = [sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-p", "no:cacheprovider", *files]
    how = limited(command, log, step.limit, folder=ROOT)
    words = re.findall(r"^\S+::.* (PASSED|FAILED|ERROR|SKIPPED)\b", log.read_text("utf-8", "replace"), re.MULTILINE)
    step.found = {word.lower(): words.count(word) for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")}
    ended(step, how)
    if step.result == "ok" and setting.device == "cuda" and not step.found["passed"]:
        step.result, step.why = "failed", "no test ran: is there a GPU?"


def routes(setting: Setting, step: Step, _: Mapping[str, Step]) -> None:
    """Images/s of each route, while time is left; one that fails is left out with its reason."""
    until = time.monotonic() + step.limit
    rates, missing = step.found.setdefault("rates", {}), step.found.setdefault("missing", {})
    for number, route in enumerate(setting.routes):
        name = " ".join(map(str, route))
        left = until - time.monotonic()
        if left < setting.window + LEAST:
            missing[name] = "no time left"
            continue
        log = setting.out / f"route-{number:02}.txt"
        command = [sys.executable, str(Path(__file__)), "--route", name, "--device", setting.device]
        command += ["--window", str(setting.window)]
        patience = setting.window + 90 if setting.device == "cuda" else left  # a CPU may be busy with other work
        how = limited(command, log, min(left, patience), folder=setting.out)
        found = re.search(r"^rate: ([0-9.]+)$", log.read_text("utf-8", "replace"), re.MULTILINE)
        if how.failed or found is None:
            missing[name] = how.failed or "it printed no rate"
        else:
            rates[name] = float(found[1])
    if not rates:
        step.result, step.why = "failed", "no route was measured"


def measure_route(text: str, device: str, window: float) -> None:
    """In a process of its own: print the images/s of one route."""
    from lacewing.bench import _train
    from lacewing.support.machine import usable_cores

    loop, way, networks, precision = text.split()
    threads = usable_cores() if loop == "plain" else 1
    side = _train._Side(loop, way, int(networks), precision, threads)  # type: ignore[arg-type]
    print(f"rate: {_train._window(side, device, window):.1f}", flush=True)


def butterfly(precision: str) -> Do:
    """`lacewing bench butterfly` in one precision: a folder of its results, and each way's time against dense."""

    def do(setting: Setting, step: Step, _: Mapping[str, Step]) -> None:
        place = setting.out / f"butterfly-{precision}"
        words = ["bench", "butterfly", "--device", setting.device, "--dtype", precision, "--out", str(place)]
        command = setting.lacewing(*words, *setting.butterfly)
        ended(step, limited(command, setting.out / f"{place.name}.txt", step.limit, folder=setting.out))
        if step.result == "ok":
            rows = json.loads((place / "butterfly.json").read_text("utf-8"))["linear"]
            keys = ("n", "batch", "passes", "way", "ratio", "of_roofline", "missing")
            step.found = {"rows": [{key: row[key] for key in keys} for row in rows]}

    return do


def study(setting: Setting, step: Step, done: Mapping[str, Step]) -> None:
    """A slice of a study until the time is over, and how far it came; the folder itself is not kept."""
    way = fastest(done) if setting.device == "cuda" else "eager"
    with tempfile.TemporaryDirectory(prefix="gpu-study-") as place:
        run = str(Path(place) / "run")
        words = ["--only", "role=target,seed=0", "--keep", "signals", "--device", setting.device, "--out", run]
        if setting.data_root is not None:
            words += ["--data-root", str(setting.data_root.resolve())]
        budget = step.limit - 45 if step.limit > 90 else step.limit / 2  # it starts, and stops at an epoch's end
        if setting.device == "cpu":
            words += ["--set", "train.epochs=1"]
        command = setting.lacewing("run", setting.study, *words, "--budget", f"{budget:.0f}s")
        log = setting.out / "study.txt"
        how = limited(command, log, step.limit - 1, folder=Path(place), environment={"LACEWING_STEPS": way})
        ended(step, how, also_good=(75,))  # the budget is spent
        told = setting.out / "study.json"
        limited(setting.lacewing("status", run, "--json"), told, 60, folder=Path(place))
    step.found = {"study": setting.study, "way": way, "budget": round(budget)}
    if step.result == "ok":
        step.found |= {key: json.loads(told.read_text("utf-8"))[key] for key in ("networks", "epochs")}


def fastest(done: Mapping[str, Step]) -> str:
    """The way of LACEWING_STEPS with the most images/s of one network, if the tests of them passed; else eager."""
    if "tests" not in done or done["tests"].result != "ok" or "routes" not in done:
        return "eager"
    rates = done["routes"].found.get("rates", {})
    ours = {name.split()[1]: rate for name, rate in rates.items() if re.fullmatch(r"lacewing \S+ 1 bf16", name)}
    return max(ours, key=lambda way: ours[way]) if ours else "eager"


STEPS: dict[str, Do] = {
    "tests": tests,
    "routes": routes,
    "butterfly-bf16": butterfly("bf16"),
    "butterfly-fp32": butterfly("fp32"),
    "study": study,
}


def machine(device: str) -> dict[str, str]:
    """What was measured: the device, torch, and the system."""
    import torch

    found = {"device": device, "torch": torch.__version__, "system": f"{platform.system()} {platform.machine()}"}
    if device == "cuda":
        found |= {"name": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    else:
        from lacewing.bench._machine import processor

        found["name"] = processor()
    return found


def write(setting: Setting, done: Mapping[str, Step]) -> None:
    """summary.json and summary.md of what is done so far."""
    from lacewing.support.files import write_atomically

    about = machine(setting.device)
    document = {"schema": 1, "machine": about, "steps": [asdict(step) for step in done.values()]}
    write_atomically(setting.out / "summary.json", json.dumps(document, indent=1) + "\n")
    write_atomically(setting.out / "summary.md", "\n".join(page(about, done)) + "\n")


def page(about: Mapping[str, str], done: Mapping[str, Step]) -> Iterator[str]:
    """The summary as Markdown, with a table of steps and of what each found."""
    yield from ["# Measured on a GPU" if about["device"] == "cuda" else "# The GPU command in its form on a CPU", ""]
    yield from [", ".join(f"{key} {value}" for key, value in about.items()), ""]
    yield from ["| step | result | seconds | limit |", "|---|---|---|---|"]
    for step in done.values():
        told = f"{step.result}: {step.why}" if step.why else step.result
        yield f"| {step.name} | {told} | {step.seconds:.0f} | {step.limit:.0f} |"
    if "tests" in done and done["tests"].found:
        yield from ["", "Tests: " + ", ".join(f"{count} {word}" for word, count in done["tests"].found.items()) + "."]
    if "routes" in done and (rates := done["routes"].found.get("rates")):
        plain = next((rate for name, rate in rates.items() if name.startswith("plain ready")), None)
        yield from ["", "| route of ResNet-20 | images/s | / plain loop |", "|---|---|---|"]
        for name, rate in rates.items():
            yield f"| {name} | {rate:,.0f} | {'-' if plain is None else f'{rate / plain:.2f}'} |"
        yield from (f"\nNot measured: {name}: {why}." for name, why in done["routes"].found["missing"].items())
    for name, step in done.items():
        if rows := step.found.get("rows"):
            yield from ["", f"| {name}: way | pass | n | batch | time / dense | of roofline |", f"|{'---|' * 6}"]
            for row in rows:
                times = ("-", row["missing"] or "-")
                if row["ratio"] is not None:
                    times = f"{row['ratio']:.2f}", f"{row['of_roofline']:.0%}"
                yield f"| {row['way']} | {row['passes']} | {row['n']} | {row['batch']} | {' | '.join(times)} |"
    if "study" in done and "epochs" in (found := done["study"].found):
        epochs = f"{found['epochs']['done']:,} of {found['epochs']['planned']:,} epochs"
        yield f"\n{found['study']}, steps {found['way']}: {epochs} in {found['budget']} s."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="a folder for the results")
    parser.add_argument("--data-root", type=Path, help="where CIFAR-10 lies")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a tiny form on the CPU")
    parser.add_argument("--route", help=argparse.SUPPRESS)
    parser.add_argument("--window", type=float, default=4.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.route is not None:
        measure_route(given.route, given.device, given.window)
        return
    if given.quick:
        given.device, given.minutes = "cpu", 45.0  # at most: a minute or two where nothing else runs
    if not 0.5 <= given.minutes <= 60:
        parser.error("--minutes must be 0.5 to 60")
    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use; --quick is a tiny form on the CPU")
    given.out.mkdir(parents=True, exist_ok=True)
    tiny = given.device == "cpu"
    layers = ["--sizes", "64", "--batches", "4", "--seconds", "0.01"]
    setting = Setting(
        given.device,
        given.out.resolve(),
        given.data_root,
        window=20.0 if tiny else given.window,
        routes=[("lacewing", "eager", 1, "fp32")] if tiny else ROUTES,
        butterfly=["--no-networks", *(layers if tiny else ["--sizes", "1024,4096", "--batches", "64,1024,16384"])],
        study="digits" if tiny else "paper",
    )
    done = perform(setting, STEPS, 60 * given.minutes, TINY if tiny else SHARES)
    print((given.out / "summary.md").read_text("utf-8"))
    sys.exit(any(step.result == "failed" for step in done.values()))


if __name__ == "__main__":
    main()
