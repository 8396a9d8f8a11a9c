"""The recipe of a training function: what changes it, what does not, and what cannot be identified."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import textwrap
import threading
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from lacewing.auditing._recipe import recipe

FILES = {
    "__init__": "",
    "main": """
        import functools, logging
        import numpy as np
        from torch import nn
        from . import helper
        from .helper import scaled

        LOG = logging.getLogger(__name__)
        RATE, NAMES, WEIGHT = 0.1, {"a", "b", "c", "d"}, np.arange(3)
        LOSS = nn.CrossEntropyLoss(label_smoothing=0.1)

        class Net(nn.Module):
            width = 8

            def forward(self, x):
                return x * self.width

        class Trainer:
            def __init__(self, epochs):
                self.epochs = epochs

            def __call__(self, x, y, seed):
                return Net(), self.epochs

            def fit(self, x, y, seed):
                return self.epochs + 1

        def even(n):
            return n == 0 or odd(n - 1)

        def odd(n):
            return n != 0 and even(n - 1)

        def inner(x, seed, step=3, *, decay=0.5):
            LOG.info("step")
            return [x * RATE + step * decay for _ in range(seed) if x in {1, 2}], NAMES, WEIGHT, LOSS

        def refit(x, y, seed):
            from . import lazy
            return inner(x, seed), Net(), even(seed), helper.EPOCHS, scaled(x), lazy

        def unrelated():
            return 1

        forms = [refit, functools.partial(refit, seed=3), Trainer(5), Trainer(5).fit]
    """,
    "helper": """
        EPOCHS = 3

        def scaled(x):
            return 2 * x
    """,
    "lazy": "from . import other",
    "other": "DEPTH = 2",
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Imports the package above, with changes (module, from, to), each time from a new folder."""
    count = 0

    def made(*changes):
        nonlocal count
        count += 1
        files = dict(FILES)
        for module, before, after in changes:
            assert before in files[module]
            files[module] = files[module].replace(before, after)
        folder = tmp_path / str(count) / "own_recipe"
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        for name in [name for name in sys.modules if name.startswith("own_recipe")]:
            del sys.modules[name]
        monkeypatch.syspath_prepend(folder.parent)
        return importlib.import_module("own_recipe.main")

    yield made
    for name in [name for name in sys.modules if name.startswith("own_recipe")]:
        del sys.modules[name]


def identified(function):
    digest, unknown = recipe(function)
    assert unknown == ()
    return digest


@pytest.mark.parametrize(
    ("change", "forms"),
    [
        (("main", "RATE, NAMES, WEIGHT = 0.1", "RATE, NAMES, WEIGHT = 0.2"), "refit partial"),
        (("main", '"d"}', '"e"}'), "refit partial"),
        (("main", "np.arange(3)", "np.arange(3) + 1"), "refit partial"),
        (("main", "label_smoothing=0.1", "label_smoothing=0.2"), "refit partial"),
        (("main", "{1, 2}", "{1, 3}"), "refit partial"),
        (("main", "step=3", "step=4"), "refit partial"),
        (("main", "decay=0.5", "decay=0.6"), "refit partial"),
        (("main", "n == 0 or", "n == 1 or"), "refit partial"),
        (("main", "n != 0 and", "n != 1 and"), "refit partial"),
        (("main", "even(seed)", "odd(seed)"), "refit partial"),
        (("main", "width = 8", "width = 9"), "refit partial object method"),
        (("main", "x * self.width", "x + self.width"), "refit partial object method"),
        (("main", "seed=3)", "seed=4)"), "partial"),
        (("main", "Trainer(5)", "Trainer(6)"), "object method"),
        (("main", "self.epochs + 1", "self.epochs + 2"), "object method"),
        (("helper", "EPOCHS = 3", "EPOCHS = 4"), "refit partial"),
        (("helper", "2 * x", "3 * x"), "refit partial"),
        (("other", "DEPTH = 2", "DEPTH = 3"), "refit partial"),
        (("main", "def refit", "# moved\n\n        def refit"), ""),
        (("main", "return 1", "return 2"), ""),
        (("helper", "EPOCHS = 3", "EPOCHS = 3  # enough"), ""),
        (("lazy", "from", "# all of it\nfrom"), ""),
    ],
)
def test_a_change_of_what_training_depends_on_changes_the_recipe_and_no_other_does(load, change, forms):
    before, after = ([identified(form) for form in load(*changes).forms] for changes in ((), (change,)))
    changed = [
        name for name, a, b in zip(("refit", "partial", "object", "method"), before, after, strict=True) if a != b
    ]
    assert changed == forms.split()


def test_what_was_set_at_run_time_counts_and_what_was_run_does_not(load):
    main = load()
    before = identified(main.refit)
    for _ in range(100):  # the interpreter specialises code that runs often
        main.refit(1, 2, 3)
    assert identified(main.refit) == before
    main.helper.EPOCHS = 30
    assert identified(main.refit) != before


def plain(x, y, seed): ...


def wrapped(epochs):
    @functools.wraps(plain)
    def refit(x, y, seed):
        return epochs

    return refit


def closed(epochs):
    return lambda x, y, seed: epochs


def defaulted(epochs):
    return lambda x, y, seed, epochs=epochs: epochs


def decorated(epochs):
    @torch.no_grad()
    def refit(x, y, seed):
        return epochs

    return refit


def cached(epochs):
    return functools.cache(closed(epochs))


def attributed(epochs):
    def refit(x, y, seed):
        return refit.epochs

    refit.epochs = epochs
    return refit


