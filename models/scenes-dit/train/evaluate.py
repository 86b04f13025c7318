"""Draws every class with the exported folder and counts what the checker of models/scenes finds.

  python evaluate.py --model .. --each 4 --steps 30 --guidance 3 --results results.json --sheet sheet.png

With --real it judges exact pictures that only went through the autoencoder.
"""

import argparse
import json
import random
import time

import numpy as np
import torch
from diffusers import AutoencoderKL, DiTPipeline

import singles
import checker
import data


def pipeline(folder):
    """diffusers' pipeline asks for class 1000 as the null class, whatever the size of the table."""
    pipe = DiTPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    null = pipe.transformer.config.num_embeds_ada_norm
    pipe.transformer.register_forward_pre_hook(
        lambda _, args, named: (args, {**named, "class_labels": named["class_labels"].clamp(max=null)}),
        with_kwargs=True)
    return pipe


def draw(pipe, labels, seeds, a):
    gens = [torch.Generator().manual_seed(s) for s in seeds]
    return pipe(labels, guidance_scale=a.guidance, generator=gens, num_inference_steps=a.steps, output_type="np").images


@torch.no_grad()
def round_trips(vae, labels, seeds):
    x = data.render([singles.record(random.Random(10_000 + s), k) for k, s in zip(labels, seeds)])
    out = vae.decode(vae.encode(x).latent_dist.mean).sample
    return (out / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def verdict(picture, label):
    """Whether the shape and colour are found, are all that is found, colour alone, shape alone, ground."""
    found, ground = checker.find_shapes(picture)
    colour, shape = singles.name(label).split()
    truth = {"objects": [{"shape": shape, "colour": colour}], "background": "grey"}
    right = checker.judge(found, ground, truth)
    return {"class": right["objects"], "nothing_else": right["exact"], "colour": any(f["colour"] == colour for f in found),
            "shape": any(f["shape"] == shape for f in found), "ground": right["background"]}, found


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", default="..")
    p.add_argument("--each", type=int, default=4, help="pictures per class")
    p.add_argument("--steps", type=int, default=30)
    p.add_argument("--guidance", type=float, default=3.0)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--real", action="store_true")
    p.add_argument("--results", default="")
    p.add_argument("--sheet", default="")
    a = p.parse_args()
    torch.set_num_threads(1)
    if a.real:
        vae = AutoencoderKL.from_pretrained(a.model + "/vae", torch_dtype=torch.float32)
    else:
        pipe = pipeline(a.model)
    rows, pictures, start = [], [], time.time()
    labels = [k for k in range(singles.COUNT) for _ in range(a.each)]
    for at in range(0, len(labels), 16):
        part = labels[at:at + 16]
        seeds = [a.seed + at + i for i in range(len(part))]
        out = round_trips(vae, part, seeds) if a.real else draw(pipe, part, seeds, a)
        for label, seed, picture in zip(part, seeds, (out * 255).round().astype(np.uint8)):
            right, found = verdict(picture, label)
            rows.append({"label": label, "name": singles.name(label), "seed": seed,
                         "found": [f"{f['colour']} {f['shape']}" for f in found],
                         "right": {k: bool(v) for k, v in right.items()}})
            pictures.append(picture)
    share = lambda rows: {k: round(sum(r["right"][k] for r in rows) / len(rows), 4) for k in rows[0]["right"]}
    summary = {"all": share(rows)}
    for shape in data.SHAPES:
        summary[shape] = share([r for r in rows if r["name"].endswith(" " + shape)])["class"]
    print(f"{time.time() - start:.0f}s", json.dumps(summary))
    if a.results:
        head = {"steps": a.steps, "guidance": a.guidance, "seed": a.seed, "scheduler": "DDIM", "summary": summary}
        text = json.dumps(head, indent=1)[:-2] + ',\n "pictures": [\n  '
        open(a.results, "w").write(text + ",\n  ".join(json.dumps(r) for r in rows) + "\n ]\n}\n")
    if a.sheet:
        data.contact_sheet(pictures, a.sheet)


if __name__ == "__main__":
    main()
