"""The pool, on workers that do what a test says: retries, memory that runs out, stopping, what needs what failed."""

import random
import signal
import threading
import time

import pytest

from lacewing.errors import DataError
from lacewing.study.declared import load_study
from lacewing.study.engine._pool import Pool
from lacewing.study.engine._waiting import Task, Waiting
from lacewing.study.plan import make_plan
from lacewing.study.store import Store

STUDY = {
    "name": "small",
    "model": {"name": "mlp", "hidden": [4]},
    "train": {"epochs": 2, "precision": "fp32"},
    "networks": [{"method": "dense"}, {"method": "imp", "levels": 1}],
    "attacks": {"names": ["loss"]},
    "run": {"seeds": [0, 1, 2]},
}
OUT_OF_MEMORY = {"event": "failed", "error": "OutOfMemoryError", "message": "CUDA out of memory.", "traceback": "..."}


class Scripted:
    """A worker that does a task as ``act(worker, task)`` says: its events, and it has ended where ``why`` is set."""

    def __init__(self, act):
        self.act, self.why, self.closed, self.tasks = act, None, False, []
        self.stopping = threading.Event()

    def send(self, message):
        assert not self.closed
        if message.get("stop"):
            self.stopping.set()
        elif self.why is not None:
            raise BrokenPipeError(32, "Broken pipe")
        else:
            self.tasks.append(message)

    def listen(self):
        assert not self.closed
        yield from self.act(self, self.tasks[-1])

    def end(self):
        return self.why

    def close(self):
        assert not self.closed
        time.sleep(0.01)  # a process takes its time
        self.closed = True


class Bench:
    """A plan, a store, the workers that a pool has started, and what it told."""

    def __init__(self, folder, **changes):
        study = load_study({**STUDY, **changes})
        self.plan = make_plan(study, data_digest="0" * 64, models={"": {"name": "mlp"}})
        self.store = Store(folder / "run")
        self.workers, self.events = [], []

    def pool(self, act, count=1, **options):
        def start():
            self.workers.append(Scripted(act))
            return self.workers[-1]

        return Pool(self.store, start, count, on_event=self.events.append, **options)

    def publish(self, task):
        """Leave what a worker leaves of a task."""
        for key in task["keys"]:
            self.publish_files(key, ("metrics.json", "scores.npz" if task["kind"] == "attack" else "signals.npz"))

    def publish_files(self, key, names):
        self.store.publish(key, {}, lambda folder: [(folder / name).write_text(name + key) for name in names])

    def works(self, worker, task):
        self.publish(task)
        yield {"event": "done"}

    def notes(self):
        return [event["message"] for event in self.events if event["event"] == "note"]

    def attacks_on(self, sequence):
        """Ids of the attacks that read a network of the sequence."""
        keys = {job.key for job in sequence}
        return {a.id for a in self.plan.attacks if keys & {job.key for job in a.networks}}

    def left(self):
        """Ids of what is not done."""
        jobs = [*self.plan.networks, *self.plan.attacks]
        return {job.id for job in jobs if not self.store.done(job.key)}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not [t for t in threading.enumerate() if t is not threading.main_thread() and "_serve" in t.name]


@pytest.mark.parametrize("count", [1, 3, 100])
def test_everything_is_done_once_networks_before_the_attacks_that_read_them(bench, count):
    outcome = bench.pool(bench.works, count).run(bench.plan)
    assert (outcome.failed, outcome.stopped, outcome.fatal) == ([], False, None)
    assert not bench.left()
    done = [tuple(task["keys"]) for worker in bench.workers for task in worker.tasks]
    assert len(done) == len(set(done)) == len(bench.plan.sequences) + len(bench.plan.attacks)
    names = [event["job"] for event in bench.events]
    for attack in bench.plan.attacks:
        before = names[: names.index(attack.id)]
        assert {sequence[0].id for sequence in bench.plan.sequences if attack.id in bench.attacks_on(sequence)} <= set(
            before
        )
    assert len(bench.workers) <= count
    assert all(worker.closed for worker in bench.workers)
    before = len(bench.workers)
    assert bench.pool(bench.works, count).run(bench.plan).failed == []  # a second run finds all done
    assert len(bench.workers) == before


class Counted(frozenset):
    """Needs of a task that count how often all of them are looked at."""

    looks = 0

    def _look(self):
        Counted.looks += 1

    def __le__(self, other):
        self._look()
        return super().__le__(other)

    def difference(self, *others):
        self._look()
        return super().difference(*others)