class Own:
    def __init__(self, epochs):
        self.settings = {"epochs": [epochs]}

    def fit(self, x, y, seed):
        return self.settings


def method(epochs):
    return Own(epochs).fit


@pytest.mark.parametrize("form", [wrapped, closed, defaulted, decorated, cached, attributed, method])
def test_two_functions_of_one_source_that_hold_other_values_are_told_apart(form):
    values = [
        1,
        2,
        1.0,
        True,
        "1",
        b"1",
        None,
        (1,),
        [1],
        {1},
        {"a": 1},
        np.float32(1),
        np.ones(1),
        torch.ones(1),
        torch.float16,
    ]
    found = [identified(form(value)) for value in values]
    assert len(set(found)) == len(values)
    assert found == [identified(form(value)) for value in values]


def test_a_wrapper_is_not_the_function_that_it_names():
    assert len({identified(f) for f in (plain, wrapped(1), functools.partial(plain))}) == 3


def test_what_holds_itself_comes_to_an_end():
    loop: list[object] = [1]
    loop.append(loop)
    other: list[object] = [2]
    other.append(other)
    assert identified(closed(loop)) != identified(closed(other))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nn.Linear(2, 2), "a Linear"),
        (lambda: torch.optim.SGD(nn.Linear(2, 2).parameters()), "a SGD"),
        (lambda: (each for each in "ab"), "a generator"),
        (lambda: threading.Lock(), "a lock"),
        (lambda: open(os.devnull), "a TextIOWrapper"),  # noqa: PTH123, SIM115
    ],
)
def test_what_cannot_be_identified_is_named(make, says):
    epochs = make()
    assert recipe(closed(epochs))[1] == (f"'epochs' ({says})",)
    assert recipe(method(epochs))[1] == (f"'refit.settings['epochs']' ({says})",)
    if hasattr(epochs, "close"):
        epochs.close()


def test_every_process_finds_the_same_recipes(load):
    main = load()
    program = (
        "from own_recipe import main; from lacewing.auditing._recipe import recipe; "
        "print(*(recipe(form)[0] for form in main.forms))"
    )
    path = os.pathsep.join([os.path.dirname(os.path.dirname(main.__file__)), *filter(None, sys.path)])  # noqa: PTH120
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [identified(form) for form in main.forms]


def test_values_of_every_kind_differ_from_each_other():
    values = [
        0,
        0.0,
        -0.0,
        "",
        b"",
        (),
        [],
        {},
        set(),
        None,
        np.zeros(0),
        np.zeros(1),
        np.zeros(1, np.int64),
        [[]],
        [()],
    ]
    found = [identified(closed(value)) for value in values]
    assert all(a != b for a, b in combinations(found, 2))


INSIDE = {
    "import m": "import {m}; return {m}.RATE",
    "import m as s": "import {m} as s; return s.RATE",
    "import p.m": "import {p}.inside; return {p}.inside.RATE",
    "import p.m as s": "import {p}.inside as s; return s.RATE",
    "from p import m": "from {p} import inside; return x, inside.RATE",
    "from m import name": "from {p}.inside import OTHER as o, RATE as r; return r",
    "in a function inside": "from {p} import inside; return [inside.RATE for _ in range(3)], lambda: inside.RATE",
    "handed about": "from {p} import inside; return vars(inside)",
}


@pytest.mark.parametrize("code", INSIDE.values(), ids=INSIDE.keys())
def test_what_is_read_of_a_module_that_refit_imports_itself_counts_as_it_is_now(code, tmp_path, monkeypatch):
    package, alone = f"pkg_{tmp_path.name}", f"alone_{tmp_path.name}"
    (tmp_path / package).mkdir()
    source = "RATE, OTHER, CALLS = 1, 2, []\n"
    for place in (tmp_path / package / "__init__.py", tmp_path / package / "inside.py", tmp_path / f"{alone}.py"):
        place.write_text("" if place.stem == "__init__" else source)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = {"__name__": "__main__"}
    exec(f"def refit(x, y, seed):\n    {code.format(m=alone, p=package)}\n", known)
    before, unknown = recipe(known["refit"])  # the modules were never imported
    assert unknown == ()
    for name in (alone, f"{package}.inside"):
        module = importlib.import_module(name)
        assert recipe(known["refit"])[0] == before
        if "vars" not in code:
            module.CALLS.append(1)  # what refit does not read
            assert recipe(known["refit"])[0] == before
    for name in (alone, f"{package}.inside"):
        sys.modules[name].RATE = 5
    assert recipe(known["refit"])[0] != before


def reading(thing):
    return lambda x, y, seed: thing.rate


def test_what_an_object_hides_from_pickle_counts():
    class Hides:
        __slots__ = ("rate",)

        def __init__(self, rate):
            self.rate = rate

        def __getstate__(self):
            return {}

    class Reduces(Hides):
        def __reduce__(self):
            return Reduces, (1,)

    for kind in (Hides, Reduces):
        assert recipe(reading(kind(1)))[0] == recipe(reading(kind(1)))[0] != recipe(reading(kind(2)))[0]
    assert recipe(reading(Hides(threading.Lock())))[1] == ("'thing.rate' (a lock)",)


def test_global_settings_of_torch_count():
    def refit(x, y, seed):
        return nn.Linear(2, 2)

    before = recipe(refit)[0]
    try:
        torch.set_default_dtype(torch.float64)
        assert recipe(refit)[0] != before
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(True)
        assert recipe(refit)[0] != before
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
    assert recipe(refit)[0] == before
