"""`afterimage.ray` on a cluster of two nodes, both on the loopback address: `scripts/ray.sh`."""

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(16))  # nobody else on this machine joins
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own is 15: next to other work its workers get little

import afterimage  # noqa: E402  Ray reads these when it is imported
import afterimage.ray as many  # noqa: E402
import ray  # noqa: E402
from ray.util import state  # noqa: E402

HEAD = "127.0.0.1:6379"
STARTED = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus", "1", "--object-store-memory", "100000000", "--disable-usage-stats"]
ROWS = [{"prompt": f"a {colour} {shape}"} for colour in ("red", "blue", "green", "yellow") for shape in ("circle", "square", "triangle")]
SHORT = {"num_inference_steps": 4}
DRIVER = """
import json, sys
import afterimage.ray as many
import ray
address, folder, rows, options = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
many.generate_many(json.loads(rows), folder, pool=many.Pool(device="cpu", workers=2), **json.loads(options))
"""


def start(number, *more):
    """A node of one processor, whose workers have ports of their own."""
    ports = ["--min-worker-port", str(20000 + 100 * number), "--max-worker-port", str(20099 + 100 * number)]
    subprocess.run([*STARTED, *ports, "--node-ip-address", "127.0.0.1", *more], check=True, capture_output=True)


def begin():
    start(0, "--head", "--port", "6379", "--include-dashboard", "true", "--dashboard-port", "8265")


def join():
    start(1, "--address", HEAD)


def painters():
    """Workers that live, by process, with their nodes."""
    actors = state.list_actors(filters=[("state", "=", "ALIVE")], detail=True)
    return {actor.pid: actor.node_id for actor in actors if actor.class_name == "Worker"}


def watched(folder, until, seen=None):
    """Waits until `until(pictures)` holds, noting the first file that each picture was."""
    seen = {} if seen is None else seen
    for _ in range(2400):
        for file in folder.glob("*.png"):
            seen.setdefault(file.name, file.stat().st_ino)
        if until(seen):
            return seen
        time.sleep(0.05)
    raise AssertionError(f"{len(seen)} pictures after two minutes")


def ended(pids):
    """Waits until processes are no more."""
    for _ in range(600):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return
        time.sleep(0.05)
    raise AssertionError(f"{pids} live on after half a minute")


