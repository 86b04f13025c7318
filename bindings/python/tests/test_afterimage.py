"""The installed wheel, as people use it. `AFTERIMAGE_PROGRAM` is the command line program to compare with, where it is built."""

import _thread
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings

import afterimage
import numpy as np

PROGRAM = os.environ.get("AFTERIMAGE_PROGRAM")
PROMPT = "a red circle above a blue square"


def told(work, ours):
    """Sends what another process says to some work."""
    try:
        work(PROMPT, num_inference_steps=1, seed=0)
        ours.send("it is done")
    except afterimage.AfterimageError as error:
        ours.send(error.message)


class Runs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pipe = afterimage.Pipeline.load("bundled", device="cpu")

    def test_a_picture_is_the_programs_own(self):
        result = self.pipe(PROMPT, cache="deepcache:interval=2,branch=0", seed=7, num_inference_steps=4)
        self.assertEqual(result.arrays.dtype, np.uint8)
        self.assertEqual(len(result), 1)
        values = result.values
        self.assertEqual(values.shape, result.arrays.shape)
        self.assertLessEqual(np.abs(values * 255 - result.arrays).max(), 0.51)
        if PROGRAM is None:
            self.skipTest("AFTERIMAGE_PROGRAM names no program")
        with tempfile.TemporaryDirectory() as folder:
            ours, its = os.path.join(folder, "ours.png"), os.path.join(folder, "its.png")
            result.save(ours)
            # The program makes it again from what the wheel has written: the same file, its texts and all.
            subprocess.run([PROGRAM, "generate", "--replay", ours, "--device", "cpu", "--output", its], check=True, capture_output=True)
            with open(ours, "rb") as one, open(its, "rb") as other:
                self.assertEqual(one.read(), other.read())

    def test_a_recipe_makes_the_same_again(self):
        first = self.pipe(PROMPT, seed=3, num_inference_steps=3, negative_prompt="green", guidance_scale=3.0)
        again = self.pipe(recipe=first.recipe)
        np.testing.assert_array_equal(first.arrays, again.arrays)
        self.assertEqual(first.recipe["steps"], 3)
        self.assertEqual(first.report["models"][0]["evaluations"], 3)
        other = self.pipe(recipe=json.dumps(first.recipe), seed=4)
        self.assertTrue((first.arrays != other.arrays).any())

    def test_several_pictures_and_sizes(self):
        result = self.pipe([PROMPT, "a green triangle"], seed=[1, 2], num_inference_steps=2, width=64, height=96)
        self.assertEqual(result.arrays.shape, (2, 96, 64, 3))
        self.assertEqual(len(result.images), 2)
        self.assertEqual([len(film) for film in result.frames], [1, 1])

    def test_pictures_go_in_as_arrays_and_files(self):
        given = np.full((128, 128, 3), 200, np.uint8)
        options = {"strength": 0.5, "num_inference_steps": 4, "seed": 1}
        as_array = self.pipe(PROMPT, image=given, **options)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "given.ppm")
            with open(path, "wb") as file:
                file.write(b"P6 128 128 255\n" + given.tobytes())
            as_file = self.pipe(PROMPT, image=path, **options)
        np.testing.assert_array_equal(as_array.arrays, as_file.arrays)
        with self.assertRaisesRegex(TypeError, "a picture is bytes"):
            self.pipe(PROMPT, image=given.astype(np.float32), **options)

    def test_callbacks_are_told_and_can_stop(self):
        seen = []
        self.pipe(PROMPT, num_inference_steps=4, seed=0, cache="deepcache:interval=2,branch=0", callback=lambda *step: seen.append(step))
        self.assertEqual(seen, [(1, 4, True), (2, 4, False), (3, 4, True), (4, 4, False)])
        with self.assertRaises(afterimage.Cancelled):
            self.pipe(PROMPT, num_inference_steps=4, seed=0, callback=lambda done, total, computed: done < 2)
        with self.assertRaisesRegex(ZeroDivisionError, "division"):
            self.pipe(PROMPT, num_inference_steps=4, seed=0, callback=lambda *_: 1 / 0)

    def test_previews_are_pictures(self):
        shown = []
        self.pipe(PROMPT, num_inference_steps=4, seed=0, preview=lambda item, array: shown.append((item, array.shape)), preview_every=2)
        self.assertEqual(shown, [(0, (128, 128, 3))])
        pictures = []
        for decoded in (False, True):
            self.pipe(
                PROMPT, num_inference_steps=4, seed=0, preview_every=2, preview_decoded=decoded, preview=lambda _, array: pictures.append(array.copy())
            )
        mapped, decoded = (picture.astype(float) for picture in pictures)
        self.assertGreater(abs(mapped - decoded).max(), 8)
        # What the map shows is what is decoded, without its edges.
        self.assertLess(abs(mapped - decoded).mean(), 32)

    def test_a_keyboard_interrupt_ends_a_run(self):
        done = []
        # A program that a shell has put into the background ignores the signal, and Python then has no handler for it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)

        def step(made, total, computed):
            done.append(made)
            if made == 3:
                _thread.interrupt_main()  # as Ctrl-C does

        with self.assertRaises(KeyboardInterrupt):
            self.pipe(PROMPT, num_inference_steps=50, seed=0, callback=step)
        self.assertLess(len(done), 5)
        self.assertEqual(len(self.pipe(PROMPT, num_inference_steps=1, seed=0)), 1)

    def test_the_lock_is_released_while_the_engine_works(self):
        ticks, over = [], threading.Event()

        def tick():
            while not over.wait(0.005):
                ticks.append(time.monotonic())

        ticking = threading.Thread(target=tick)
        ticking.start()
        begun = time.monotonic()
        self.pipe(PROMPT, num_inference_steps=20, seed=0)
        ended = time.monotonic()
        over.set()
        ticking.join()
        self.assertGreater(sum(begun < at < ended for at in ticks), 4)

    def test_threads_wait_for_each_other(self):
        made = {}
        run = lambda seed: made.update({seed: self.pipe(PROMPT, num_inference_steps=2, seed=seed).arrays})
        threads = [threading.Thread(target=run, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for seed in (1, 2):
            np.testing.assert_array_equal(made[seed], self.pipe(PROMPT, num_inference_steps=2, seed=seed).arrays)

    def test_a_run_within_a_run_is_refused(self):
        refused = []

        def again(done, total, computed):
            try:
                self.pipe(PROMPT, num_inference_steps=1, seed=0)
            except afterimage.RequestError as error:
                refused.append(error.message)

        self.pipe(PROMPT, num_inference_steps=2, seed=0, callback=again)
        self.assertEqual(len(refused), 2)
        self.assertIn("within another", refused[0])

    @unittest.skipUnless("fork" in multiprocessing.get_all_start_methods(), "there is no fork")
    def test_a_fork_says_that_it_cannot_compute(self):
        self.pipe(PROMPT, num_inference_steps=1, seed=0)
        context = multiprocessing.get_context("fork")
        for work in (self.pipe, lambda *_, **__: afterimage.Pipeline.load("bundled", device="cpu")):
            theirs, ours = context.Pipe()
            child = context.Process(target=told, args=(work, ours))
            child.start()
            self.assertTrue(theirs.poll(60), "it answers")
            self.assertIn("fork", theirs.recv())
            child.join()

    def test_what_is_of_another_kind_is_said(self):
        for options in ({"prompt": 5}, {"prompt": b"a fox"}, {"prompt": ["a fox", 5]}, {"prompt": PROMPT, "seed": 7.0}, {"prompt": PROMPT, "seed": "7"}):
            with self.assertRaisesRegex(TypeError, "this is (int|bytes|float|str)"):
                self.pipe(**options)
        with self.assertRaisesRegex(TypeError, "`loras` is a list"):
            self.pipe(PROMPT, loras="style.safetensors")

    def test_what_is_wrong_is_said(self):
        with self.assertRaises(afterimage.RequestError) as caught:
            self.pipe(PROMPT, num_inference_steps=0)
        self.assertTrue(caught.exception.message)
        with self.assertRaises(afterimage.AfterimageError) as caught:
            self.pipe(PROMPT, cache="deepcash:interval=2")
        self.assertIn("deepcash", caught.exception.message)
        with self.assertRaisesRegex(TypeError, "`inference_steps` is no option"):
            self.pipe(PROMPT, inference_steps=4)
        with self.assertRaisesRegex(TypeError, "go together"):
            self.pipe(PROMPT, width=64)
        with self.assertRaises(afterimage.AfterimageError):
            self.pipe(recipe={"version": 1, "prompt": "not a key"})
        with self.assertRaises(afterimage.AfterimageError):
            self.pipe(recipe={"version": 1, "model": {"name": "another"}})
        for text in ("", "{", "[1]", "null", "a fox", "[" * 100_000):
            with self.assertRaises(afterimage.RequestError) as caught:
                self.pipe(recipe=text)
            self.assertTrue(caught.exception.hint)
            with self.assertRaises(afterimage.RequestError):
                afterimage.plan(recipe=text)
        with self.assertRaisesRegex(TypeError, "this is int"):
            self.pipe(recipe=7)
        with self.assertRaisesRegex(TypeError, "holds no set"):
            self.pipe(PROMPT, num_inference_steps={1})
        with self.assertRaises(afterimage.RequestError):
            self.pipe(PROMPT, seed=-1)
        with self.assertRaises(afterimage.RequestError):
            self.pipe(PROMPT, guidance_scale=float("nan"))
        deep: dict[str, object] = {}
        for _ in range(100_000):
            deep = {"a": deep}
        itself: list[object] = []
        itself.append(itself)
        for recipe in (deep, {"version": 1, "prompts": itself}):
            with self.assertRaises(afterimage.RequestError) as caught:
                self.pipe(recipe=recipe)
            self.assertTrue(caught.exception.message)

    def test_numbers_of_numpy_are_numbers(self):
        one = self.pipe(PROMPT, num_inference_steps=np.int64(1), guidance_scale=np.float32(3), seed=np.uint32(5), width=np.int32(64), height=64)
        other = self.pipe(PROMPT, num_inference_steps=1, guidance_scale=3.0, seed=5, width=64, height=64)
        np.testing.assert_array_equal(one.arrays, other.arrays)


class Beside(unittest.TestCase):
    def test_a_missing_model_and_device_are_said(self):
        with self.assertRaises(afterimage.AfterimageError) as caught:
            afterimage.Pipeline.load("no/such/folder")
        self.assertIn("no/such/folder", str(caught.exception))
        with self.assertRaises(afterimage.AfterimageError) as caught:
            afterimage.Pipeline.load(device="abacus")
        self.assertIn("abacus", caught.exception.message)
        self.assertTrue(caught.exception.hint)

    def test_a_plan_reads_no_weights(self):
        plain = afterimage.plan(num_inference_steps=30)
        cached = afterimage.plan(num_inference_steps=30, cache="deepcache:interval=3,branch=0")
        self.assertNotEqual(plain, cached)
        self.assertIn("cells", json.dumps(cached))

    def test_devices_are_listed(self):
        self.assertIn("cpu", [selector for selector, _ in afterimage.devices()])

    def test_warnings_are_pythons(self):
        pipe = afterimage.Pipeline.load(device="cpu")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pipe("a lighthouse", num_inference_steps=1, seed=0)
        self.assertTrue(any("lighthouse" in str(warning.message) for warning in caught), caught)


if __name__ == "__main__":
    sys.exit(unittest.main())
