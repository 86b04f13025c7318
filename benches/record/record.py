"""Measures ours and diffusers on this machine in turn, and writes a record in JSON and Markdown.

usage: record.py --output FILE.md [--state DIR] [--rehearse] [--further] [--rounds N] [--minutes N] [--stop-after N] [--only WORD] [--again]

What is finished is in DIR/journal.jsonl and is not run again by the next start: a machine may be lent for minutes at a time. What fails is
in the record with its message, and is only run again with --again.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from table import markdown
from units import Journal, Unit, run

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEER = str(HERE.parent / "peers/diffusion.py")

Row = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """Who computes, `ours` or `torch`, how (ours with `recorded` steps, torch `compiled`), on which device, in what."""

    who: str
    device: str
    dtype: str
    how: str = ""

    @property
    def name(self) -> str:
        words = [self.who, self.how, self.device, self.dtype]
        return " ".join(word for word in words if word)


def interval(rule: str) -> int:
    """Of a rule that the DeepCache package has, else 0."""
    options = dict(word.split("=") for word in rule.partition(":")[2].split(",") if "=" in word)
    return int(options["interval"]) if rule.startswith("deepcache") else 0


class Record:
    """The units of one machine's record."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.state = pathlib.Path(options.state).resolve()
        tables = json.loads((HERE / "rows.json").read_text())
        rows: dict[str, Row] = tables["rehearsal" if options.rehearse else "record"]
        self.rows = {name: row for name, row in rows.items() if options.further or not row.get("further")}
        self.rules: dict[str, list[str]] = tables["rules"]
        self.peer_device = "cpu" if options.rehearse else "cuda"

    def model(self, name: str) -> str:
        return str(self.state / "models" / name.replace("/", "-"))

    def home(self, name: str = "home") -> tuple[tuple[str, str], ...]:
        """Where kernels and their tuning are kept: from one process to the next, and apart from whatever the machine has."""
        folder = self.state / name
        folder.mkdir(exist_ok=True)
        return ("HOME", str(folder)), ("XDG_CACHE_HOME", str(folder / "cache"))

    def ours(self, *words: object) -> list[str]:
        return [str(self.options.afterimage), *map(str, words)]

    def course(self, row: Row) -> list[str]:
        words = ["--model", self.model(row["model"]), "--sampler", "ddim", "--steps", row["steps"], "--batch", row.get("batch", 1)]
        words += ["--control-model", self.model(row["control"])] if "control" in row else []
        words += ["--size", f"{row['size']}x{row['size']}"] if "size" in row else []
        words += ["--class-label", row["class"]] if "class" in row else []
        words += ["--guidance-scale", row["guidance"]] if "guidance" in row else []
        return [str(word) for word in words]

    def sides(self) -> list[Side]:
        devices = self.options.devices.split(",")
        ours = [Side("ours", device, dtype) for device in devices for dtype in ("f16", "f32")]
        recorded = "f32" if self.options.rehearse else "f16"
        ours += [Side("ours", device, recorded, "recorded") for device in devices if device != "cpu"]
        torch = [("f16", ""), ("f16", "compiled"), ("f32", ""), ("tf32", "")]
        return ours + [Side("torch", self.peer_device, dtype, how) for dtype, how in torch]

    def facts(self) -> Iterator[Unit]:
        query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit"
        yield Unit("gpu", ["nvidia-smi", query, "--format=csv"], str.strip)
        versions = "import torch, diffusers, transformers; print(torch.__version__, diffusers.__version__, transformers.__version__)"
        yield Unit("versions", [sys.executable, "-c", versions], str.strip)
        yield Unit("devices", self.ours("devices"), str.strip)
        side = "512" if self.options.rehearse else "8192"
        yield Unit("peak", [sys.executable, str(HERE / "peak.py"), self.peer_device, side], json.loads)
        for model in (row[part] for row in self.rows.values() for part in ("model", "control") if part in row):
            script = [sys.executable, str(ROOT / "scripts/random_weights.py"), self.source(model), self.model(model)]
            yield Unit(f"weights {model}", script, str.strip)

    def source(self, model: str) -> str:
        return str(ROOT / model) if (ROOT / model).is_dir() else model

    def plans(self) -> Iterator[Unit]:
        for name, row in self.rows.items():
            for rule in self.rules[row["rules"]]:
                plan = self.ours("plan", *self.course(row), "--cache", rule, "--json")
                yield Unit(f"plan {name} {rule}", plan, lambda text: json.loads(text)["work"])

    def checks(self) -> Iterator[Unit]:
        """The kernels and the golden cases, device by device."""
        for side in (side for side in self.sides() if side.who == "ours" and not side.how):
            words = ["--device", side.device, "--dtype", side.dtype]
            yield Unit(f"doctor {side.name}", self.ours("doctor", *words), str.strip, self.home())
            tested = {"DEVICE": side.device, "DEVICES": side.device, "DTYPE": side.dtype}.items()
            variables = (*self.home(), ("AFTERIMAGE_ROOT", str(ROOT)), *((f"AFTERIMAGE_TEST_{key}", value) for key, value in tested))
            suite = [str(self.options.tests), *self.options.cases.split(), "--test-threads", "1"]
            yield Unit(f"parity {side.name}", suite, self.tally, variables)

    @staticmethod
    def tally(output: str) -> list[str]:
        """What the tests say in the end, and which failed."""
        lines = output.splitlines()
        failed = [line for line in lines if line.endswith("... FAILED")]
        return failed + [line for line in lines if line.startswith("test result:")]

    def starts(self) -> Iterator[Unit]:
        """The first process on a device that knows nothing, and the second: one step each."""
        name, row = next(iter(self.rows.items()))
        for device in self.options.devices.split(","):
            words = [*self.course(row | {"steps": 1}), "--device", device, "--seed", 0, "--json"]
            for turn in ("first", "second"):
                picture = ["--output", self.state / "picture.png"]
                yield Unit(f"start {turn} {device}", self.ours("generate", *words, *picture), self.start, self.home(f"fresh-{device}"))

    @staticmethod
    def start(output: str) -> dict[str, float]:
        return json.loads(output)["seconds"]

    def rounds(self) -> Iterator[Unit]:
        """Side by side; every round begins with another."""
        for turn in range(self.options.rounds):
            for name, row in self.rows.items():
                for rule in self.rules[row["rules"]]:
                    sides = self.sides()
                    for side in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
                        unit = self.timed(f"{name} | {rule} | {side.name} | {turn}", row, rule, side)
                        if unit:
                            yield unit

    def timed(self, name: str, row: Row, rule: str, side: Side) -> Unit | None:
        if side.who == "ours":
            words = ["--device", side.device, "--dtype", side.dtype, "--cache", rule, "--repeat", 1, "--json"]
            words += ["--step-graphs"] if side.how else []
            return Unit(name, self.ours("bench", *self.course(row), *words), self.bench, self.home())
        if rule != "none" and (side.how or not interval(rule)):
            return None
        command = [sys.executable, PEER, "diffusers", self.model(row["model"]), "--device", side.device, "--dtype", side.dtype]
        command += [f"--{key}={row[key]}" for key in ("steps", "size", "batch", "guidance") if key in row]
        command += [f"--control={self.model(row['control'])}"] if "control" in row else []
        command += [f"--interval={interval(rule)}"] if interval(rule) else []
        return Unit(name, command + (["--compile"] if side.how else []), json.loads)

    @staticmethod
    def bench(output: str) -> dict[str, Any]:
        document = json.loads(output)
        result = document["results"][-1]
        kept = {"denoising": result["denoising_seconds"]["median"], "speedup": result["denoising_speedup"]["median"]}
        return kept | {"peak_memory": document["peak_memory"], "played": result.get("evaluations_played")}

    def units(self) -> Iterator[Unit]:
        for part in (self.facts, self.plans, self.checks, self.starts, self.rounds):
            yield from part()

    def facts_of_this_machine(self) -> dict[str, str]:
        commit = ROOT / "COMMIT"
        git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        short = commit.read_text() if commit.exists() else subprocess.run(git, capture_output=True, text=True).stdout
        return {"commit": short.strip(), "machine": f"{platform.machine()}, {os.cpu_count()} threads, {platform.system()}"}


