"""Wrong optimisers, untrained levels and restored checkpoints are refused: a guard that would guard nothing."""

import copy
import warnings

import pytest
import torch
from guard_cases import all_zero, loss_of, make_batch, make_sgd, one_step, random_masks, small_network
from torch import nn
from torch.optim.swa_utils import AveragedModel

from lacewing.errors import UsageError
from lacewing.sparsify import Gradual, Guard, apply_masks, imp


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


class _Wrapper(torch.optim.Optimizer):
    """As accelerate and Opacus wrap: an Optimizer by class, whose constructor does not call torch's."""

    def __init__(self, optimizer, name):
        setattr(self, name, optimizer)
        self.inner = optimizer

    param_groups = property(lambda self: self.inner.param_groups)
    state = property(lambda self: self.inner.state)

    def zero_grad(self, set_to_none=True):
        self.inner.zero_grad(set_to_none)

    def step(self, closure=None):
        return self.inner.step()


class _Hidden:
    """A wrapper that is no Optimizer and hides its own under another name."""

    def __init__(self, optimizer):
        self.o = optimizer

    def zero_grad(self):
        self.o.zero_grad()

    def step(self):
        self.o.step()


class _SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation as people have it: an optimiser of its own that steps through another."""

    def __init__(self, parameters):
        super().__init__(parameters, {"rho": 0.05})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=0.1, momentum=0.9)
        self.param_groups = self.base_optimizer.param_groups

    def second_step(self):
        self.base_optimizer.step()


def _nested(optimizer):
    return _Wrapper(_Wrapper(optimizer, "original_optimizer"), "optimizer")


@pytest.mark.parametrize(
    "wrap", [lambda o: _Wrapper(o, "optimizer"), lambda o: _Wrapper(o, "original_optimizer"), _nested]
)
def test_wrapped_optimisers_are_unwrapped(wrap):
    model = small_network()
    masks, optimizer = random_masks(model), wrap(make_sgd(model))
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    for step in range(3):
        one_step(model, optimizer, step)
        assert all_zero(model, optimizer, masks)
    assert guard.step == 3


def test_an_optimiser_that_steps_through_another_is_watched_either_way():
    model = small_network()
    masks, optimizer = random_masks(model), _SAM(model.parameters())
    guard = Guard(model, masks=masks)
    guard.attach(optimizer)
    loss_of(model).backward()
    optimizer.second_step()
    assert guard.step == 1
    assert guard.trained
    assert all_zero(model, optimizer.base_optimizer, masks)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda o: _Hidden(o), "and this is a _Hidden; pass the torch.optim.Optimizer that is inside"),
        (lambda o: torch.optim.lr_scheduler.StepLR(o, 1), "and this is a StepLR; pass"),
        (lambda o: None, "and this is a NoneType; pass"),
        (lambda o: [o], r"not a list of them: guard\.attach\(\*optimizers\)"),
    ],
)
def test_what_is_no_optimiser_is_refused_with_the_mend(given, says):
    model = small_network()
    with pytest.raises(UsageError, match=says):
        Guard(model).attach(given(make_sgd(model)))


def test_no_optimiser_is_refused():
    with pytest.raises(UsageError, match="attach needs the optimiser that trains the model"):
        Guard(small_network()).attach()


@pytest.mark.parametrize("masked", [False, True])
def test_an_optimiser_of_other_parameters_is_refused_and_the_attached_one_stays(masked):
    model = small_network()
    masks = random_masks(model) if masked else {}
    guard, optimizer = Guard(model, masks=masks), make_sgd(model)
    guard.attach(optimizer)
    with pytest.raises(UsageError, match="holds no parameter of the guard's model: it was made from a copy"):
        guard.attach(make_sgd(copy.deepcopy(model)))
    one_step(model, optimizer)
    assert guard.step == 1
    assert all_zero(model, optimizer, masks)


def test_every_trainable_masked_weight_must_be_held_and_frozen_ones_need_not():
    model = small_network()
    head = torch.optim.SGD(model[4].parameters(), lr=0.1)
    guard = Guard(model, masks=random_masks(model))
    with pytest.raises(UsageError, match=r"does not hold '0\.weight', which is pruned: attach all optimisers"):
        guard.attach(head)
    model[0].weight.requires_grad = False
    guard.attach(head)
    loss_of(model).backward()
    head.step()
    assert all_zero(model, head, guard.masks)
    assert guard.step == 1


def test_masks_set_in_mid_training_need_a_held_weight():
    model = small_network()
    guard = Guard(model)
    guard.attach(torch.optim.SGD(model[4].parameters(), lr=0.1))
    with pytest.raises(UsageError, match=r"does not hold '0\.weight'"):
        guard.masks = random_masks(model)
    assert guard.masks == {}


def test_pruning_while_training_and_sequences_refuse_the_optimiser_before_the_first_step():
    model = small_network()

    def fit(model, guard):
        guard.attach(torch.optim.SGD(model[4].parameters(), lr=0.1))
        raise AssertionError("not refused")

    with pytest.raises(UsageError, match=r"does not hold '0\.weight'"):
        fit(model, Gradual(model, 0.5, begin=0, end=4, every=1))
    with pytest.raises(UsageError, match=r"does not hold '0\.weight'"):
        next(imp(model, fit, levels=1))
    with pytest.raises(AssertionError, match="not refused"):
        next(imp(model, fit, levels=1, ignore=["0"]))


def test_parameters_replaced_while_attached_are_told_at_the_end_of_the_epoch():
    model = small_network()
    guard = Guard(model)
    guard.attach(make_sgd(model))
    guard.epoch_end()
    model.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()}, assign=True)
    with pytest.raises(UsageError, match=r"replaced afterwards .*load_state_dict\(assign=True\)"):
        guard.epoch_end()


def test_sharded_parameters_are_refused():
    model = small_network()
    model[4].weight.to_local = None  # as DTensor has it
    with pytest.raises(UsageError, match=r"'4\.weight' is sharded \(FSDP"):
        Guard(model, masks=random_masks(model)).attach(make_sgd(model))


def _train(model, guard, epochs=2, of=None):
    optimizer = make_sgd(model)
    guard.attach(optimizer)
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss_of(of or model, epoch).backward()
        optimizer.step()
        guard.epoch_end()


def _never(model, guard):
    one_step(model, make_sgd(model))
    guard.epoch_end()


def _other_optimiser_steps(model, guard):
    guard.attach(make_sgd(model))
    _never(model, guard)


def _copy_is_trained(model, guard):
    _train(model, guard, of=copy.deepcopy(model))


def _start_restored(model, guard):
    start = copy.deepcopy(model.state_dict())
    _train(model, guard)
    model.load_state_dict(start)


def _frozen(model, guard):
    _train(model, guard)
    model.requires_grad_(False)


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize(
    ("fit", "says"),
    [
        (_never, r"^fit trained level {} without the guard: it must call guard\.attach"),
        (_other_optimiser_steps, "^no attached optimiser took a step at level {}, so nothing is trained"),
        (_copy_is_trained, "^fit changed no trainable weight at level {}: it must compute the loss with the model"),
        (_start_restored, "^fit changed no trainable weight at level {}"),
        (_frozen, "^fit changed no trainable weight at level {}"),
    ],
)
def test_a_level_that_is_not_trained_is_refused(fit, says, level):
    sequence = imp(small_network(), lambda m, g: (fit if g.masks or not level else _train)(m, g), levels=1)
    for _ in range(level):
        next(sequence)
    with pytest.raises(UsageError, match=says.format(level)):
        next(sequence)


def test_a_finished_network_may_be_loaded_by_who_says_so():
    model, finished = small_network(), small_network()
    _train(finished, Guard(finished))

    def fit(model, guard):
        if guard.masks:
            return _train(model, guard)
        model.load_state_dict(finished.state_dict())
        guard.trained = True
        return None

    assert [level.number for level in imp(model, fit, levels=1, rewind="init")] == [0, 1]


def test_a_dense_checkpoint_restored_at_the_end_is_named():
    best = {}

    def fit(model, guard):
        _train(model, guard)
        best.setdefault("state", copy.deepcopy(model.state_dict()))
        model.load_state_dict(best["state"])

    sequence = imp(small_network(), fit, levels=1)
    next(sequence)
    with pytest.raises(UsageError, match=r"weights of '0\.weight' are not zero: they were written after the last step"):
        next(sequence)


def test_the_best_epoch_of_the_same_level_may_be_restored():
    def fit(model, guard):
        _train(model, guard, epochs=1)
        best = copy.deepcopy(model.state_dict())
        _train(model, guard, epochs=2)
        model.load_state_dict(best)

    assert len(list(imp(small_network(), fit, levels=2))) == 3


def test_an_average_that_began_before_pruning_is_named_and_one_begun_anew_is_right():
    averages = []

    def fit(model, guard, anew):
        if anew or not averages:
            averages.append(AveragedModel(model))
        for _ in range(2):
            _train(model, guard, epochs=1)
            averages[-1].update_parameters(model)
        model.load_state_dict(averages[-1].module.state_dict())

    sequence = imp(small_network(), lambda m, g: fit(m, g, False), levels=1)
    next(sequence)
    with pytest.raises(UsageError, match=r"an average of weights \(EMA, SWA\) that began before pruning was restored"):
        next(sequence)
    assert len(list(imp(small_network(), lambda m, g: fit(m, g, True), levels=2))) == 3


class ModelEma(nn.Module):
    """As in timm."""

    def __init__(self, model, decay=0.5):
        super().__init__()
        self.module, self.decay = copy.deepcopy(model), decay

    @torch.no_grad()
    def update_parameters(self, model):
        for ours, theirs in zip(self.module.parameters(), model.parameters(), strict=True):
            ours.lerp_(theirs, 1 - self.decay)


@pytest.mark.parametrize("kind", [AveragedModel, ModelEma])
def test_an_average_beside_the_network_that_is_not_sparse_is_told_where_it_was_updated(kind):
    kept = []

    def fit(model, guard, anew):
        if anew or not kept:
            kept.append(kind(model))
        for _ in range(2):
            _train(model, guard, epochs=1)
            kept[-1].update_parameters(model)

    sequence = imp(small_network(), lambda m, g: fit(m, g, False), levels=1)
    next(sequence)
    with pytest.warns(
        UserWarning, match=rf"\({kind.__name__}\) holds values at pruned weights of '0\.weight', so that"
    ):
        next(sequence)
    kept.clear()
    for level in imp(small_network(), lambda m, g: fit(m, g, True), levels=2):  # one for each level: all are right
        assert all(not kept[-1].module.get_parameter(name)[~mask].any() for name, mask in level.masks.items())
    model = small_network()
    guard, average = Gradual(model, 0.5, begin=0, end=2, every=1), kind(model)
    for _ in range(3):
        _train(model, guard, epochs=1)
        average.update_parameters(model)
    with pytest.warns(UserWarning, match=r"use sparsify\.apply_masks\(average\.module, guard\.masks\)"):
        guard.check()
    apply_masks(average.module, guard.masks)
    guard.check()


def test_who_has_only_a_guard_may_ask_it():
    model = small_network()
    dense, masks = copy.deepcopy(model.state_dict()), random_masks(model)
    guard = Guard(model, masks=masks)
    with pytest.raises(UsageError, match=r"revived pruned weights of '0\.weight': fit must call"):
        guard.check()
    _train(model, guard)
    guard.check()
    model.load_state_dict(dense)
    with pytest.raises(UsageError, match="written after the last step"):
        guard.check()
    apply_masks(model, masks)
    guard.check()


def _accelerated(model):
    accelerate = pytest.importorskip("accelerate")
    model, optimizer = accelerate.Accelerator(cpu=True).prepare(model, make_sgd(model))
    return model, optimizer


def _private(model):
    opacus = pytest.importorskip("opacus")
    model, optimizer, _ = opacus.PrivacyEngine().make_private(
        module=model,
        optimizer=make_sgd(model),
        data_loader=torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*make_batch()), batch_size=4),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=False,
    )
    return model, optimizer


@pytest.mark.parametrize("wrap", [_accelerated, _private])
def test_the_optimisers_of_accelerate_and_opacus_keep_zeros(wrap):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
        masks = random_masks(model)
        wrapped, optimizer = wrap(model)
        guard = Guard(model, masks=masks)
        guard.attach(optimizer)
        before = model[3].bias.clone()
        for step in range(3):
            one_step(wrapped, optimizer, step)
            assert all_zero(model, optimizer, masks)
    assert guard.step == 3
    assert not torch.equal(model[3].bias, before)


def test_a_level_of_which_biases_alone_were_trained_is_refused():
    def fit(model, guard):
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name.endswith("bias")
        guard.attach(torch.optim.SGD(model.parameters(), lr=0.1))
        x, y = make_batch()
        for parameter in model.parameters():
            parameter.grad = None
        nn.functional.cross_entropy(model(x), y).backward()
        guard._optimizers[0].step()
        guard.epoch_end()

    with pytest.raises(UsageError, match="none of the weights that are pruned at level 0"):
        next(imp(small_network(), fit, levels=2))
