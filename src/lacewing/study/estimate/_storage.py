"""What a study writes for good, and what its attacks load: counted from the plan, before anything is trained."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from lacewing import attribute
from lacewing.bench._measure import bytes_of
from lacewing.sparsify.masks import plain_weights
from lacewing.study.estimate._calibrate import Kind
from lacewing.study.jobs import rewinds
from lacewing.study.plan import AttackJob, NetworkJob, asked
from lacewing.study.prepared import Prepared

_HEADER = 128  # bytes of an array's file before its numbers
_PLAIN = (1, 1, 1, 4, 4, 4)  # a record: part, member, audited, label, id, sensitivity; see `jobs._observe`
_LOGIT = 2  # bytes, as phi


class Storage:
    """Bytes that a study's networks take, all of its slice but those of [property]."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared, self._models = prepared, dict[Kind, nn.Module]()

    def as_dict(self) -> dict[str, int]:
        """What stays on disk when all networks are trained, and what attacks load of it.

        ``signals_each``: all that a network answered, the largest of them. Uncompressed: files are compressed, and so
        smaller. ``signals``: of all networks. ``weights``: of all networks, with masks and rewind points; ``--keep
        signals`` removes them. ``attack``: what the attack that reads most loads at once.
        """
        plan = self._prepared.slice
        each = [self.signals(job) for job in plan.audited]
        heads = {sequence[0].key: len(rewinds(sequence)) for sequence in plan.sequences}
        return {
            "signals_each": max(each, default=0),
            "signals": sum(each),
            "weights": sum(self.weights(job) * (1 + heads.get(job.key, 0)) + self.masks(job) for job in plan.audited),
            "attack": max(map(self.loaded, plan.attacks), default=0),
        }

    def signals(self, job: NetworkJob, kinds: Collection[str] | None = None) -> int:
        """Uncompressed bytes of ``signals.npz`` and of the ``probe.npz`` of each kind of question; None: of all."""
        records, study = self._prepared.work.records, self._prepared.study
        each = [*_PLAIN, _LOGIT * records.classes]
        each += [1] * (bool(records.canary_N.any()) + bool(study.data.label_noise))
        each += [4] * (records.group_N is not None)
        probes = (self.answers(job, kind) for kind, _ in job.probes if kinds is None or kind in kinds)
        return len(records) * sum(each) + _HEADER * len(each) + sum(probes)

    def answers(self, job: NetworkJob, kind: str) -> int:
        """Uncompressed bytes of the ``probe.npz`` of one kind of question; see `jobs._observe`."""
        work, settings = self._prepared.work, self._prepared.study.signals
        records, population, arrays = len(work.records), len(work.population), 1
        if kind == "queries":
            arrays, count = 2, records * self._prepared.study.queries() * (_LOGIT + 1)
        elif kind == "noise":
            count = 4 * records * len(settings.noise_sizes)
        elif kind == "gradients":
            count = 4 * records * 2
        elif kind == "boundary":
            arrays, count = 2, records * (4 + 4)
        elif kind == "population":
            arrays, count = 2, population * (_LOGIT * work.dataset.classes + 8)
        elif kind == "layers":
            count = 4 * records * self._layer_columns(job)
        elif kind == "first-layer":
            weights = next(p for p in self._model(job).parameters() if p.ndim == 2)
            arrays, count = 4, 4 * records * weights.shape[1] + (4 + 4 + 1) * weights.numel()
        else:
            declared = self._prepared.study.attribute
            columns = 0 if declared is None else len(declared.columns)
            arrays, count = len(attribute.ATTACKS) + 2, columns * (records * (len(attribute.ATTACKS) + 1) + 4)
        return count + _HEADER * arrays

    def weights(self, job: NetworkJob) -> int:
        """Bytes of the tensors in ``model.safetensors``, and in each rewind point."""
        return bytes_of(*self._model(job).state_dict().values())

    def masks(self, job: NetworkJob) -> int:
        """Bytes of the tensors in ``masks.safetensors``: a bit a weight, and each mask's shape."""
        if not job.spec.masked:
            return 0
        model = self._model(job)
        weights = (model.get_parameter(name) for name in plain_weights(model))
        return sum(-(-weight.numel() // 8) + 8 * weight.ndim for weight in weights)

    def loaded(self, attack: AttackJob) -> int:
        """What an attack reads: of each network once, its plain answers and those that the attack asks for."""
        networks = {job.key: job for job in attack.networks}
        return sum(self.signals(job, asked(attack.entry)) for job in networks.values())

    def _layer_columns(self, job: NetworkJob) -> int:
        """See `lacewing.probes.layer_features`."""
        model = self._model(job)
        masked = plain_weights(model) if job.spec.masked else {}
        weights = [name for name, p in model.named_parameters() if p.ndim > 1 and p.is_floating_point()]
        return sum(3 if name in masked else 2 for name in weights)

    def _model(self, job: NetworkJob) -> nn.Module:
        kind, work = Kind.of(job), self._prepared.work
        if kind not in self._models:
            with torch.random.fork_rng([]):
                self._models[kind] = kind.build(self._prepared.study, work.dataset.shape, work.dataset.classes)
        return self._models[kind]