class Cluster(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)
        begin()
        self.addCleanup(self.end)

    def end(self):
        ray.shutdown()
        subprocess.run([STARTED[0], "stop", "--force"], check=True, capture_output=True)

    def attach(self):
        ray.init(address=HEAD, log_to_driver=False)

    def pictures(self, name, workers, together=1, **options):
        pool = many.Pool(device="cpu", workers=workers, together=together)
        summary = many.generate_many(ROWS, self.place / name, pool=pool, **{**SHORT, **options})
        self.assertEqual((summary.made, summary.failed), (len(ROWS), 0))
        return (self.place / name / many.MANIFEST).read_bytes()

    def in_background(self, name, workers, **options):
        made = {}
        thread = threading.Thread(target=lambda: made.update(manifest=self.pictures(name, workers, **options)))
        thread.start()
        return thread, made

    def test_the_same_bytes_whatever_the_number_of_workers(self):
        join()
        self.attach()
        one = self.pictures("one", 1)
        two = self.pictures("two", 2)
        self.assertEqual(one, two)  # with the digest of every file
        self.assertEqual(one, self.pictures("four", 2, together=4))
        self.assertEqual(len([line for line in one.splitlines() if json.loads(line)["sha256"]]), len(ROWS))
        results = [many.evaluate(self.place / f"evaluation{workers}", pool=many.Pool(device="cpu", workers=workers), samples=6, batch=2,
                                 prompts=["a red circle"], shapes=True, cache="deepcache:interval=2,branch=0", **SHORT) for workers in (1, 2)]
        exact = [[{key: value for key, value in outcome.items() if key not in ("speedup", "whole_speedup", "denoising_seconds")}
                  for outcome in result["outcomes"]] for result in results]
        self.assertEqual(*exact)

    def test_a_worker_that_is_killed_loses_and_repeats_nothing(self):
        join()
        self.attach()
        whole = self.pictures("whole", 2, num_inference_steps=30)
        thread, made = self.in_background("killed", 2, num_inference_steps=30)
        seen = watched(self.place / "killed", lambda seen: len(seen) >= 3)
        victims = painters()
        self.assertEqual(len(victims), 2)
        os.kill(next(iter(victims)), signal.SIGKILL)
        seen = watched(self.place / "killed", lambda seen: not thread.is_alive(), seen)
        thread.join()
        self.assertEqual(made["manifest"], whole)
        # A picture that is made twice is another file under the same name.
        self.assertEqual(seen, {file.name: file.stat().st_ino for file in (self.place / "killed").glob("*.png")})

    def test_workers_stay_for_a_block(self):
        join()
        self.attach()
        with many.Pool(device="cpu", workers=2) as pool:
            served = []
            for seed in (0, 100):
                many.generate_many(ROWS, self.place / f"seed{seed}", pool=pool, seed=seed, **SHORT)
                served.append(set(painters()))
        self.assertEqual(len(served[0]), 2)
        self.assertEqual(served[0], served[1])
        ended(served[0])
        self.assertEqual(self.pictures("one", 1), (self.place / "seed0" / many.MANIFEST).read_bytes())

    def test_a_driver_that_is_stopped_or_killed_leaves_nothing_behind(self):
        join()
        self.attach()
        options = {"num_inference_steps": 60}
        for how in (signal.SIGINT, signal.SIGKILL):
            driver = subprocess.Popen([sys.executable, "-c", DRIVER, HEAD, str(self.place / "stopped"), json.dumps(ROWS), json.dumps(options)], stderr=subprocess.DEVNULL)
            before = len(list((self.place / "stopped").glob("*.png")))
            watched(self.place / "stopped", lambda seen: len(seen) >= before + 2)
            workers = painters()
            self.assertEqual(len(workers), 2)
            driver.send_signal(how)
            self.assertNotEqual(driver.wait(60), 0)
            ended(workers)
        stopped = len(list((self.place / "stopped").glob("*.png")))
        self.assertLess(stopped, len(ROWS))
        summary = many.generate_many(ROWS, self.place / "stopped", pool=many.Pool(device="cpu", workers=2), **options)
        self.assertEqual((summary.made, summary.found), (len(ROWS) - stopped, stopped))
        whole = many.generate_many(ROWS, self.place / "whole", pool=many.Pool(device="cpu", workers=1), **options)
        self.assertEqual(Path(summary.manifest).read_bytes(), Path(whole.manifest).read_bytes())

    def test_a_node_that_joins_is_used(self):
        self.attach()
        alone = ray.nodes()[0]["NodeID"]
        thread, made = self.in_background("joined", None, num_inference_steps=250)
        watched(self.place / "joined", lambda seen: len(seen) >= 1)
        self.assertEqual(set(painters().values()), {alone})
        join()
        used = set()
        while thread.is_alive():
            used |= set(painters().values())
            time.sleep(0.2)
        thread.join()
        self.assertEqual(len(used), 2)
        self.assertIn("manifest", made)

    def test_serve_answers_in_openais_form(self):
        from ray import serve

        self.attach()
        sys.path.insert(0, os.environ["EXAMPLES"])
        import ray_serve

        serve.start(http_options={"host": "127.0.0.1", "port": 8099})
        serve.run(ray_serve.app)
        self.addCleanup(serve.shutdown)
        asked = {"prompt": "a red circle", "seed": 3, "steps": 4, "n": 2, "size": "64x64"}
        data = self.post(asked)["data"]
        self.assertEqual(len(data), 2)
        result = afterimage.Pipeline.load(device="cpu")("a red circle", seed=3, num_inference_steps=4, num_images_per_prompt=2, width=64, height=64)
        own = self.place / "own.png"
        result.save(own, 1)
        self.assertEqual(base64.b64decode(data[1]["b64_json"]), own.read_bytes())
        with self.assertRaises(urllib.error.HTTPError) as refused:
            self.post({**asked, "cache": "deepcash"})
        self.assertEqual(refused.exception.code, 400)
        self.assertIn("deepcash", refused.exception.read().decode())

    def post(self, asked):
        request = urllib.request.Request("http://127.0.0.1:8099/v1/images/generations", json.dumps(asked).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)


if __name__ == "__main__":
    sys.exit(unittest.main())