@pytest.mark.parametrize("seed", range(5))
def test_the_next_task_is_the_first_whose_networks_are_trained_and_finding_it_is_no_search(seed, monkeypatch):
    monkeypatch.setattr(Counted, "looks", 0)
    rng = random.Random(seed)
    networks = [f"network {number}" for number in range(30)]
    tasks = [Task("attack", (str(n),), str(n), 0, Counted(rng.sample(networks, rng.randrange(4)))) for n in range(200)]
    finished = set(rng.sample(networks, 5))
    waiting, plain, begun = Waiting(tasks, finished), list(tasks), []
    for _ in range(1000):
        expected = next((task for task in plain if frozenset(task.needs).issubset(finished)), None)
        assert waiting.first() is expected
        assert [*waiting] == plain
        assert len(waiting) == len(plain)
        if expected is not None and rng.random() < 0.9:
            waiting.take()
            plain.remove(expected)
            begun.append(expected)
        elif begun and rng.random() < 0.3:
            task = begun.pop()
            waiting.again(task)
            plain.insert(0, task)
        elif left := [key for key in networks[:25] if key not in finished]:  # five fail
            done = set(rng.sample(left, min(2, len(left))))
            waiting.finish(done)
            finished |= done
    assert 0 < len(plain) < len(tasks)  # those that need what failed
    assert Counted.looks == len(tasks)


def test_damaged_files_are_looked_through_when_there_are_new_ones_and_not_after_each_task(bench, monkeypatch):
    for job in bench.plan.networks:
        bench.publish({"kind": "sequence", "keys": [job.key]})
        (bench.store.job(job.key) / "metrics.json").write_text("x")
    pool, looked = bench.pool(bench.works), []
    plain = pool._note_damage
    monkeypatch.setattr(pool, "_note_damage", lambda files: looked.append(1) or plain(files))
    assert pool.run(bench.plan).failed == []
    assert len(looked) == 1
    assert len(bench.notes()) == len(bench.plan.networks)


# --------------------------------------------------------------------------------------------------- workers that die


def _dies(bench, victim, deaths, left):
    def act(worker, task):
        if victim in task["keys"] and left["deaths"] < deaths:
            left["deaths"] += 1
            worker.why = "signal 9"
            return
        yield from bench.works(worker, task)

    return act


def test_a_worker_that_lost_a_page_of_a_mapped_file_is_not_said_to_lack_memory(bench):
    def act(worker, task):
        worker.why = f"signal {int(signal.SIGBUS)}"
        yield from ()

    outcome = bench.pool(act).run(bench.plan)
    assert any("was a file of records cut short" in said for said in outcome.failed)
    assert not any("out of memory" in said for said in outcome.failed)


@pytest.mark.parametrize(("retries", "deaths"), [(3, 3), (1, 1), (3, 4), (0, 1)])
def test_a_task_begins_again_as_often_as_allowed_when_its_worker_dies(bench, retries, deaths):
    victim, left = bench.plan.sequences[1], {"deaths": 0}
    outcome = bench.pool(_dies(bench, victim[0].key, deaths, left), 2, retries=retries).run(bench.plan)
    assert outcome.fatal is None
    assert left["deaths"] == deaths
    begun = [task for worker in bench.workers for task in worker.tasks if victim[0].key in task["keys"]]
    assert len(begun) == min(deaths + 1, retries + 1) == (deaths + 1 if deaths <= retries else retries + 1)
    if deaths <= retries:
        assert outcome.failed == []
        assert not bench.left()
    else:
        assert any(f"{victim[0].id}: its worker process ended with signal 9" in s for s in outcome.failed)
    assert all(worker.closed for worker in bench.workers)


@pytest.mark.parametrize("way", ["dies", "pipe", "memory"])
def test_the_network_that_was_in_training_is_named_and_not_the_first_of_its_sequence(bench, way):
    head, level = victim = bench.plan.sequences[0]

    def act(worker, task):
        if head.key not in task["keys"]:
            yield from bench.works(worker, task)
            return
        bench.publish({"kind": "sequence", "keys": [head.key]})
        yield {"event": "epoch", "job": head.id, "epoch": 2, "epochs": 2, "loss": 1.0, "accuracy": 0.5}
        if way == "memory":
            yield OUT_OF_MEMORY
        elif way == "pipe":
            raise BrokenPipeError(32, "Broken pipe")
        worker.why = "signal 9"

    outcome = bench.pool(act).run(bench.plan)
    waiting = bench.attacks_on([level])
    (own,) = [sentence for sentence in outcome.failed if not any(sentence.startswith(name) for name in waiting)]
    assert own.startswith(f"{level.id}: ")
    assert "in its sequence" not in own
    assert bench.left() == {level.id} | waiting
    (failed,) = [event for event in bench.events if event["event"] == "failed"]
    assert failed == {"event": "failed", "message": own, "jobs": [job.id for job in victim]}