def make(record: Record) -> Journal:
    options = record.options
    (record.state / "models").mkdir(parents=True, exist_ok=True)
    journal, end = Journal(record.state / "journal.jsonl"), time.time() + options.stop_after * 60
    for unit in record.units():
        line = journal.lines.get(unit.name)
        if options.only not in unit.name:
            continue
        if line and not (options.again and "error" in line):
            continue
        minutes = min(options.minutes, (end - time.time()) / 60)
        if minutes < options.least:
            print("time is up: start again to go on", flush=True)
            break
        line = run(unit, minutes)
        if "error" in line and minutes < options.minutes and line["seconds"] >= minutes * 60:
            print(f"{unit.name}: cut off, not recorded", flush=True)
            break
        journal.add(line)
        print(f"{unit.name}: {line['seconds']} s{'  FAILED' if 'error' in line else ''}", flush=True)
    return journal


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--state", default="record-state")
    parser.add_argument("--rehearse", action="store_true", help="tiny models on the processor and a software rasteriser")
    parser.add_argument("--further", action="store_true", help="the rows that are not in every record as well")
    parser.add_argument("--devices", help="of ours, joined by commas")
    parser.add_argument("--cases", help="of the parity suite: words of test names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=8, help="for one unit at most")
    parser.add_argument("--stop-after", type=float, default=1e9, help="minutes from now")
    parser.add_argument("--least", type=float, default=0.5, help="minutes left under which no unit starts")
    parser.add_argument("--only", default="", help="units with this in their name")
    parser.add_argument("--again", action="store_true", help="run what failed again")
    parser.add_argument("--afterimage", type=pathlib.Path, default=ROOT / "bin/afterimage")
    parser.add_argument("--tests", type=pathlib.Path, default=ROOT / "bin/it")
    options = parser.parse_args()
    options.devices = options.devices or ("cpu,wgpu" if options.rehearse else "cuda,vulkan")
    options.cases = options.cases or ("cells_agree" if options.rehearse else "agree")
    return options


def main() -> None:
    record = Record(arguments())
    journal = make(record)
    facts = record.facts_of_this_machine() | {"rehearsal": record.options.rehearse, "rounds": record.options.rounds}
    output: pathlib.Path = record.options.output
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(markdown(facts, record.rows, record.rules, [side.name for side in record.sides()], journal))
    lines = list(journal.lines.values())
    output.with_suffix(".json").write_text(json.dumps({"facts": facts, "units": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
