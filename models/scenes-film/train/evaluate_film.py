"""Draws the unseen prompts with the exported folder and counts what the checker finds.

    python evaluate_film.py --write-prompts prompts
    python evaluate_film.py --model .. --prompts prompts.jsonl --count 100 --results results.json
"""

import argparse
import contextlib
import json
import os
import random
import sys
import time

import numpy as np
import torch

import films
import checker
import data

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../tests/fixtures/generator"))

LEAST = 16.0          # pixels from the first frame to the last below which nothing has moved


def write_prompts(stem, count=100):
    """As many of each direction; all of combinations that training never had."""
    rng, lines, texts = random.Random(2026), [], set()
    while len(lines) < count:
        r = films.sample_record(rng)
        text = films.caption(rng, r)
        if films.held_out(r) and text not in texts and r["dir"] == len(lines) % 4:
            texts.add(text)
            lines.append({"prompt": text, **films.truth(r)})
    with open(stem + ".jsonl", "w") as f:
        f.writelines(json.dumps(x) + "\n" for x in lines)
    with open(stem + ".txt", "w") as f:
        f.writelines(x["prompt"] + "\n" for x in lines)


def judge(frames, truth):
    """Which parts of a film uint8 [F, H, W, 3] are right.

    shape, colour: in how many frames the largest thing found is of the shape, the colour named; a film has both right if three
    quarters of its frames have.  direction: the way from the first frame to the last in which the thing is found leads there.
    """
    found = [checker.find_shapes(f) for f in frames]
    firsts = [f[0] if f else None for f, _ in found]
    share = lambda key: sum(f is not None and f[key] == truth[key] for f in firsts) / len(firsts)
    at = [(f["x"], f["y"]) for f in firsts if f is not None]
    right = {"shape": share("shape") >= 0.75, "colour": share("colour") >= 0.75, "direction": False}
    if len(at) >= 2:
        dx, dy = at[-1][0] - at[0][0], at[-1][1] - at[0][1]
        along, across = {"right": (dx, dy), "left": (-dx, dy), "down": (dy, dx), "up": (-dy, dx)}[truth["direction"]]
        right["direction"] = along > LEAST and along > 2 * abs(across)
    right["alone"] = sum(len(f) == 1 for f, _ in found) / len(found) >= 0.75
    grounds = [g for _, g in found]
    right["background"] = truth["background"] in (None, max(set(grounds), key=grounds.count))
    right["all"] = right["shape"] and right["colour"] and right["direction"]
    return right, [f"{f['colour']} {f['shape']} {f['x']:.0f},{f['y']:.0f}" if f else "" for f in firsts]


def deepcache(unet, steps):
    from refgen import caching
    return caching.deepcache(unet, caching.uniform_plan(steps, 2), 0)


def propagation(unet, steps):
    from refgen import caching
    return caching.propagation(unet, caching.key_steps(steps, 2))


CACHED = {"none": lambda unet, steps: contextlib.nullcontext(), "deepcache:interval=2,branch=0": deepcache, "encoder-propagation:every=2": propagation}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--write-prompts", default="")
    p.add_argument("--model", default="..")
    p.add_argument("--prompts", default="prompts.jsonl")
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--steps", type=int, default=25)
    p.add_argument("--guidance", type=float, default=4.0)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--cache", choices=sorted(CACHED), default="none", help="cached as the fixtures' reference does it")
    p.add_argument("--results", default="")
    p.add_argument("--sheet", default="")
    a = p.parse_args()
    if a.write_prompts:
        return write_prompts(a.write_prompts)
    import film_net
    from diffusers import TextToVideoSDPipeline
    torch.set_num_threads(a.threads)
    film_net.quick()
    pipe = TextToVideoSDPipeline.from_pretrained(a.model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    lines = [json.loads(x) for x in open(a.prompts)][: a.count]
    rows, shown, start = [], [], time.time()
    for at in range(0, len(lines), a.batch):
        part = lines[at:at + a.batch]
        gens = [torch.Generator().manual_seed(at + i) for i in range(len(part))]
        with CACHED[a.cache](pipe.unet, a.steps):
            out = pipe([x["prompt"] for x in part], num_inference_steps=a.steps, guidance_scale=a.guidance, height=128, width=128,
                       num_frames=films.FRAMES, generator=gens, output_type="np").frames
        for x, film in zip(part, (np.asarray(out) * 255).round().astype(np.uint8)):
            right, seen = judge(film, x)
            rows.append({**x, "found": seen, "right": {k: bool(v) for k, v in right.items()}})
            shown += list(film)
        if a.sheet:
            data.contact_sheet(shown[:8 * 16], a.sheet)
    summary = {k: round(sum(r["right"][k] for r in rows) / len(rows), 4) for k in rows[0]["right"]}
    print(f"{time.time() - start:.0f}s", json.dumps(summary), flush=True)
    if a.results:
        head = {"cache": a.cache, "steps": a.steps, "guidance": a.guidance, "scheduler": "DDIM", "films": len(rows), "summary": summary}
        text = json.dumps(head, indent=1)[:-2] + ',\n "made": [\n  '
        open(a.results, "w").write(text + ",\n  ".join(json.dumps(r) for r in rows) + "\n ]\n}\n")


if __name__ == "__main__":
    main()
