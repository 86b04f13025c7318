"""The section of a processor as Markdown."""

import argparse
import statistics
from typing import Any

from table import spread as median_and_extremes
from table import table
from units import Journal

Facts = dict[str, str]
TYPES = ["f32", "bf16", "i16", "i8"]

# Others beside which of ours, by what they compute in.
PAIRS = {
    "OpenVINO f32": "f32",
    "ONNX Runtime f32": "f32",
    "diffusers f32": "f32",
    "OpenVINO as it comes": "bf16",
    "diffusers bf16": "bf16",
    "stable-diffusion.cpp": "f32",
}

RATIOS = "\n\nRatios are ours in the row above that is bold over the row's own; of bold rows, over ours in f32."


def spread(values: list[float]) -> str:
    """One round has no extremes."""
    return f"{values[0]:.2f}" if len(values) == 1 else median_and_extremes(values)


class Figures:
    """What the units have given."""

    def __init__(self, journal: Journal, options: argparse.Namespace) -> None:
        self.journal, self.options = journal, options

    def rounds(self, part: str, side: str) -> dict[int, dict[str, Any]]:
        """Results by round."""
        found = {turn: self.journal.result(f"{part} | {side} | {turn}") for turn in range(self.options.rounds)}
        return {turn: result for turn, result in found.items() if result}

    def seconds(self, part: str, side: str, what: str = "denoising") -> dict[int, float]:
        """By round, of ours and of others alike; of `steps` those of one step."""
        results = {turn: result.get("seconds", result) for turn, result in self.rounds(part, side).items()}
        steps = 1 if part != "steps" or what != "denoising" or side == "stable-diffusion.cpp" else self.options.steps
        return {turn: result[what] / steps for turn, result in results.items() if what in result}

    def both(self, part: str, side: str) -> dict[int, float]:
        """Denoising and decoding together, by round."""
        step, decoding = (self.seconds(part, side, what) for what in ("denoising", "decoding"))
        return {turn: step[turn] + decoding[turn] for turn in step if turn in decoding}

    def memory(self, part: str, side: str) -> str:
        most = [result["peak_memory"] for result in self.rounds(part, side).values()]
        return f"{max(most) / 2**30:.2f} GiB" if most else "–"

    def ratio(self, part: str, ours: str, other: str, what: str = "denoising") -> str:
        a, b = self.seconds(part, ours, what), self.seconds(part, other, what)
        return spread([a[turn] / b[turn] for turn in a if turn in b])

    def peak(self, kind: str) -> dict[str, float]:
        """10⁹ multiply-accumulates a second, by who reached them. Nobody has a product in 16 bits: its instruction multiplies as many numbers as
        that of bf16, whose peak it is held against."""
        kind, found = "bf16" if kind == "i16" else kind, {}
        if theirs := self.journal.result("roofline | PyTorch"):
            found["PyTorch"] = theirs["products"][kind]
        if ours := self.journal.result(f"roofline | {kind}"):
            for name, samples in ours["cases"].items():
                sides = [int(side) for side in name.split("/")[1].split("x")]
                found["ours"] = 1e-9 * sides[0] * sides[1] * sides[2] / min(sample[0] for sample in samples)
        return found

    def share(self, side: str) -> str:
        """Of the time that the executed products would take at the peak of their types, over the time of a step."""
        work, seconds = self.journal.result(f"work | {side}"), self.seconds("steps", f"ours {side}").values()
        peaks = {kind: max(self.peak(kind).values(), default=0) for kind in TYPES}
        if not work or not seconds or not all(peaks[kind] for kind in TYPES if work.get(kind)):
            return "–"
        least = sum(work[kind] * 1e-9 / peaks[kind] for kind in TYPES if work.get(kind))
        return f"{least / statistics.median(seconds):.0%}"


def roofline(figures: Figures) -> str:
    rows = []
    for kind in ("f32", "bf16", "i8"):
        peak = figures.peak(kind)
        if peak:
            reached = (f"{peak[who]:.0f}" if who in peak else "–" for who in ("PyTorch", "ours"))
            rows.append([kind, *reached, f"**{max(peak.values()):.0f}**"])
    if not rows:
        return ""
    text = table(["10⁹ multiply-accumulates a second, square product of 2048", "PyTorch (oneDNN, MKL)", "ours", "peak"], rows)
    stream = (figures.journal.result("roofline | PyTorch") or {}).get("bandwidth")
    return text + (f"\n\nA triad of three large arrays moves {stream:.1f} GB/s." if stream else "")


def work(figures: Figures) -> str:
    rows = []
    for side in ("f32", "bf16", "q8"):
        counted = figures.journal.result(f"work | {side}")
        if counted:
            giga = [f"{counted[kind] * 1e-9:.0f}" if counted.get(kind) else "–" for kind in TYPES]
            rows.append([side, *giga, f"{counted['plain'] * 1e-9:.0f}", figures.share(side)])
    head = ["a step, 10⁹ multiply-accumulates", *(f"executed in {kind}" for kind in TYPES), "of the plain sums", "share of the peak"]
    return table(head, rows) if rows else ""


