"""What a record is made of: units, each one process with a time limit, each in the record once whatever becomes of it."""

import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

MESSAGE = 1500  # Characters that are kept of a failure.


@dataclass(frozen=True)
class Unit:
    """A command; `read` makes what is kept of its output."""

    name: str
    command: list[str]
    read: Callable[[str], Any]
    variables: tuple[tuple[str, str], ...] = ()


class GpuMemory(threading.Thread):
    """The most memory that the GPU has in use, by nvidia-smi; nothing without one."""

    QUERY = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.done, self.before, self.most = threading.Event(), self.used(), None

    def used(self) -> int | None:
        try:
            return int(subprocess.run(self.QUERY, capture_output=True, text=True, check=True).stdout.split()[0]) << 20
        except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
            return None

    def run(self) -> None:
        while self.before is not None and not self.done.wait(0.25):
            self.most = max(self.most or 0, (self.used() or 0) - self.before)

    def stop(self) -> int | None:
        self.done.set()
        self.join()
        return self.most


def finished(unit: Unit, seconds: float) -> tuple[int | None, str, str]:
    """Exit status (none where the time was up), output, and what was said beside it."""
    with tempfile.TemporaryFile("w+", errors="replace") as output, tempfile.TemporaryFile("w+", errors="replace") as errors:
        environment = os.environ | dict(unit.variables)
        process = subprocess.Popen(unit.command, stdout=output, stderr=errors, env=environment, start_new_session=True)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
        return status, *map(said, (output, errors))


def said(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def run(unit: Unit, minutes: float) -> dict[str, Any]:
    memory, start = GpuMemory(), time.time()
    memory.start()
    line: dict[str, Any] = {"unit": unit.name, "started": round(start)}
    try:
        status, output, errors = finished(unit, minutes * 60)
        if status is None:
            line["error"] = f"not done within {minutes} minutes\n{errors[-MESSAGE:]}"
        else:
            line |= outcome(unit, status, output, errors)
    except OSError as error:
        line["error"] = str(error)
    return line | {"seconds": round(time.time() - start, 1), "gpu_memory": memory.stop()}


def outcome(unit: Unit, status: int, output: str, errors: str) -> dict[str, Any]:
    try:
        result = unit.read(output)
    except (ValueError, KeyError, IndexError) as error:
        return {"error": f"exit status {status}, {error!r}\n{errors[-MESSAGE:]}"}
    return {"result": result} if status == 0 else {"result": result, "error": f"exit status {status}\n{errors[-MESSAGE:]}"}


class Journal:
    """The finished units, a line of JSON each."""

    def __init__(self, file: pathlib.Path) -> None:
        self.file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self.lines = {line["unit"]: line for line in whole(lines)}

    def add(self, line: dict[str, Any]) -> None:
        self.lines[line["unit"]] = line
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def result(self, name: str) -> Any:
        return self.lines.get(name, {}).get("result")


def whole(lines: list[str]) -> Iterator[dict[str, Any]]:
    """A machine that is taken back may leave half a line."""
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue
