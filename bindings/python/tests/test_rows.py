"""What `afterimage.ray` makes of rows, on a stand-in for Ray that runs its tasks here, one after the other: CI has no Ray. `tests/ray` has one."""

import hashlib
import json
import sys
import tempfile
import types
import unittest
import unittest.mock
from pathlib import Path

import afterimage
import numpy as np


class Lost(Exception):
    """A worker is no more."""


def stand_in():
    """As much of Ray as `afterimage.ray` calls: every task is done here as it is asked for."""

    class Actor:
        def __init__(self, *asked):
            self.worker = self.kind(*asked)
            STARTED.append(self)

        def __getattr__(self, method):
            return types.SimpleNamespace(remote=lambda *asked: Answer(getattr(self.worker, method), asked))

    class Answer:
        def __init__(self, method, asked):
            try:
                self.told, self.error = method(*asked), None
            except Exception as error:
                self.told, self.error = None, error

    def get(answer):
        if answer.error:
            raise answer.error
        return answer.told

    def remote(**_options):
        return lambda kind: types.SimpleNamespace(remote=type("Of", (Actor,), {"kind": kind}))

    ray, exceptions = types.ModuleType("ray"), types.ModuleType("ray.exceptions")
    exceptions.RayActorError = exceptions.OutOfMemoryError = exceptions.NodeDiedError = Lost
    ray.exceptions, ray.remote, ray.get = exceptions, remote, get
    ray.is_initialized, ray.get_gpu_ids, ray.kill = lambda: True, lambda: [], ENDED.append
    ray.nodes = lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 9.0}}]
    ray.wait = lambda answers, timeout: (answers[:1], answers[1:])
    return {"ray": ray, "ray.exceptions": exceptions}


STARTED, ENDED = [], []
sys.modules.update(stand_in())
import afterimage.ray as many  # noqa: E402  Ray comes first
from afterimage import _rows, _workers  # noqa: E402

SHORT = {"num_inference_steps": 2}
POOL = many.Pool(device="cpu")
ROWS = [{"prompt": "a red circle", "other": 1}, {"prompt": "a blue square", "seed": 9}, {"prompt": "a red circle", "seed": 0}]


class Rows(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)
        STARTED.clear()
        ENDED.clear()

    def made(self, rows, **options):
        summary = many.generate_many(rows, self.place / "pictures", pool=POOL, **{**SHORT, **options})
        lines = [json.loads(line) for line in Path(summary.manifest).read_text().splitlines()]
        return summary, lines

    def test_rows_become_pictures_and_a_manifest(self):
        summary, lines = self.made(ROWS)
        self.assertEqual((summary.made, summary.found, summary.failed), (2, 1, 0))  # the third is the first, by its seed
        self.assertEqual([line["seed"] for line in lines], [0, 9, 0])
        self.assertEqual([line["row"] for line in lines], [0, 1, 2])
        self.assertEqual(lines[0]["file"], lines[2]["file"])
        pipe, own = afterimage.Pipeline.load(device="cpu"), self.place / "own.png"
        pipe("a blue square", seed=9, **SHORT).save(own)
        self.assertEqual((self.place / "pictures" / lines[1]["file"]).read_bytes(), own.read_bytes())
        self.assertEqual(lines[1]["sha256"], hashlib.sha256(own.read_bytes()).hexdigest())

    def test_what_is_there_is_not_made_again(self):
        _, lines = self.made(ROWS)
        again, same = self.made(ROWS)
        self.assertEqual((again.made, again.found), (0, 3))
        self.assertEqual(lines, same)
        (self.place / "pictures" / lines[1]["file"]).unlink()
        self.assertEqual(self.made(ROWS)[0].made, 1)
        self.assertEqual(self.made(ROWS, cache="deepcache:interval=2,branch=0")[0].made, 2)

    def test_rows_that_are_made_together_are_the_same_files(self):
        rows = [*ROWS, {"prompt": "a green ring", "negative_prompt": "blue"}, {"prompt": "a red cross"}, {"prompt": "a blue ring", "num_inference_steps": 3}, {"prompt": "a green cross"}]
        _, alone = self.made(rows)
        runs = []
        run = afterimage.Pipeline.__call__
        with unittest.mock.patch.object(afterimage.Pipeline, "__call__", lambda pipe, **asked: runs.append(asked["recipe"]) or run(pipe, **asked)):
            summary = many.generate_many(rows, self.place / "together", pool=many.Pool(device="cpu", together=3), **SHORT)
        self.assertEqual(Path(summary.manifest).read_bytes(), (self.place / "pictures" / many.MANIFEST).read_bytes())
        self.assertEqual((summary.made, summary.found), (6, 1))
        several = [recipe["prompts"] for recipe in runs if isinstance(recipe, dict)]
        self.assertEqual(several, [["a red circle", "a blue square", "a red cross"]])
        self.assertEqual(len(runs), 4)  # the fourth of that kind, the one with a negative prompt, the one of three steps
        self.assertEqual([line["row"] for line in alone], list(range(7)))

    def test_a_row_that_is_refused_does_not_take_others_with_it(self):
        rows = [{"prompt": "a red circle", "width": 64, "height": 64}, {"prompt": "", "width": 64, "height": 64, "seed": -1}, {"prompt": "a blue ring", "width": 64, "height": 64}]
        summary = many.generate_many(rows, self.place / "together", pool=many.Pool(device="cpu", together=3), **SHORT)
        self.assertEqual((summary.made, summary.failed), (2, 1))

    def test_what_looks_at_its_run_is_made_alone(self):
        plain = {"version": 1, "prompts": ["a"], "seed": 1, "steps": 2}
        self.assertEqual(_rows.kind_of(plain), _rows.kind_of({**plain, "prompts": ["b"], "seed": 2}))
        self.assertNotEqual(_rows.kind_of(plain), _rows.kind_of({**plain, "negative_prompts": ["b"]}))
        for other in ({"cache": "auto:speedup=2"}, {"cache": "deepcache:interval=3;verify=0.05"}, {"init_image": {"path": "a.png"}}, {"film": {"frames": 8}}, {"classes": [1], "prompts": []}):
            self.assertIsNone(_rows.kind_of({**plain, **other}), other)

    def test_a_row_goes_before_the_options(self):
        rows = [{"recipe": '{"version": 1, "prompts": ["a red circle"], "steps": 1, "seed": 3}'}, {"recipe": {"version": 1, "steps": 1}, "num_inference_steps": 3}]
        tasks = [json.loads(_rows.task_of(row, index, 5, {**SHORT, "prompt": "a green ring"}, ("bundled", {}))["recipe"]) for index, row in enumerate(rows)]
        self.assertEqual([(task["prompts"], task["steps"], task["seed"]) for task in tasks], [(["a red circle"], 1, 3), (["a green ring"], 3, 6)])

    def test_refused_rows_are_written_down(self):
        summary, lines = self.made([{"prompt": "a red circle", "cache": "deepcash"}, {"prompt": "a red circle"}])
        self.assertEqual((summary.made, summary.failed), (1, 1))
        self.assertIn("deepcash", lines[0]["error"])
        self.assertNotIn("file", lines[0])

    def test_files_of_rows_are_read(self):
        rows = self.place / "rows.jsonl"
        rows.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
        self.assertEqual(self.made(rows)[1], self.made(ROWS)[1])
        for text, wrong in (("{", "line 1"), ("{}\n[1]", "line 2")):
            rows.write_text(text)
            with self.assertRaisesRegex(ValueError, wrong):
                self.made(rows)
        with self.assertRaisesRegex(ValueError, "rows.csv"):
            self.made(self.place / "rows.csv")
        with self.assertRaisesRegex(ValueError, "row 1 asks for several"):
            self.made([{"prompt": "a"}, {"recipe": {"version": 1, "prompts": ["a", "b"]}}])

    def test_groups_hang_on_the_rows_alone(self):
        tasks = [_rows.task_of({"prompt": f"a {number}"}, number, 0, SHORT, ("bundled", {})) for number in range(70)]
        sizes = [[len(group) for group in _rows.groups_of(tasks[:count], 8)] for count in (7, 20, 64, 70)]
        self.assertEqual(sizes, [[7], [8, 8, 4], [8] * 7 + [4, 2, 1, 1], [8] * 7 + [7, 4, 2, 1]])
        self.assertEqual([len(group) for group in _rows.groups_of(tasks[:9], 1)], [1] * 9)
        made = [file for group in _rows.groups_of(tasks, 8) for file, _ in group]
        self.assertEqual(sorted(made), sorted(task["file"] for task in tasks))

    def test_workers_end_with_their_call_or_stay_for_a_block(self):
        self.made(ROWS)
        self.assertEqual((len(STARTED), len(ENDED)), (2, 2))
        self.made(ROWS)  # there is nothing to do
        self.assertEqual((len(STARTED), len(ENDED)), (2, 2))
        with many.Pool(device="cpu", workers=1) as pool:
            for seed in (1, 2):
                many.generate_many(ROWS[:2], self.place / f"seed{seed}", pool=pool, seed=seed, **SHORT)
            many.evaluate(self.place / "evaluation", pool=pool, samples=2, batch=1, prompts=["a"], **SHORT)
            self.assertEqual((len(STARTED), len(ENDED)), (3, 2))
        self.assertEqual((len(STARTED), len(ENDED)), (3, 3))

    def test_a_task_whose_worker_is_lost_goes_to_another(self):
        made, lost = _workers.Worker.pictures, []

        def pictures(worker, folder, rows):
            if "blue" in rows[0][1] and len(lost) < losing:
                lost.append(worker)
                raise Lost("killed")
            return made(worker, folder, rows)

        with unittest.mock.patch.object(_workers.Worker, "pictures", pictures):
            losing = _workers.TRIES - 1
            summary, _ = self.made(ROWS)
            self.assertEqual((summary.made, summary.found, len(lost)), (2, 1, losing))
            self.assertTrue(set(map(id, lost)).isdisjoint(id(actor.worker) for actor in ENDED))
            losing += _workers.TRIES
            with self.assertRaises(Lost):
                self.made(ROWS, num_inference_steps=1)
        self.assertEqual(self.made(ROWS, num_inference_steps=1)[0].failed, 0)

    def test_what_goes_wrong_ends_the_call_and_its_workers(self):
        with self.assertRaises(afterimage.RequestError):
            many.generate_many(ROWS, self.place / "none", pool=many.Pool("no/such/model", device="cpu"))
        with unittest.mock.patch.object(_workers, "digest_of", side_effect=OSError("no place left")), self.assertRaisesRegex(OSError, "no place"):
            self.made(ROWS)
        self.assertEqual(len(STARTED), len({id(actor) for actor in ENDED}))

    def test_an_evaluation_is_that_of_one_process(self):
        options = {"cache": "deepcache:interval=2,branch=0", "samples": 5, "batch": 2, "prompts": ["a red circle"], **SHORT}
        spread = many.evaluate(self.place / "spread", pool=POOL, shapes=True, **options)
        whole = afterimage.Evaluation(afterimage.Pipeline.load(device="cpu"), **options)
        self.assertEqual((whole.batches, whole.fill(self.place / "whole", "1/2"), whole.fill(self.place / "other", "2/2")), (3, (2, 2), (1, 1)))
        joined = afterimage.measure([self.place / "whole", self.place / "other"], device="cpu", shapes=True)
        self.assertEqual(untimed(spread), untimed(joined))
        self.assertEqual(json.loads((self.place / "whole" / "results.json").read_text())["samples"], 5)
        with self.assertRaises(afterimage.AfterimageError):
            afterimage.measure(self.place / "other", device="cpu")