def test_a_worker_that_died_between_tasks_is_replaced(bench):
    def act(worker, task):
        if worker is bench.workers[0]:
            worker.why = "exit code 1"
        yield from bench.works(worker, task)

    assert bench.pool(act).run(bench.plan).failed == []
    assert len(bench.workers[0].tasks) == 1
    assert len(bench.workers) == 2


def test_a_worker_that_cannot_be_started_fails_its_task_and_the_sentence_says_why(bench):
    def start():
        raise OSError(11, "Resource temporarily unavailable")

    outcome = Pool(bench.store, start, 2, on_event=bench.events.append).run(bench.plan)
    assert outcome.fatal is None
    assert sum("temporarily unavailable" in sentence for sentence in outcome.failed) == len(bench.plan.sequences)


# ------------------------------------------------------------------------------------------------ memory that runs out


def _memory(bench, room, first):
    """A device with room for so many workers, the first that came; ``first`` of them come at once."""
    together, tell = threading.Barrier(first), threading.Lock()
    seen = {"begun": 0, "failed": 0}

    def act(worker, task):
        with tell:
            seen["begun"] += 1
            at_first = seen["begun"] <= first
        if at_first:
            together.wait(10)
        with tell:
            before = bench.workers[: bench.workers.index(worker)]
            fits = sum(not other.closed for other in before) < room
            seen["failed"] += not fits
        if at_first:
            together.wait(10)
        time.sleep(0.005)
        if fits:
            yield from bench.works(worker, task)
        else:
            yield OUT_OF_MEMORY

    return act, seen


@pytest.mark.parametrize("repeat", range(3))
@pytest.mark.parametrize(("count", "room"), [(2, 1), (4, 1), (4, 2), (4, 3), (6, 1)])
def test_a_study_that_fills_memory_goes_on_with_fewer_workers(bench, count, room, repeat):
    act, seen = _memory(bench, room, count)
    outcome = bench.pool(act, count).run(bench.plan)
    assert (outcome.failed, outcome.fatal) == ([], None)
    assert not bench.left()
    assert count - room <= seen["failed"] <= 2 * count
    assert any(f"out of memory; the study goes on with {count // 2} at a time" in note for note in bench.notes())
    assert len(bench.notes()) <= 2  # once each time it is halved
    assert all(worker.closed for worker in bench.workers)


def test_workers_that_run_out_together_halve_the_number_once(bench):
    act, seen = _memory(bench, 0, 4)
    calls = []

    def at_first_only(worker, task):
        calls.append(task)
        yield from act(worker, task) if len(calls) <= 4 else bench.works(worker, task)

    assert bench.pool(at_first_only, 4).run(bench.plan).failed == []
    assert seen["failed"] == 4
    assert len(bench.notes()) == 1
    assert bench.notes()[0].endswith("goes on with 2 at a time.")


@pytest.mark.parametrize("error", ["OutOfMemoryError", "MemoryError", "_ArrayMemoryError"])
def test_a_network_too_large_even_alone_fails_alone_and_the_mend_is_named(bench, error):
    victim = bench.plan.sequences[2]

    def act(worker, task):
        if victim[0].key in task["keys"]:
            yield {**OUT_OF_MEMORY, "error": error}
        else:
            yield from bench.works(worker, task)

    outcome = bench.pool(act, 4).run(bench.plan)
    assert outcome.fatal is None
    (own,) = [sentence for sentence in outcome.failed if sentence.startswith(victim[0].id)]
    assert "out of memory with no other job running; lower train.batch_size." in own
    assert own.endswith("The network after it in its sequence was not trained.")
    waiting = bench.attacks_on(victim)
    assert bench.left() == {job.id for job in victim} | waiting
    assert all(any(sentence.startswith(name) for sentence in outcome.failed) for name in waiting)


def test_an_attack_that_fills_memory_alone_does_not_speak_of_batches(bench):
    def act(worker, task):
        yield from [OUT_OF_MEMORY] if task["kind"] == "attack" else bench.works(worker, task)

    outcome = bench.pool(act, 2).run(bench.plan)
    assert len(outcome.failed) == len(bench.plan.attacks)
    assert all("loss on" in s and "memory" in s and "batch" not in s for s in outcome.failed)


# ------------------------------------------------------------------------------------------------- failures and stops


