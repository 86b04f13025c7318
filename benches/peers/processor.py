"""Measures this processor: what products and streams reach, a Stable Diffusion's steps and decoding here and in other programs in turn, and
single operations; writes a section of Markdown for docs/performance.md.

usage: processor.py --output SECTION.md --model SD15 --afterimage BINARY --python TORCH_PYTHON [--ops BENCH] [--work BENCH] [--cases BENCH]
                    [--turbo TURBO] [--sdcpp PROGRAM] [--state DIR] [--size N] [--steps N] [--rounds N] [--threads N] [--narrow avx2] [--name TEXT] [--only WORD] [--stop-after N] [--again]
       SD15: a folder of scripts/random_weights.py sd15; TORCH_PYTHON: one with torch and diffusers, and openvino, onnxruntime and DeepCache
       as far as they are to be measured
       TURBO: a folder of scripts/random_weights.py sd-turbo; one step and the tiny decoder are measured of it
       BENCH: what `cargo bench --bench ops --no-run` names, `--bench work`, and for `--cases` `--bench steps`

A unit is one process; what is finished is in DIR/journal.jsonl and is not run again, so that a busy machine can be asked for minutes at a time
(`--stop-after 1`). What fails is in the section, and runs again with --again. `--narrow avx2` keeps other programs from wider vectors;
ours are then a program and benchmarks that were built so (docs/performance.md says how), as is stable-diffusion.cpp's.
"""

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Iterator

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "record"))

from machine import facts  # noqa: E402
from section import markdown  # noqa: E402
from units import Journal, Unit, run  # noqa: E402

SQUARE = "2048x2048x2048"
DEEPCACHE_STEPS, INTERVAL = 12, 3

# Ours, by what a step is in; options of the program, and those of benches/work.rs.
OURS = {
    "f32": [],
    "bf16": ["--dtype", "bf16"],
    "q8": ["--weights", "q8", "--activations", "q8"],
}
WORK = {"f32": [], "bf16": ["dtype=bf16"], "q8": ["weights=q8", "activations=q8"]}