def untimed(results):
    times = {"speedup", "whole_speedup", "denoising_seconds"}
    outcomes = [{key: value for key, value in outcome.items() if key not in times} for outcome in results["outcomes"]]
    return {**results, "outcomes": outcomes, "comparisons": None, "rounds": None}


class Calibrations(unittest.TestCase):
    def test_a_plan_is_found_written_and_named(self):
        pipe = afterimage.Pipeline.load(device="cpu")
        with tempfile.TemporaryDirectory() as place:
            path, calls = Path(place, "plan.json"), []
            plan = pipe.calibrate(
                path, cache="deepcache:branch=0", prompts="a red circle", seeds=[1], num_inference_steps=6, callback=lambda *_: calls.append(1)
            )
            self.assertEqual(plan, json.loads(path.read_text()))
            self.assertGreater(len(calls), 6)
            planned = pipe("a red circle", seed=2, num_inference_steps=6, cache=f"auto:speedup=1.5,plan={path}")
            self.assertLess(planned.report["models"][0]["cells"], pipe("a red circle", seed=2, num_inference_steps=6).report["models"][0]["cells"])
            self.assertTrue(np.isfinite(planned.values).all())
            with self.assertRaises(afterimage.Cancelled):
                pipe.calibrate(path, cache="deepcache:branch=0", seeds=[1], num_inference_steps=6, callback=lambda *_: False)
            with self.assertRaises(afterimage.AfterimageError):
                pipe.calibrate(path, cache="none", seeds=[1], num_inference_steps=6)
            with self.assertRaises(afterimage.RequestError):
                pipe.calibrate(path, cache="deepcache:branch=0", seeds=[], num_inference_steps=6)
            self.assertEqual(plan, json.loads(path.read_text()))


if __name__ == "__main__":
    sys.exit(unittest.main())
