"""Every way to rewind: weights, buffers, optimiser and the place in the schedule."""

import pytest
import torch
from guard_cases import (
    make_sgd,
    one_step,
    random_masks,
    same_bits,
    small_network,
    state_bits,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lacewing.errors import UsageError
from lacewing.sparsify.guard import Guard, Rewind


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


FORMS = {  # weights, schedule, unit, at
    "init": ("point", "start", "step", 0),
    "epoch 0": ("point", "start", "step", 0),
    "step 0": ("point", "start", "step", 0),
    "epoch 0 resumed": ("point", "start", "step", 0),
    "epoch 1": ("point", "start", "epoch", 1),
    "epoch 12": ("point", "start", "epoch", 12),
    "step 500": ("point", "start", "step", 500),
    "epoch 1 resumed": ("point", "point", "epoch", 1),
    "step 500 resumed": ("point", "point", "step", 500),
    "learning-rate": ("keep", "start", "step", 0),
    "learning-rate epoch 0": ("keep", "start", "step", 0),
    "learning-rate epoch 10": ("keep", "point", "epoch", 10),
    "learning-rate step 10": ("keep", "point", "step", 10),
    "none": ("keep", "end", "step", 0),
}


@pytest.mark.parametrize("text", FORMS)
def test_each_rewind_says_what_goes_back(text):
    assert Rewind.parse(text) == Rewind(*FORMS[text])


INVALID = ["", "epoch", "epoch -1", "step 1.5", "learning-rate epoch 2 resumed", "init resumed", "Epoch 1"]
INVALID += ["epoch  1", " none", "none ", "epoch 1\n", "epochs 1", "epoch 1 Resumed", "learning-rate  epoch 1"]
INVALID += ["learning-rate none", "none resumed", "resumed", "step", "epoch one", "epoch 1 step 2", "learning rate"]


@settings(max_examples=30, deadline=None)
@given(
    st.one_of(
        st.sampled_from(INVALID),
        st.text(max_size=12).filter(lambda text: text not in FORMS and not text.startswith(("epoch ", "step "))),
        st.tuples(st.sampled_from(["epoch", "step"]), st.integers(max_value=-1)).map(lambda t: f"{t[0]} {t[1]}"),
    )
)
def test_any_other_rewind_is_refused_in_one_sentence(text):
    with pytest.raises(UsageError) as found:
        Rewind.parse(text)
    assert str(found.value) == (
        f"rewind {text!r} must be 'init', 'epoch K', 'step K' (each K also with ' resumed'), 'learning-rate', "
        "'learning-rate epoch K', 'learning-rate step K' or 'none'."
    )


@pytest.mark.parametrize("text", INVALID)
def test_a_guard_refuses_a_rewind_that_means_nothing(text):
    with pytest.raises(UsageError, match="must be 'init'"):
        Guard(small_network(), text)


def _fit(model, guard, epochs=3, steps=2):
    """Train from where the guard says; the state after each (epoch, step), also in mid-epoch."""
    optimizer = make_sgd(model)
    guard.attach(optimizer)
    states = {(guard.epoch, guard.step): state_bits(model)}
    while guard.epoch < epochs:
        for _ in range(guard.step - guard.epoch * steps, steps):
            one_step(model, optimizer, guard.step)
            states[guard.epoch, guard.step] = state_bits(model)
        guard.epoch_end()
        states[guard.epoch, guard.step] = state_bits(model)
    guard.detach()
    return states


REWINDS = {  # where weights and schedule go, in a training of three epochs of two steps
    "init": ((0, 0), (0, 0)),
    "epoch 0": ((0, 0), (0, 0)),
    "epoch 1": ((1, 2), (0, 0)),
    "epoch 3": ((3, 6), (0, 0)),
    "epoch 2 resumed": ((2, 4), (2, 4)),
    "step 1": ((0, 1), (0, 0)),
    "step 2": ((0, 2), (0, 0)),
    "step 3": ((1, 3), (0, 0)),
    "step 3 resumed": ((1, 3), (1, 3)),
    "step 5 resumed": ((2, 5), (2, 5)),
    "learning-rate": (None, (0, 0)),
    "learning-rate epoch 2": (None, (2, 4)),
    "learning-rate step 3": (None, (1, 3)),
    "none": (None, (3, 6)),
}


@pytest.mark.parametrize("text", REWINDS)
def test_rewinding_restores_every_bit_and_the_place_in_the_schedule(text):
    weights, schedule = REWINDS[text]
    model = small_network()
    guard = Guard(model, text)
    states = _fit(model, guard)
    assert model[1].num_batches_tracked == 6
    wanted = states[weights or (3, 6)]
    for seed in range(2):  # and a second time, from a training that did not pass all of the first one's places
        guard.masks = random_masks(model, seed=seed)
        if weights is None:
            wanted = state_bits(model)
        guard.rewind()
        kept = {k: torch.where(guard.masks[k], v, 0) if k in guard.masks else v for k, v in wanted.items()}
        assert same_bits(state_bits(model), kept)
        assert model[1].num_batches_tracked.dtype == torch.int64
        assert (guard.epoch, guard.step) == schedule
        assert next(iter(_fit(model, guard))) == schedule
        assert (guard.epoch, guard.step) == (3, 6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch 4", "epoch 4"),
        ("step 7", "step 7"),
        ("step 9 resumed", "step 9"),
        ("learning-rate epoch 4", "epoch 4"),
        ("learning-rate step 7", "step 7"),
    ],
)
def test_a_rewind_point_that_training_never_reached_is_refused(text, said):
    model = small_network()
    guard = Guard(model, text)
    _fit(model, guard)
    with pytest.raises(UsageError, match=f"^the rewind point, {said}, was never reached: the training function must"):
        guard.rewind()
    assert (guard.epoch, guard.step) == (3, 6)


