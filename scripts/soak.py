#!/usr/bin/env python3
"""Load and bad manners against the server: what it loses, mixes up or leaks. Linux; needs nothing but Python, and schemathesis for one stage.

    scripts/soak.py PROGRAM [--scale 0.1] [--stage NAME…] [--schemathesis ST --seconds 600]

PROGRAM is built with --features serve. Every stage fails loudly; at the end there is a table for docs/server.md. `--scale` is the share of the load.
"""

import argparse
import base64
import concurrent.futures
import http.client
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PROMPT = "a red circle above a blue square"
FLAT = 1.05
IDLE = 30
"""MiB that a server which has nothing to do may hold beside its models' weights."""
REST = 2.5
"""Seconds after which a server that has nothing to do has given back what it does not need."""


class Refused(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class Server:
    """The program under test, with a token a client, so that clients are told apart on one machine."""

    def __init__(self, program, port, clients, *options):
        self.program, self.port, self.options = program, port, options
        self.tokens = tempfile.NamedTemporaryFile("w", suffix=".tokens")
        self.tokens.writelines(f"c{client} secret-{client}\n" for client in range(clients))
        self.tokens.flush()
        self.start()

    def start(self):
        command = [self.program, "serve", "--port", str(self.port), "--tokens", self.tokens.name, *self.options]
        self.log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        for _ in range(400):
            try:
                return self.call("GET", "/healthz")
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the server does not start")

    def stop(self, how=signal.SIGTERM):
        began = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(60)
        return time.monotonic() - began

    def memory(self):
        """Resident bytes that are the program's own: pages of files can be dropped at any time."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

    def handles(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def call(self, method, path, body=None, client=0, timeout=600):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        headers = {"authorization": f"Bearer secret-{client}"}
        data = None
        if body is not None:
            data, headers["content-type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        is_json = "json" in (answer.headers.get("content-type") or "")
        value = json.loads(text) if is_json else text
        if answer.status >= 400:
            raise Refused(answer.status, value)
        return value

    def raw(self, method, path, body, client=0):
        """A socket on which a request was sent, and nothing was read."""
        data = json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\nauthorization: Bearer secret-{client}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        link = socket.create_connection(("127.0.0.1", self.port))
        link.sendall(head.encode() + data)
        return link

    def job(self, client=0, **recipe):
        recipe = {"prompts": [PROMPT], "steps": 2} | recipe
        return self.call("POST", "/v1/jobs", {"recipe": recipe}, client)

    def until(self, true, seconds=120):
        end = time.monotonic() + seconds
        while not (value := true()):
            if time.monotonic() > end:
                raise AssertionError("it does not come to that")
            time.sleep(0.02)
        return value

    def queue(self):
        return self.call("GET", "/v1/info")["queue"]

    def idle(self):
        self.until(lambda: not any(self.queue().values()))

    def state(self, job, client=0):
        return self.call("GET", f"/v1/jobs/{job['id']}", client=client)["state"]

    def finished(self, job, client=0):
        return self.until(lambda: self.state(job, client) in ("done", "failed", "cancelled") and self.state(job, client))


def recipe_of(png):
    """The recipe that a PNG keeps."""
    at = 8
    while at < len(png):
        length, kind = int.from_bytes(png[at:at + 4], "big"), png[at + 4:at + 8]
        chunk = png[at + 8:at + 8 + length]
        if kind == b"iTXt" and chunk.startswith(b"recipe\0"):
            return json.loads(chunk.split(b"\0", 5)[5])
        at += 12 + length
    raise AssertionError("a picture without a recipe")


def picture(server, client=0, timeout=600, **fields):
    body = {"model": "bundled", "prompt": PROMPT, "steps": 2} | fields
    answer = server.call("POST", "/v1/images/generations", body, client, timeout)
    return base64.b64decode(answer["data"][0]["b64_json"])


def dropped(server, scale):
    """Requests whose client goes away: each ends, and no other client's job does."""
    number = round(200 * scale)
    before = ended(server)
    kept = [server.job(client=1, seed=seed, steps=6) for seed in range(round(20 * max(scale, 0.25)))]
    for at in range(number):
        path = ["/v1/images/generations", "/sdapi/v1/txt2img"][at % 2]
        link = server.raw("POST", path, {"prompt": PROMPT, "steps": 150, "width": 128, "height": 128}, client=0)
        time.sleep(random.uniform(0, 0.12))
        link.close()
    server.idle()
    states = [server.finished(job, 1) for job in kept]
    assert set(states) == {"done"}, states
    # Jobs of these two interfaces; those that are given up while they wait do not begin, and are not counted.
    begun = {state: count - before.get(state, 0) for state, count in ended(server).items()}
    assert begun.get("cancelled", 0) > 0, begun
    assert set(state for state, count in begun.items() if count) == {"cancelled"}, begun
    return f"{number} dropped, {begun['cancelled']} of them begun and cancelled, none finished; {len(kept)} of another client's all done"


def ended(server):
    """Jobs of the interfaces that wait for pictures, by how they ended, as `/metrics` counts them."""
    found = re.findall(r'jobs_total\{interface="(?:openai|sdapi)",state="(\w+)"\} (\d+)', server.call("GET", "/metrics").decode())
    return {state: sum(int(count) for name, count in found if name == state) for state, _ in found}


def many(server, scale):
    """Small ones from 32 clients at once: everyone gets what they asked for, once."""
    clients, number = 32, round(1000 * scale)
    began = time.monotonic()

    def one(at):
        recipe = recipe_of(picture(server, client=at % clients, seed=at + 1))
        assert recipe["seed"] == at + 1, (at, recipe)
        return recipe["seed"]

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        seeds = list(pool.map(one, range(number)))
    assert len(set(seeds)) == number
    took = time.monotonic() - began
    server.idle()
    return f"{number} pictures for 32 clients in {took:.1f} s ({number / took:.1f} a second), each its own seed"


def slow(server, _scale):
    """A client that does not read its events, and one that reads its picture a byte at a time: nobody waits for them."""
    quick = statistics.median(timed(lambda: picture(server, client=2)) for _ in range(10))
    job = server.job(client=0, steps=100)
    links = []
    for path in ["/v1/events", f"/v1/jobs/{job['id']}/events"] * 4:
        link = socket.socket()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        link.connect(("127.0.0.1", server.port))
        link.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\nauthorization: Bearer secret-0\r\n\r\n".encode())
        links.append(link)
    assert server.finished(job) == "done"
    beside = statistics.median(timed(lambda: picture(server, client=2)) for _ in range(10))
    for link in links:
        link.close()
    assert beside < quick * 1.5 + 0.02, (quick, beside)
    return f"8 that do not read; a picture takes {beside * 1e3:.0f} ms beside them, {quick * 1e3:.0f} ms alone"


def half_open(server, scale):
    """Connections that send half a request and stay: the server answers others, and closes them."""
    number = round(200 * scale)
    links = []
    for at in range(number):
        link = socket.create_connection(("127.0.0.1", server.port))
        link.sendall([b"", b"POST /v1/jobs HTTP/1.1\r\nhost: 127", b"POST /v1/jobs HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer secret-0\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{"][at % 3])
        links.append(link)
    answered = statistics.median(timed(lambda: server.call("GET", "/healthz")) for _ in range(20))
    began = time.monotonic()
    for link in links:
        link.settimeout(90)
        while True:
            try:
                if not link.recv(4096):
                    break
            except ConnectionResetError:
                break
        link.close()
    return f"{number} half requests; /healthz in {answered * 1e3:.1f} ms beside them, all closed after {time.monotonic() - began:.0f} s"


def owners(server, _scale):
    """Another client's job is not there: not to see, not to stop, not by `interrupt` either."""
    job = server.job(client=3, steps=60)
    for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/events")]:
        try:
            server.call(method, f"/v1/jobs/{job['id']}{path}", client=4)
            raise AssertionError(f"{method} of another's job")
        except Refused as refused:
            assert refused.status == 404, refused
    for call in ["interrupt", "skip"]:
        server.call("POST", f"/sdapi/v1/{call}", {}, client=4)
    assert server.finished(job, 3) == "done"
    return "GET, DELETE, events, interrupt and skip of another client: 404 or without effect; the job is done"


def full(server, _scale):
    """A full queue is said with 429, and what was taken in is worked off or stopped."""
    jobs, refused = [], 0
    for _ in range(90):
        try:
            jobs.append(server.job(client=5, steps=150))
        except Refused as error:
            assert error.status == 429 and "max-queue" in json.dumps(error.body), error
            refused += 1
    assert refused > 0
    for job in reversed(jobs):
        server.call("DELETE", f"/v1/jobs/{job['id']}", client=5)
    server.idle()
    states = {server.finished(job, 5) for job in jobs}
    assert states <= {"cancelled", "done"}, states
    return f"{len(jobs)} taken in, {refused} refused with 429, all taken in stopped"


def kill(server, _scale):
    """A shutdown in mid-picture finishes or gives back; a kill is told by the connection; both times it starts again."""
    answers = []

    def ask():
        try:
            answers.append(("done", recipe_of(picture(server, seed=1, steps=120))["seed"]))
        except Refused as refused:
            answers.append(("refused", refused.status))
        except (OSError, http.client.HTTPException) as lost:
            answers.append(("lost", type(lost).__name__))

    def in_the_middle(how):
        thread = threading.Thread(target=ask)
        thread.start()
        server.until(lambda: server.queue()["running"])
        took = server.stop(how)
        thread.join()
        server.start()
        picture(server)
        return answers.pop(), took

    gentle, took = in_the_middle(signal.SIGTERM)
    assert gentle in [("done", 1), ("refused", 503)], gentle
    hard, _ = in_the_middle(signal.SIGKILL)
    assert hard[0] == "lost", hard
    return f"SIGTERM in mid-picture: {gentle[0]} {gentle[1]}, gone after {took:.1f} s; SIGKILL: the connection breaks; it starts again both times"


def timed(act):
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def speed(server, scale):
    """What a client waits for beside the engine, picture by picture, by the engine's own account in the answer (`Server-Timing`); then the queue against that account, and the
    whole against the program's own engine in turns: while the server rests, `bench` times plain runs in a process of its own, after one that does not count."""
    number, rounds, steps = max(4, round(8 * scale)), max(3, round(4 * scale)), 30
    beside, parts, one, inside = [], [], [], []
    for turn in range(rounds):
        def of_server():
            picture(server, client=6, steps=steps)
            waits = [waited(server, seed, steps) for seed in range(number)]
            beside.extend((wall - engine) / engine for wall, engine, _ in waits)
            parts.extend(told for _, _, told in waits)
            return statistics.median(wall for wall, _, _ in waits), *in_a_row(server, number, steps)

        if turn % 2:
            told, engine = of_server(), engine_alone(server, number, steps)
        else:
            engine, told = engine_alone(server, number, steps), of_server()
        one.append(told[0] / engine)
        inside.append(told[1] / told[2])
    where = ", ".join(f"{part} {statistics.median(told[part] for told in parts):.2f}" for part in parts[0])
    return (f"from the request to its picture's bytes a client waits {percent(beside)} longer than the engine takes by its own account in the same answer (ms: {where}); "
            f"out of a queue / the engine's own account {spread(inside)}; from the request to the bytes / `bench` in turns {spread(one)}, which takes {engine * 1e3:.0f} ms; {rounds} rounds of {number}")


def percent(shares):
    return f"{statistics.median(shares):.2%} ({min(shares):.2%} to {max(shares):.2%})"


def waited(server, seed, steps):
    """Seconds from a request to the last byte of its answer, those of the engine in it, and all that the server accounts for, in milliseconds."""
    body = json.dumps({"model": "bundled", "prompt": PROMPT, "steps": steps, "seed": seed})
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    connection.request("POST", "/v1/images/generations", body, {"authorization": "Bearer secret-6", "content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    wall = time.perf_counter() - began
    connection.close()
    assert answer.status == 200, text
    told = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    told = {part: float(time) for part, time in told.items()}
    return wall, sum(told[part] for part in ("text", "denoising", "decoding")) / 1e3, told | {"at the client": wall * 1e3}


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def engine_alone(server, number, steps):
    """Seconds of a plain run, by the program's own measurement: the median of so many."""
    command = [server.program, "bench", "--device", "cpu", "--cache", "none", "--repeat", str(number), "--steps", str(steps), "--json"]
    out = subprocess.run(command, capture_output=True, check=True)
    return json.loads(out.stdout)["results"][0]["whole_seconds"]["median"]


def in_a_row(server, number, steps):
    """Seconds a picture of so many that wait, by the server's clock, and by the engine's."""
    jobs = [server.job(client=6, seed=seed, steps=steps) for seed in range(number)]
    server.until(lambda: server.state(jobs[-1], 6) == "done", 600)
    told = [server.call("GET", f"/v1/jobs/{job['id']}", client=6) for job in jobs]
    wall = (told[-1]["finished"] - told[0]["started"]) / number
    return wall, statistics.mean(sum(job["seconds"][part] for part in ("text", "denoising", "decoding")) for job in told)


def progress(server, scale):
    """From a request to a free engine to the first byte that says it runs, and to that of the first step: right after other work, and after a rest."""
    number = max(5, round(20 * scale))
    at_once = [first_bytes(server) for _ in range(number)]
    rested = [first_bytes(server, REST) for _ in range(number // 2)]

    def told(times):
        running, step = zip(*times)
        return f"running {max(running) * 1e3:.1f} ms, the first step {statistics.median(step) * 1e3:.0f} ms (longest {max(step) * 1e3:.0f})"

    return f"at the latest of {number} after other work: {told(at_once)}; of {number // 2} after a rest: {told(rested)}"


def first_bytes(server, rest=0):
    """Seconds from sending a job to the bytes of its events that say it runs, and that a step is made."""
    server.idle()
    time.sleep(rest)
    began = time.perf_counter()
    job = server.job(client=6, steps=20)
    link = server.raw("GET", f"/v1/jobs/{job['id']}/events", {}, client=6)
    data, times = b"", []
    for said in (b'"state":"running"', b'"state":"running","position":null,"phase":"denoising"'):
        while said not in data:
            data += link.recv(1 << 16)
        times.append(time.perf_counter() - began)
    link.close()
    server.finished(job, 6)
    return times


def rest(server, _scale):
    """What a server holds that has nothing to do, beside its models' weights: after small pictures, and after a large one."""
    one = Server(server.program, server.port + 1, 33)
    held = {}
    try:
        for side in (64, 128, 512):
            picture(one, steps=4, size=f"{side}x{side}")
            one.idle()
            time.sleep(REST)
            metrics = one.call("GET", "/metrics").decode()
            weights = sum(int(line.split()[1]) for line in metrics.splitlines() if line.startswith("afterimage_weights_bytes{"))
            held[side] = (one.memory() - weights) / (1 << 20)
    finally:
        one.process.kill()
    assert max(held.values()) <= IDLE, held
    return "; ".join(f"after {side}x{side} weights and {mib:.1f} MiB" for side, mib in held.items())


def together(server, scale):
    """Waiting requests of one kind in one run, against one after the other, in turns: how many a second, how late each, and whether they are the same."""
    number, rounds = 16, max(3, round(10 * scale))
    servers = {most: Server(server.program, server.port + most, 33, "--together", str(most)) for most in (1, 8)}
    faster, later = [], []
    try:
        for turn in range(rounds):
            told = {}
            for most in sorted(servers, reverse=turn % 2 == 1):
                told[most] = in_one_go(servers[most], number, 100 * turn)
            (wall, mean, plain), (wall_together, mean_together, joined) = told[1], told[8]
            assert plain == joined, "other pictures together than alone"
            faster.append(wall / wall_together)
            later.append(mean_together / mean)
    finally:
        for one in servers.values():
            one.process.kill()
    return (f"{number} waiting pictures of 20 steps, 8 a run: {statistics.median(faster):.2f} times as many a second as one after the other ({min(faster):.2f} to {max(faster):.2f}, "
            f"{rounds} rounds in turns), each after {statistics.median(later):.2f} of the time on the average; the same bytes")


def in_one_go(server, number, seed):
    """Seconds for that many that wait together, the mean of when each was done, and their files."""
    server.job(client=1, steps=4)
    server.idle()
    first = server.job(client=1, steps=150)
    server.until(lambda: server.state(first, 1) == "running")
    jobs = [server.job(client=2, seed=seed + at, steps=20) for at in range(number)]
    server.call("DELETE", f"/v1/jobs/{first['id']}", client=1)
    server.idle()
    told = [server.call("GET", f"/v1/jobs/{job['id']}", client=2) for job in jobs]
    began = min(job["started"] for job in told)
    ends = [job["finished"] - began for job in told]
    return max(ends), statistics.mean(ends), [server.call("GET", job["images"][0]["url"], client=2) for job in told]


def schema(server, program, seconds):
    """schemathesis against the OpenAPI document: no 5xx, nothing that the document does not say."""
    command = [program, "run", f"http://127.0.0.1:{server.port}/openapi.json", "--max-time", str(seconds), "--continue-on-failure", "--request-timeout", "120",
               "-H", "Authorization: Bearer secret-7", "--checks", "not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance",
               "--suppress-health-check", "all", "--workers", "2", "--warnings", "off"]
    with tempfile.TemporaryDirectory() as folder:  # it keeps what it has tried where it runs
        out = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if out.returncode:
        print(out.stdout[-6000:], out.stderr[-2000:], file=sys.stderr)
        raise AssertionError("schemathesis found faults")
    cases = next((line.strip() for line in out.stdout.splitlines() if "test cases" in line.lower() or "generated" in line.lower()), "")
    return f"{seconds} s: no fault; {cases}"


STAGES = {stage.__name__: stage for stage in (dropped, many, slow, half_open, owners, full, rest, progress, speed, together, kill)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--stage", nargs="*", default=list(STAGES))
    parser.add_argument("--port", type=int, default=7875)
    parser.add_argument("--together", type=int, default=1, help="the server's option in all stages but its own")
    parser.add_argument("--schemathesis")
    parser.add_argument("--seconds", type=int, default=600)
    arguments = parser.parse_args()
    # Few results are kept, so that what grows is a leak and not the store.
    server = Server(os.path.abspath(arguments.program), arguments.port, 33, "--keep-bytes", str(4 << 20), "--max-seconds-client", "100000", "--together", str(arguments.together))
    rows, failed = [], False
    try:
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda at: picture(server, client=at % 32), range(round(400 * max(arguments.scale, 0.2)))))
        server.idle()
        time.sleep(REST)
        base, handles = server.memory(), server.handles()
        stages = dict.fromkeys(arguments.stage)
        if arguments.schemathesis:
            stages["schemathesis"] = None
        for name in stages:
            began = time.monotonic()
            process = server.process
            try:
                said = schema(server, arguments.schemathesis, arguments.seconds) if name == "schemathesis" else STAGES[name](server, arguments.scale)
                server.idle()
                time.sleep(REST)
                memory, open_now = server.memory(), server.handles()
                if server.process is process:
                    assert memory <= base * FLAT, f"memory grew from {base >> 20} to {memory >> 20} MiB"
                    assert open_now <= handles + 8, f"{open_now} handles, {handles} before"
            except Exception as error:  # noqa: BLE001 — the other stages are still of interest
                failed, said, memory = True, f"FAILED: {type(error).__name__}: {error}", server.memory()
            rows.append((name, said, f"{memory / base:.3f}"))
            print(f"{name} ({time.monotonic() - began:.0f} s): {said}; memory {memory >> 20} MiB, {base >> 20} at first", file=sys.stderr, flush=True)
    finally:
        server.process.kill()
    print("| stage | what came of it | memory, of that before |\n|---|---|---:|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.exit(failed)


if __name__ == "__main__":
    main()