# What others are asked to keep to; ONNX Runtime has no such variable.
NARROW = {
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


def document(output: str) -> dict:
    """The JSON that follows whatever else a program has to say."""
    return json.loads(output[output.index("{") :])


class Plan:
    """Every unit, in turn."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        threads = {"RAYON_NUM_THREADS": str(options.threads), "OMP_NUM_THREADS": str(options.threads)}
        self.variables = tuple((threads | NARROW.get(options.narrow, {})).items())
        self.exported = options.state / "exported"

    def unit(self, name: str, command: list) -> Unit:
        return Unit(name, [str(word) for word in command], document, self.variables)

    def peer(self, name: str, script: str, *words: object) -> Unit:
        return self.unit(name, [self.options.python, HERE / script, *words])

    def units(self) -> Iterator[Unit]:
        yield self.peer("roofline | PyTorch", "roofline.py", SQUARE.split("x")[0])
        yield from self.ours_alone()
        for peer in ("openvino", "onnxruntime"):
            yield self.peer(f"export | {peer}", "exported.py", peer, self.options.model, self.exported / peer, "--size", self.options.size)
        if self.options.turbo:
            words = [self.options.turbo, self.exported / "turbo", "--size", self.options.size, "--rows", 1]
            yield self.peer("export | OpenVINO turbo", "exported.py", "openvino", *words)
        for turn in range(self.options.rounds):
            yield from self.steps(turn)
            yield from self.turbo(turn)
            yield from self.deepcache(turn)
            yield from self.operations(turn)
            yield from self.cases(turn)

    def ours_alone(self) -> Iterator[Unit]:
        if self.options.ops:
            for name, word in (("f32", "ours"), ("bf16", "bf16"), ("i8", "w8a8")):
                yield self.unit(f"roofline | {name}", [self.options.ops, f"linear/{SQUARE}", word])
        if self.options.work:
            for name, words in WORK.items():
                yield self.unit(f"work | {name}", [self.options.work, self.options.model, f"size={self.options.size}", *words])

    def ours(self, name: str, steps: int, *words: str) -> Unit:
        side = self.options.size
        command = [self.options.afterimage, "generate", "a lighthouse", "--model", self.options.model, "--device", "cpu", "--seed", "0"]
        command += ["--sampler", "ddim", "--steps", steps, "--size", f"{side}x{side}", "--guidance-scale", "7.5", *words]
        return self.unit(name, [*command, "--json", "--output", self.options.state / "picture.png"])

    def steps(self, turn: int) -> Iterator[Unit]:
        """Ours beside each of the others that computes in the same type."""
        steps, size = self.options.steps, ["--size", self.options.size]
        ours = lambda name: self.ours(f"steps | ours {name} | {turn}", steps, *OURS[name])
        theirs = lambda side, script, *words: self.peer(f"steps | {side} | {turn}", script, *words, *size, "--steps", steps)
        openvino, onnx = (["diffusion.py", peer, self.exported / peer, "--decode"] for peer in ("openvino", "onnxruntime"))
        diffusers = ["diffusion.py", "diffusers", self.options.model, "--decode"]
        yield ours("f32")
        yield theirs("OpenVINO f32", *openvino, "--dtype", "f32")
        yield theirs("ONNX Runtime f32", *onnx)
        yield theirs("diffusers f32", *diffusers)
        yield ours("bf16")
        yield theirs("OpenVINO as it comes", *openvino)
        yield theirs("diffusers bf16", *diffusers, "--dtype", "bf16")
        yield ours("q8")
        if self.options.cases:
            yield self.unit(f"decoding | ours bf16 | {turn}", [self.options.cases, f"sd15/{self.options.size}/decode", "bf16"])
        if self.options.sdcpp:
            words = [self.options.sdcpp, self.options.model, *size, "--steps", "1"]
            yield self.peer(f"steps | stable-diffusion.cpp | {turn}", "sdcpp.py", *words)

    def turbo(self, turn: int) -> Iterator[Unit]:
        """One step without guidance and the tiny decoder: ours as a run of its own, the others after a first call."""
        if not self.options.turbo:
            return
        side = self.options.size
        command = [self.options.afterimage, "generate", "a lighthouse", "--model", self.options.turbo, "--device", "cpu", "--seed", "0"]
        command += ["--steps", "1", "--size", f"{side}x{side}", "--json", "--output", self.options.state / "picture.png"]
        theirs = ["openvino", self.exported / "turbo", "--decode", "--size", side, "--steps", 1, "--rows", 1, "--text-width", 1024]
        for name, other, words in (("f32", "OpenVINO f32", ["--dtype", "f32"]), ("bf16", "OpenVINO as it comes", [])):
            yield self.unit(f"turbo | ours {name} | {turn}", [*command, *OURS[name]])
            yield self.peer(f"turbo | {other} | {turn}", "diffusion.py", *theirs, *words)

    def deepcache(self, turn: int) -> Iterator[Unit]:
        rule = ["--cache", f"deepcache:interval={INTERVAL},branch=0"]
        words = ["diffusers", self.options.model, "--steps", DEEPCACHE_STEPS, "--size", self.options.size, "--interval", INTERVAL]
        for name in ("f32", "bf16"):
            yield self.ours(f"deepcache | ours {name} | {turn}", DEEPCACHE_STEPS, *OURS[name], *rule)
        yield self.peer(f"deepcache | diffusers f32 | {turn}", "diffusion.py", *words)

    def operations(self, turn: int) -> Iterator[Unit]:
        if self.options.ops:
            yield self.unit(f"operations | ours | {turn}", [self.options.ops, "ours"])
            yield self.peer(f"operations | PyTorch | {turn}", "ops.py")

    def cases(self, turn: int) -> Iterator[Unit]:
        for case in json.loads((HERE / "steps.json").read_text()) if self.options.cases else []:
            yield self.unit(f"cases | ours | {turn} | {case}", [self.options.cases, case])
            yield self.peer(f"cases | diffusers | {turn} | {case}", "steps.py", case)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("output", "model", "afterimage"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    for name in ("ops", "work", "cases", "turbo", "sdcpp"):
        parser.add_argument(f"--{name}", type=pathlib.Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--state", type=pathlib.Path, default=pathlib.Path("processor-state"))
    for name, default in [("size", 512), ("steps", 3), ("rounds", 3), ("threads", os.cpu_count())]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--narrow", choices=NARROW)
    parser.add_argument("--name", help="of the processor, where its own says little")
    parser.add_argument("--minutes", type=float, default=15.0, help="the limit of a unit")
    parser.add_argument("--only", default="", help="units whose names have this word")
    parser.add_argument("--stop-after", type=int, default=1_000_000, help="units")
    parser.add_argument("--again", action="store_true")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.state.mkdir(parents=True, exist_ok=True)
    journal = Journal(options.state / "journal.jsonl")
    left = options.stop_after
    for unit in Plan(options).units():
        done = journal.lines.get(unit.name)
        if options.only not in unit.name or (done and not (options.again and "error" in done)):
            continue
        if left == 0:
            break
        left -= 1
        journal.add(run(unit, options.minutes))
        line = journal.lines[unit.name]
        print(f"{unit.name}: {line.get('error') or line['result']}"[:300], flush=True)
    options.output.write_text(markdown(facts(options), journal, options))


main()
