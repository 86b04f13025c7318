"""Whole runs of the models that ship in other formats of weights and activations, against those in f32: a table in Markdown.

    pip install numpy torch safetensors
    python scripts/formats.py AFTERIMAGE FOLDER [--samples 16] [FORMAT …]

A format is what `afterimage eval` is told beside the model, as in `--weights q8 --activations q8` or `--dtype bf16`, one argument each.
Pictures are kept in FOLDER, so that a stopped run goes on. Same seeds and prompts in every format. Memory is the most that the process held.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional

ROOT = Path(__file__).parent.parent
LPIPS = ROOT / "models/lpips-alexnet/lpips-alexnet.safetensors"
MODELS = {
    "scenes": ["--steps", "30", "--prompts", "models/scenes/train/prompts.txt", "--judge", "shapes"],
    "scenes-dit": ["--steps", "30", "--judge", "shapes"],
    "fashion-ddpm": ["--sampler", "ddim", "--steps", "50", "--classifier", "models/fashion-ddpm/classifier"],
}
PLAIN = ""


def made(program, folder, model, form, samples):
    """The pictures, `[samples, height, width, 3]`, results, and the most memory in MB."""
    folder = folder / model / (form.replace("--", "").replace(" ", "-") or "f32")
    kept = folder / "memory.json"
    if not kept.exists():
        command = [program, "eval", "--model", f"models/{model}", "--device", "cpu", "--samples", str(samples), "--batch", "8"]
        command += ["--cache", "none", "--output", str(folder), "--npz", str(folder), "--json"]
        process = subprocess.Popen([*command, *MODELS[model], *form.split()], cwd=ROOT, stdout=subprocess.DEVNULL)
        most = 0
        while process.poll() is None:
            most = max(most, held(process.pid))
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
        if process.returncode:
            sys.exit(process.returncode)
        kept.write_text(json.dumps(most))
    pictures = np.load(next(folder.glob("*.npz")))["arr_0"]
    results = json.loads((folder / "results.json").read_text())
    return pictures, results["outcomes"][0], json.loads(kept.read_text())


def held(process):
    """The most that a process has held so far, in MB."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1000 if lines else 0


def lpips(left, right):
    """Zhang et al. (arXiv 1801.03924), version 0.1, over AlexNet."""
    weights = {name: value.float() for name, value in load_file(LPIPS).items()}
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)

    def features(pictures):
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        pixels = (pixels - shift) / scale
        for layer, (stride, padding, pooled) in enumerate([(4, 2, False), (1, 2, True), (1, 1, True), (1, 1, False), (1, 1, False)]):
            if pooled:
                pixels = functional.max_pool2d(pixels, 3, 2)
            name = f"AlexNet_0.Conv_{layer}"
            convolved = functional.conv2d(pixels, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding)
            pixels = functional.relu(convolved)
            yield pixels / (pixels.square().sum(1, keepdim=True).sqrt() + 1e-10)

    distances = 0
    for layer, (a, b) in enumerate(zip(features(left), features(right), strict=True)):
        head = weights[f"NetLinLayer_{layer}.Conv_0.weight"]
        distances += functional.conv2d((a - b).square(), head).mean((1, 2, 3))
    return distances.mean().item()


def psnr(left, right):
    """The mean over pictures, of pixels in bytes."""
    errors = np.square(left.astype(np.float64) - right).mean((1, 2, 3))
    return np.mean(10 * np.log10(255**2 / np.maximum(errors, 1e-2)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("formats", nargs="*", default=["--weights q8", "--weights q8 --activations q8"])
    parser.add_argument("--samples", type=int, default=16)
    arguments = parser.parse_args()
    print("| model | format | PSNR, dB | LPIPS | right | denoising of a batch of 8, s | memory, MB |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for model in MODELS:
        plain = None
        for form in [PLAIN, *arguments.formats]:
            pictures, outcome, memory = made(arguments.program.resolve(), arguments.folder.resolve(), model, form, arguments.samples)
            plain = pictures if plain is None else plain
            judged = outcome.get("judged")
            right = f"{judged['right']} of {judged['asked']}" if judged else "–"
            near = f"{psnr(plain, pictures):.1f} | {lpips(plain, pictures):.4f}" if form else "– | –"
            seconds = outcome["denoising_seconds"]["median"]
            print(f"| `{model}` | {f'`{form}`' if form else 'f32'} | {near} | {right} | {seconds:.2f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