def steps(figures: Figures) -> str:
    """Each of the others after ours in the same type."""
    rows = []
    entry = lambda side: spread(list(figures.seconds("steps", side).values()))
    for side in ("f32", "bf16", "q8"):
        ours, name = f"ours {side}", f"**ours**, {side}"
        if not figures.rounds("steps", ours):
            continue
        own = [figures.ratio("steps", ours, "ours f32", what) if side != "f32" else "–" for what in ("denoising", "decoding")]
        rows.append([name, entry(ours), own[0], decoding(figures, ours), own[1], figures.memory("steps", ours)])
        for other in [other for other, pair in PAIRS.items() if pair == side and figures.rounds("steps", other)]:
            precision = next(iter(figures.rounds("steps", other).values())).get("precision", side)
            label = other if precision in other else f"{other} ({precision})"
            ratios = [figures.ratio("steps", ours, other, what) for what in ("denoising", "decoding")]
            rows.append([label, entry(other), ratios[0], decoding(figures, other), ratios[1], figures.memory("steps", other)])
    return table(["", "s a step", "ratio", "s decoding", "ratio", "memory"], rows) + RATIOS + in_bf16(figures)


def in_bf16(figures: Figures) -> str:
    """The decoder alone with weights in bf16, which no option of the program asks for."""
    results = figures.rounds("decoding", "ours bf16").values()
    found = [seconds for result in results for seconds in fastest([result]).values()]
    return f" With its weights in bf16 our decoder takes {spread(found)} s (`--bench steps`)." if found else ""


def decoding(figures: Figures, side: str) -> str:
    return spread(list(figures.seconds("steps", side, "decoding").values()))


def turbo(figures: Figures) -> str:
    """A step and the decoder, one by one and together."""
    rows = []
    for side, other in (("ours f32", "OpenVINO f32"), ("ours bf16", "OpenVINO as it comes")):
        for name in (side, other):
            parts = [figures.seconds("turbo", name, what) for what in ("denoising", "decoding")]
            both = figures.both("turbo", name)
            if not both:
                continue
            entries = [spread(list(seconds.values())) for seconds in (*parts, both)]
            ours = figures.both("turbo", side) if name == other else {}
            ratios = [ours[turn] / both[turn] for turn in ours if turn in both]
            ratio = spread(ratios) if ratios else "–"
            rows.append([f"**{name}**" if name == side else name, *entries, ratio, figures.memory("turbo", name)])
    return table(["one step, tiny decoder", "s the step", "s decoding", "s both", "ratio", "memory"], rows) if rows else ""


def deepcache(figures: Figures) -> str:
    rows = []
    for side in [side for side in ("ours f32", "ours bf16", "diffusers f32") if figures.rounds("deepcache", side)]:
        ratio = figures.ratio("deepcache", side, "diffusers f32") if side != "diffusers f32" else "–"
        rows.append([side, spread(list(figures.seconds("deepcache", side).values())), ratio, figures.memory("deepcache", side)])
    return table(["12 steps, `deepcache:interval=3,branch=0`", "s denoising", "it / diffusers + DeepCache package", "memory"], rows) if rows else ""


def fastest(results: list[dict[str, Any]]) -> dict[str, float]:
    """A case's fastest repetition, which other programs on the machine disturb least."""
    return {name: min(sample[0] for sample in samples) for result in results for name, samples in result["cases"].items()}


def paired(head: str, other: str, rounds: list[tuple[dict[str, float], dict[str, float]]]) -> str:
    """Ours beside the other, in what both have measured in a round."""
    names = {name: None for ours, theirs in rounds for name in ours if name in theirs}
    rows = []
    for name in names:
        pairs = [(ours[name], theirs[name]) for ours, theirs in rounds if name in ours and name in theirs]
        ours = statistics.median(a for a, _ in pairs)
        rows.append([f"`{name}`", f"{ours * 1e3:.4g}", spread([a / b for a, b in pairs])])
    return table([head, "ours, ms", f"ours / {other}"], rows) if rows else ""


def operations(figures: Figures) -> str:
    ours, theirs = (figures.rounds("operations", side) for side in ("ours", "PyTorch"))
    return paired("operation, f32", "PyTorch", [(fastest([ours[turn]]), fastest([theirs[turn]])) for turn in ours if turn in theirs])


def cases(figures: Figures) -> str:
    def of(side: str, turn: int) -> dict[str, float]:
        start = f"cases | {side} | {turn} | "
        return fastest([line["result"] for name, line in figures.journal.lines.items() if name.startswith(start) and line.get("result")])

    return paired("case, f32", "diffusers", [(of("ours", turn), of("diffusers", turn)) for turn in range(figures.options.rounds)])


def failures(journal: Journal) -> str:
    failed = {name: " ".join(line["error"].split())[-200:] for name, line in journal.lines.items() if "error" in line}
    return "\n".join(f"- {name}: {text}" for name, text in failed.items())


def markdown(facts: Facts, journal: Journal, options: argparse.Namespace) -> str:
    figures = Figures(journal, options)
    size = f"{options.size}x{options.size}"
    narrow = f" All sides kept to {options.narrow.upper()}." if options.narrow else ""
    head = (
        f"{facts['threads']} threads, {facts['model']}, {facts['caches']}, {facts['memory']}. It has {facts['sets']}; not {facts['absent']}.{narrow}"
        f"\nCommit `{facts['commit']}`; {facts['versions']}. Rounds: {options.rounds}."
    )
    named = {
        "What it reaches": roofline(figures) + "\n\n" + work(figures),
        f"A step and decoding, SD 1.5 size, {size}": steps(figures),
        f"One step and a tiny decoder, SD Turbo's size, {size}": turbo(figures),
        "Under DeepCache": deepcache(figures),
        "Single steps, decoding, and whole runs of the models that ship": cases(figures),
        "Single operations": operations(figures),
        "What failed": failures(journal),
    }
    name = options.name or facts["name"]
    parts = [f"## {name}" + (f", {options.narrow.upper()}" if options.narrow else ""), head]
    parts += [f"### {title}\n\n{text.strip()}" for title, text in named.items() if text.strip()]
    return "\n\n".join(parts) + "\n"
