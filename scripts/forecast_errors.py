#!/usr/bin/env python3
"""How far a forecast is from what a refresh computes, as a Markdown table: a rule a row, a stretch of the run a column.

    python3 scripts/forecast_errors.py PROGRAM [MODEL PROMPT]…

Each rule runs with `verify`, at a threshold that nothing exceeds, so that the plan stays as it is; the errors (`docs/methods.md`, verified
caching) are means over four seeds, in the first, the middle and the last third of 30 steps of DDIM. Other trunks than the bundled one show
whether an effect is one of a small trained model alone: weights do not matter to where a rule cuts.
"""

import json
import subprocess
import sys
import tempfile

RULES = [
    "deepcache:interval=2,branch=0",
    "deepcache:interval=3,branch=0",
    "deepcache:interval=5,branch=0",
    "encoder-propagation:every=2",
]
FORECASTS = ["hold", "linear", "taylor:2", "chebyshev:2"]
STEPS = 30
SEEDS = range(4)


def thirds(program: str, model: list[str], prompt: str, rule: str, picture: str) -> list[float]:
    """Mean errors of the refreshes in each third of the run."""
    found: list[list[float]] = [[], [], []]
    for seed in SEEDS:
        command = [program, "generate", prompt, *model, "--device", "cpu", "--sampler", "ddim", "--steps", str(STEPS), "--seed", str(seed)]
        command += ["--cache", f"{rule},verify=1000000", "--output", picture, "--json"]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for refresh in json.loads(told.stdout)["verified"]:
            found[refresh["evaluation"] * 3 // STEPS].append(refresh["error"])
    return [sum(errors) / len(errors) for errors in found]


def table(program: str, model: list[str], prompt: str) -> None:
    print("| rule | " + " | ".join(f"`{forecast}`" for forecast in FORECASTS) + " |")
    print("|---|" + "---|" * len(FORECASTS))
    with tempfile.TemporaryDirectory() as folder:
        for rule in RULES:
            cells = [thirds(program, model, prompt, f"{rule},forecast={forecast}", f"{folder}/picture.png") for forecast in FORECASTS]
            print(f"| `{rule}` | " + " | ".join(" / ".join(f"{error:.3f}" for error in errors) for errors in cells) + " |", flush=True)


def main() -> None:
    program, *models = sys.argv[1:]
    print("\nThe bundled model:\n")
    table(program, [], "a red circle above a blue square")
    for model, prompt in zip(models[::2], models[1::2]):
        print(f"\n`{model}`:\n")
        table(program, ["--model", model], prompt)


if __name__ == "__main__":
    main()