def test_the_rewind_point_is_not_moved_by_later_trainings_nor_by_what_happens_to_the_model():
    model = small_network()
    guard = Guard(model, "step 3")
    _fit(model, guard)
    origin, at = {name: t.clone() for name, t in guard.origin.items()}, guard.origin_at
    guard.rewind()
    guard.masks = random_masks(model)
    _fit(model, guard)
    assert same_bits(guard.origin, origin)
    assert guard.origin_at == at == (1, 3)


def test_a_sequence_that_goes_on_elsewhere_needs_only_the_origin_when_its_schedule_starts_again():
    first = Guard(small_network(), "epoch 1")
    _fit(first.model, first)
    other = Guard(small_network(), "epoch 1")
    other.origin, other.masks = first.origin, random_masks(other.model)
    for _ in range(2):  # the second training of the other passes epoch 1, which is not its rewind point
        other.rewind()
        kept = {k: torch.where(other.masks[k], v, 0) if k in other.masks else v for k, v in first.origin.items()}
        assert same_bits(state_bits(other.model), kept)
        _fit(other.model, other)


@pytest.mark.parametrize("text", [t for t in REWINDS if t != "none"])
def test_a_guard_in_another_process_rewinds_as_the_first_would(text):
    first = Guard(small_network(), text)
    _fit(first.model, first)
    masks, trained = random_masks(first.model), state_bits(first.model)
    first.masks = masks
    other = Guard(small_network(), text)
    other.model.load_state_dict(trained)
    other.masks, other.origin, other.origin_at = masks, first.origin, first.origin_at
    for guard in (first, other):
        guard.rewind()
    assert same_bits(state_bits(first.model), state_bits(other.model))
    assert (first.epoch, first.step) == (other.epoch, other.step) == REWINDS[text][1]
    for guard in (first, other):
        _fit(guard.model, guard)
    assert same_bits(state_bits(first.model), state_bits(other.model))


def test_a_learning_rate_rewound_to_init_is_no_form():
    with pytest.raises(UsageError, match="must be 'init'"):
        Rewind.parse("learning-rate init")


class _Counted(nn.Linear):
    """A layer that has a buffer outside its state dict, and a state of its own that is no tensor."""

    def __init__(self, *, buffer=False, extra=False):
        super().__init__(2, 2)
        self.extra, self.calls = extra, 0
        if buffer:
            self.register_buffer("seen", torch.zeros(1), persistent=False)

    def get_extra_state(self):
        return {"calls": self.calls} if self.extra else torch.zeros(0)

    def set_extra_state(self, state):
        if self.extra:
            self.calls = state["calls"]


def test_buffers_outside_the_state_dict_are_rewound_too():
    model = _Counted(buffer=True)
    guard = Guard(model, "init")
    model.seen.add_(1)
    guard.rewind()
    assert not model.seen.any()


def test_a_state_that_is_no_tensor_is_rewound_too():
    model = _Counted(extra=True)
    guard = Guard(model, "init")
    model.calls = 3
    guard.rewind()
    assert model.calls == 0
