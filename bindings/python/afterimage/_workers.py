"""Workers of `afterimage.ray`, and how they are given what there is to do."""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from pathlib import Path as File
from typing import Any, Iterator, Mapping, Sequence

import ray
import ray.exceptions

from . import PlanError, RequestError
from ._evaluation import Evaluation, measure
from ._pipeline import Path, Pipeline
from ._rows import digest_of, joined

TRIES = 3
"""Workers that may be lost at one task, or one after the other while they begin: what takes so many with it takes the next."""

LOOK = 2.0
"""Seconds between looks at what joined the cluster, while nothing is answered."""

LOST = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
"""What Ray says of a worker that is no more."""

BEGINNING = -1
"""In the place of a task: a worker loads its model."""


class Worker:
    """A process that holds a loaded model."""

    def __init__(self, model: Path, device: str, cores: float, loading: Mapping[str, Any]) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(max(1, int(cores)))
        self.model, self.device, self.loading = model, device, loading
        self.planned: tuple[str, Evaluation] | None = None

    def begin(self) -> None:
        """Loads the model, on what Ray has given to this worker."""
        self.device = self.device.format(gpu=next(iter(ray.get_gpu_ids()), 0))
        self.pipe = Pipeline.load(self.model, device=self.device, **self.loading)

    def pictures(self, place: str, rows: list[tuple[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
        """Makes files of recipes, which can be one run. Why some cannot be made, and the digests of the others."""
        folder, errors = File(place), {}
        # One may be there by a worker that was lost before it could say so.
        missing = [(file, recipe) for file, recipe in rows if not (folder / file).exists()]
        if not self._together(folder, missing):
            for file, recipe in missing:
                try:
                    self.pipe(recipe=recipe).save(folder / file)
                except (RequestError, PlanError) as error:
                    errors[file] = str(error)
        return errors, {file: digest_of(folder / file) for file, _ in rows if file not in errors}

    def _together(self, folder: File, rows: list[tuple[str, str]]) -> bool:
        """Makes rows in one run, if they are several and none is refused."""
        if len(rows) < 2:
            return False
        try:
            result = self.pipe(recipe=joined([json.loads(recipe) for _, recipe in rows]))
        except (RequestError, PlanError):
            return False
        for index, (file, _) in enumerate(rows):
            result.save(folder / file, index, alone=True)
        return True

    def shard(self, folder: str, planned: Mapping[str, Any], shard: str) -> None:
        """Makes the batches of a part of an evaluation."""
        key = json.dumps(planned, sort_keys=True, default=str)
        if self.planned is None or self.planned[0] != key:
            self.planned = key, Evaluation(self.pipe, **planned)
        self.planned[1].fill(folder, shard)

    def measured(self, folder: str, instruments: Mapping[str, Any]) -> dict[str, Any]:
        """Measures a complete evaluation."""
        return measure(folder, device=self.device, **instruments)


class Workers:
    """Those of a pool: while this is entered, however often, they stay. Ray places them, says when one is lost, and ends them with the program
    that asked for them."""

    def __init__(self, asked: tuple[Path, str, float, Mapping[str, Any]], takes: Mapping[str, float], number: tuple[int, int | None]) -> None:
        """`asked` are the arguments of `Worker`, `takes` what of a node is each one's, `number` the fewest that are asked for, and the most."""
        self.asked, self.number = asked, number
        self.takes = {name: amount for name, amount in takes.items() if amount}
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, int]] = {}
        """Workers by what they will answer, and the numbers of their tasks."""
        self.entered = 0
        self.next_look = 0.0

    def __enter__(self) -> Workers:
        self.entered += 1
        return self

    def __exit__(self, *_raised: object) -> None:
        self.entered -= 1
        if self.entered == 0:
            self._end([*self.idle, *(worker for worker, _ in self.busy.values())])
            self.idle.clear()
            self.busy.clear()

    def map(self, method: str, tasks: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """What workers answer to tasks, in no order. A task whose worker is lost goes to another; an error of a task ends the others."""
        waiting, lost, left = deque(range(len(tasks))), Counter[int](), len(tasks)
        with self:
            try:
                while left:
                    while waiting and self.idle:
                        worker, task = self.idle.pop(), waiting.popleft()
                        self.busy[getattr(worker, method).remote(*tasks[task])] = worker, task
                    self.hire(left)
                    for answer in ray.wait(list(self.busy), timeout=LOOK)[0]:
                        worker, task = self.busy.pop(answer)
                        try:
                            told = ray.get(answer)
                        except LOST:
                            lost[task] += 1
                            if lost[task] == TRIES:
                                raise
                            waiting.extendleft([task] if task != BEGINNING else [])
                            self.next_look = 0.0
                            continue
                        except Exception:
                            self._end([worker])
                            raise
                        self.idle.append(worker)
                        if task != BEGINNING:
                            left -= 1
                            yield told
            finally:
                self._give_up()

    def hire(self, tasks: int | None = None) -> None:
        """Asks Ray for the workers that so many tasks can use, or any: as many as there is room for, within the number that is asked for."""
        live = len(self.idle) + len(self.busy)
        fewest, most = self.number
        limits = [limit for limit in (most, tasks) if limit is not None]
        begins = any(task == BEGINNING for _, task in self.busy.values())
        if begins or live >= min(limits, default=live + 1) or (live and time.monotonic() < self.next_look):
            return
        self.next_look = time.monotonic() + LOOK
        wanted = min([max(fewest, self._room(), 1), *limits])
        actor = ray.remote(max_restarts=0, num_cpus=self.takes.get("CPU", 0), num_gpus=self.takes.get("GPU", 0))(Worker)
        for _ in range(wanted - live):
            worker: Any = actor.remote(*self.asked)
            self.busy[worker.begin.remote()] = worker, BEGINNING

    def _room(self) -> int:
        """Workers that the nodes of the cluster have room for, if nobody else is there."""
        if not self.takes:
            return self.number[0]
        listed: Any = ray.nodes  # Ray has no types for it
        nodes = [node["Resources"] for node in listed() if node["Alive"]]
        return sum(min(int(node.get(name, 0) // amount) for name, amount in self.takes.items()) for node in nodes)

    def _give_up(self) -> None:
        """Ends the workers that are still at a task."""
        working = {answer: worker for answer, (worker, task) in self.busy.items() if task != BEGINNING}
        self._end(list(working.values()))
        self.busy = {answer: busy for answer, busy in self.busy.items() if answer not in working}

    @staticmethod
    def _end(workers: Sequence[Any]) -> None:
        """Ends workers, unless Ray itself has ended."""
        for worker in workers if ray.is_initialized() else ():
            ray.kill(worker)
