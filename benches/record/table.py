"""A record as Markdown."""

import statistics
from collections.abc import Callable
from typing import Any

from units import Journal

REHEARSAL = (
    "**This is a rehearsal with tiny models on the processor and a software rasteriser: it shows that the script works, and its times mean"
    " nothing.**"
)
ERROR = 300  # Characters of a failure in the table of failures.

HEAD = ["side", "s, median", "extremes", "ours / torch", "speed-up", "forecast", "TFLOP/s", "of the peak", "GPU memory", "main memory"]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: list[float], form: str = ".2f") -> str:
    if not values:
        return "–"
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def gib(value: int | None) -> str:
    return f"{value / 2**30:.2f} GiB" if value else "–"


class Figures:
    """What the rounds of a row gave, by rule and side."""

    def __init__(self, row: str, rounds: int, journal: Journal) -> None:
        self.row, self.rounds, self.journal = row, rounds, journal

    def lines(self, rule: str, side: str) -> dict[int, dict[str, Any]]:
        """By round, those that came to an end."""
        names = {turn: f"{self.row} | {rule} | {side} | {turn}" for turn in range(self.rounds)}
        lines = {turn: self.journal.lines.get(name, {}) for turn, name in names.items()}
        return {turn: line for turn, line in lines.items() if line.get("result") and "error" not in line}

    def seconds(self, rule: str, side: str) -> dict[int, float]:
        return {turn: line["result"]["denoising"] for turn, line in self.lines(rule, side).items()}

    def most(self, rule: str, side: str, of: Callable[[dict[str, Any]], int | None]) -> int | None:
        return max((of(line) or 0 for line in self.lines(rule, side).values()), default=0) or None

    def ratio(self, rule: str, side: str, other: str) -> str:
        """Round by round, against the same rule."""
        ours, theirs = self.seconds(rule, side), self.seconds(rule, other)
        return spread([ours[turn] / theirs[turn] for turn in ours if turn in theirs])

    def speedups(self, rule: str, side: str) -> str:
        """Of ours within a process; of the others round by round."""
        lines = self.lines(rule, side)
        plain = self.seconds("none", side)
        own = {turn: line["result"].get("speedup") for turn, line in lines.items()}
        ratios = [own[turn] or plain[turn] / line["result"]["denoising"] for turn, line in lines.items() if own[turn] or turn in plain]
        return spread(ratios) if rule != "none" or "recorded" in side else "–"

    def entry(self, rule: str, side: str, peer: str | None) -> list[str]:
        plan = self.journal.result(f"plan {self.row} {rule}") or {}
        seconds = list(self.seconds(rule, side).values())
        teraflops = 2e-3 * plan["gmacs"] / statistics.median(seconds) if seconds and plan else None
        peak = (self.journal.result("peak") or {}).get(side.split()[-1])
        return [
            side,
            f"{statistics.median(seconds):.3f}" if seconds else "–",
            f"{min(seconds):.3f}–{max(seconds):.3f}" if seconds else "–",
            self.ratio(rule, side, peer) if peer else "–",
            self.speedups(rule, side),
            f"{plan['predicted_speedup']:.2f}" if plan else "–",
            f"{teraflops:.3g}" if teraflops else "–",
            f"{teraflops / peak:.0%}" if teraflops and peak else "–",
            gib(self.most(rule, side, lambda line: line["gpu_memory"])),
            gib(self.most(rule, side, lambda line: line["result"].get("peak_memory"))),
        ]


def peer_of(side: str, sides: list[str]) -> str | None:
    """PyTorch as it comes, in the same data type."""
    if not side.startswith("ours"):
        return None
    eager = [other for other in sides if other.startswith("torch") and "compiled" not in other]
    return next((other for other in eager if other.split()[-1] == side.split()[-1]), None)


def runs(name: str, row: dict[str, Any], rules: list[str], sides: list[str], rounds: int, journal: Journal) -> str:
    size = f"{row['size']}x{row['size']}, " if "size" in row else ""
    control = f" with the ControlNet `{row['control']}`" if "control" in row else ""
    parts = [f"## {name}\n\n`{row['model']}`{control}, {size}{row['steps']} DDIM steps, batch {row.get('batch', 1)}, random weights."]
    figures = Figures(name, rounds, journal)
    for rule in rules:
        known = [side for side in sides if any(f"{name} | {rule} | {side} | {turn}" in journal.lines for turn in range(rounds))]
        parts.append(f"`{rule}`\n\n" + table(HEAD, [figures.entry(rule, side, peer_of(side, sides)) for side in known]))
    return "\n\n".join(parts)


def facts_of(facts: dict[str, Any], journal: Journal) -> str:
    known = {key: journal.result(key) for key in ("gpu", "versions", "devices")}
    lines = [f"Commit `{facts['commit']}`; {facts['machine']}; torch, diffusers, transformers: {known['versions']}."]
    lines.append("```text\n" + "\n\n".join(known[key] for key in ("gpu", "devices") if known[key]) + "\n```")
    peaks = journal.result("peak") or {}
    found = ", ".join(f"{name} {value:.4g}" for name, value in peaks.items())
    return "\n\n".join([*lines, f"Matrix products in PyTorch, TFLOP/s: {found or 'not measured'}."])


def starts(journal: Journal) -> str:
    rows = []
    for name, line in journal.lines.items():
        if name.startswith("start ") and line.get("result"):
            took = line["result"]
            rows.append([name.removeprefix("start "), *(f"{took[part]:.2f}" for part in ("loading", "text", "denoising")), f"{line['seconds']:.1f}"])
    head = ["process", "loading, s", "text, s", "first step, s", "whole process, s"]
    return "## First and second start\n\nOne step each; the first finds no kernels and no tuning of earlier ones.\n\n" + table(head, rows)


def checks(journal: Journal) -> str:
    parts = ["## Checks"]
    for name, line in journal.lines.items():
        if name.startswith(("doctor ", "parity ")):
            result = line.get("result") or line.get("error", "").strip()
            text = "\n".join(result) if isinstance(result, list) else str(result)
            parts.append(f"{name}:\n\n```text\n{text}\n```")
    return "\n\n".join(parts)


def failures(journal: Journal) -> str:
    failed = {name: line["error"].strip() for name, line in journal.lines.items() if "error" in line}
    if not failed:
        return "## Failures\n\nNone."
    short = {name: " ".join(text[-ERROR:].split()).replace("|", "\\|") for name, text in failed.items()}
    return "## Failures\n\n" + table(["unit", "message"], [[name.replace("|", ","), text] for name, text in short.items()])


def markdown(facts: dict[str, Any], rows: dict[str, Any], rules: dict[str, list[str]], sides: list[str], journal: Journal) -> str:
    reading = (
        "Seconds of the denoising loop; medians and extremes of the rounds, in which the sides take turns. `ours / torch` is against PyTorch as it"
        " comes (with the DeepCache package under its rules) in the same data type, round by round; below 1 is faster. The speed-up is"
        " over the uncached run, its forecast by multiply-accumulates; TFLOP/s are the plan's multiply-accumulates, twice. Ours `recorded` plays"
        " steps that were recorded (`--step-graphs`); its speed-up is over the uncached run that is not."
    )
    sections = [REHEARSAL] if facts["rehearsal"] else []
    sections += ["# Record", facts_of(facts, journal), reading]
    sections += [runs(name, row, rules[row["rules"]], sides, facts["rounds"], journal) for name, row in rows.items()]
    return "\n\n".join([*sections, starts(journal), checks(journal), failures(journal)]) + "\n"
