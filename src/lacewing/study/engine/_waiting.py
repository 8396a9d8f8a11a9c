"""Tasks of a plan, and which of them comes next."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What a worker does without a break: a sequence of networks, a stack of sequences, or one attack.

    ``name`` is that of the attack or of the first network that was missing; ``needs`` are the networks that it reads.
    """

    kind: str
    keys: tuple[str, ...]
    name: str
    cost: int
    needs: frozenset[str] = frozenset()
    tries: int = 0
    limit: int = 0  # of tasks at once, itself among them, when it began


class Waiting:
    """Tasks that have not begun, in order; which of them is the first whose networks are trained is found at once.

    Args:
        tasks: in the order in which they are to begin.
        finished: keys of networks that are trained.
    """

    def __init__(self, tasks: Iterable[Task] = (), finished: Collection[str] = ()) -> None:
        self._ready: list[tuple[int, Task]] = []  # a heap
        self._lacking: dict[int, tuple[Task, set[str]]] = {}  # by place: the others, with the networks that they lack
        self._places: dict[str, list[int]] = {}  # by key of a network: where it is lacking
        self._before = 0
        for place, task in enumerate(tasks):
            if lacks := task.needs.difference(finished):
                self._lacking[place] = task, set(lacks)
                for key in lacks:
                    self._places.setdefault(key, []).append(place)
            else:
                self._ready.append((place, task))  # in order, which makes it a heap

    def __len__(self) -> int:
        return len(self._ready) + len(self._lacking)

    def __iter__(self) -> Iterator[Task]:
        """In order."""
        lacking = ((place, task) for place, (task, _) in self._lacking.items())
        return (task for _, task in sorted([*self._ready, *lacking], key=lambda pair: pair[0]))

    def first(self) -> Task | None:
        """The first task whose networks are trained; None: there is none yet."""
        return self._ready[0][1] if self._ready else None

    def take(self) -> None:
        """Take out the one that `first` returns."""
        heapq.heappop(self._ready)

    def again(self, task: Task) -> None:
        """Put a task that had begun before all others."""
        self._before -= 1
        heapq.heappush(self._ready, (self._before, task))

    def finish(self, keys: Iterable[str]) -> None:
        """Take notice of networks that are trained now."""
        for key in keys:
            for place in self._places.pop(key, ()):
                task, lacks = self._lacking[place]
                lacks.discard(key)
                if not lacks:
                    del self._lacking[place]
                    heapq.heappush(self._ready, (place, task))