def test_what_needs_a_failed_network_is_not_run_and_the_rest_is(bench):
    victim = bench.plan.sequences[0]

    def act(worker, task):
        if victim[0].key in task["keys"]:
            yield {"event": "failed", "error": "DivergedError", "message": f"{victim[0].id}: NaN in epoch 1"}
        else:
            yield from bench.works(worker, task)

    outcome = bench.pool(act, 2).run(bench.plan)
    assert outcome.fatal is None
    waiting = bench.attacks_on(victim)
    assert len(outcome.failed) == 1 + len(waiting)
    assert outcome.failed[0] == f"{victim[0].id}: NaN in epoch 1 The network after it in its sequence was not trained."
    assert set(outcome.failed[1:]) == {f"{name}: not run, since a network that it needs failed." for name in waiting}
    assert bench.left() == {job.id for job in victim} | waiting


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": "OSError", "os_error": True, "message": "No space left on device"}, OSError),
        ({"error": "KeyError", "message": "'x'", "traceback": "Traceback ... KeyError: 'x'"}, RuntimeError),
        ({"error": "DataError", "message": "the data set is missing"}, DataError.__base__),
    ],
)
def test_what_would_stop_every_network_ends_the_study(bench, event, kind):
    begun = []

    def act(worker, task):
        begun.append(task)
        yield {"event": "failed", **event} if len(begun) == 1 else {"event": "done"}

    outcome = bench.pool(act, 1).run(bench.plan)
    assert isinstance(outcome.fatal, kind)
    assert event["message"] in str(outcome.fatal)
    assert len(begun) == 1
    assert outcome.failed == []


def test_stop_reaches_every_worker_and_nothing_more_is_begun(bench):
    begun = threading.Barrier(3)

    def act(worker, task):
        yield {"event": "epoch", "job": "x", "epoch": 1, "epochs": 9, "loss": 1.0, "accuracy": 0.5}
        begun.wait(10)
        assert worker.stopping.wait(10)
        yield {"event": "stopped"}

    pool = bench.pool(act, 2)

    def stop():
        begun.wait(10)
        pool.stop()

    thread = threading.Thread(target=stop)
    thread.start()
    outcome = pool.run(bench.plan)
    thread.join()
    assert outcome.stopped
    assert (outcome.failed, outcome.fatal) == ([], None)
    assert [len(worker.tasks) for worker in bench.workers] == [1, 1]
    assert bench.pool(bench.works, 2).run(bench.plan).failed == []
    assert not bench.left()


# ------------------------------------------------------------------------------------------------------ what is damaged


def test_what_is_damaged_is_told_once_by_name_and_made_again(bench):
    assert bench.pool(bench.works).run(bench.plan).failed == []
    network, other, attack = bench.plan.networks[1], bench.plan.networks[2], bench.plan.attacks[0]
    signals, scores = bench.store.job(network.key) / "signals.npz", bench.store.job(attack.key) / "scores.npz"
    content = signals.read_bytes(), scores.read_bytes()
    signals.write_bytes(content[0][:-1])
    scores.write_bytes(content[1][:-1] + b"!")
    (bench.store.job(other.key) / "job.json").write_text("{")

    def act(worker, task):
        if network.key in task["keys"]:  # the worker finds the first again, and another that only it reads
            found = ("signals.npz", "model.safetensors")
            yield {"event": "damaged", "files": [[network.key, f"jobs/{network.key}/{name}"] for name in found]}
        yield from bench.works(worker, task)

    again = Store(bench.store.folder)
    events = []
    outcome = Pool(again, lambda: Scripted(act), 1, on_event=events.append).run(bench.plan)
    assert (outcome.failed, outcome.fatal) == ([], None)
    notes = [event["message"] for event in events if event["event"] == "note"]
    wanted = [(network, "signals.npz"), (network, "model.safetensors"), (other, "job.json"), (attack, "scores.npz")]
    assert sorted(notes) == sorted(
        f"{job.id}: jobs/{job.key}/{name} is lost, damaged or was altered; it is made again." for job, name in wanted
    )
    assert (signals.read_bytes(), scores.read_bytes()) == content
    assert again.done(other.key, "metrics.json", "signals.npz")


def test_a_damaged_probe_is_told_by_its_networks_name(tmp_path):
    bench = Bench(
        tmp_path,
        data={"split": "random-halves"},
        attacks={"names": ["rmia-offline"]},
        run={"seeds": [0, 1, 2, 3]},
    )

    def act(worker, task):
        jobs = {job.key: job for job in bench.plan.networks}
        for key in task["keys"]:
            if key in jobs:
                for _, probe in jobs[key].probes:
                    bench.publish_files(probe, ("probe.npz",))
        yield from bench.works(worker, task)

    assert bench.pool(act).run(bench.plan).failed == []
    probed = bench.plan.networks[0]
    ((kind, key),) = probed.probes
    (bench.store.job(key) / "probe.npz").write_text("altered")
    events = []
    assert (
        Pool(Store(bench.store.folder), lambda: Scripted(act), 1, on_event=events.append).run(bench.plan).failed == []
    )
    (note,) = [event["message"] for event in events if event["event"] == "note"]
    assert Store(bench.store.folder).done(key, "probe.npz")  # it was asked again
    assert note.startswith(f"the probe ({kind}) of {probed.id}: jobs/{key}/probe.npz is lost, damaged")
