"""Draws the unseen prompts with the exported folder and counts what the checker finds.

  python evaluate.py --write-prompts prompts            # prompts.txt, prompts.jsonl
  python evaluate.py --model .. --prompts prompts.jsonl --count 200 --results results.json
"""

import argparse
import json
import random
import time

import numpy as np
import torch

import checker
import data


def write_prompts(stem, count=200):
    """25 % single shapes, 20 % nested, the others beside or above each other; all held out."""
    rng, lines, texts = random.Random(2024), [], set()
    while len(lines) < count:
        r = data.sample_record(rng)
        if not data.held_out(r):
            continue
        text = data.caption(rng, r)
        if " and " in text or text in texts:         # names no place
            continue
        kind = "single" if r["n"] == 1 else "inside" if r["rel"] == 5 else "pair"
        quota = {"single": count // 4, "inside": count // 5, "pair": count - count // 4 - count // 5}[kind]
        if sum(x["kind"] == kind for x in lines) >= quota:
            continue
        texts.add(text)
        t = data.truth(r)
        lines.append({
            "prompt": text, "kind": kind,
            "objects": [{"shape": o["shape"], "colour": o["colour"]} for o in t["objects"]],
            "relation": None if r["n"] == 1 else t["relation"],
            "background": t["background"] if r["named_bg"] else None,
        })
    random.Random(5).shuffle(lines)
    for x in lines:
        del x["kind"]
    with open(stem + ".jsonl", "w") as f:
        f.writelines(json.dumps(x) + "\n" for x in lines)
    with open(stem + ".txt", "w") as f:
        f.writelines(x["prompt"] + "\n" for x in lines)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--write-prompts", default="")
    p.add_argument("--model", default="..")
    p.add_argument("--prompts", default="prompts.jsonl")
    p.add_argument("--count", type=int, default=200)
    p.add_argument("--steps", type=int, default=30)
    p.add_argument("--guidance", type=float, default=4.0)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--batch", type=int, default=10)
    p.add_argument("--results", default="")
    p.add_argument("--sheet", default="")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    if a.write_prompts:
        return write_prompts(a.write_prompts)
    from diffusers import StableDiffusionPipeline
    torch.set_num_threads(a.threads)
    pipe = StableDiffusionPipeline.from_pretrained(a.model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    lines = [json.loads(x) for x in open(a.prompts)][: a.count]
    rows, pics, start = [], [], time.time()
    for at in range(0, len(lines), a.batch):
        part = lines[at:at + a.batch]
        gens = [torch.Generator().manual_seed(a.seed + at + i) for i in range(len(part))]
        out = pipe([x["prompt"] for x in part], num_inference_steps=a.steps, guidance_scale=a.guidance,
                   height=128, width=128, generator=gens, output_type="np").images
        for x, pic in zip(part, (out * 255).round().astype(np.uint8)):
            found, ground = checker.find_shapes(pic)
            right = {k: bool(v) for k, v in checker.judge(found, ground, x).items()}
            rows.append({**x, "found": [f"{f['colour']} {f['shape']}" for f in found], "found_background": ground,
                         "right": right})
            pics.append(pic)
    kinds = {"all": rows, "single": [r for r in rows if r["relation"] is None],
             "inside": [r for r in rows if r["relation"] == "inside"],
             "beside": [r for r in rows if r["relation"] not in (None, "inside")]}
    summary = {k: {"pictures": len(v), **{m: round(sum(r["right"][m] for r in v) / max(1, len(v)), 4)
                                          for m in ("objects", "exact", "relation", "background")}}
               for k, v in kinds.items()}
    n = sum(len(x["objects"]) for x in lines)
    hit = sum(f"{o['colour']} {o['shape']}" in r["found"] for r in rows for o in r["objects"])
    summary["each_object"] = round(hit / n, 4)
    print(f"{time.time() - start:.0f}s", json.dumps(summary), flush=True)
    if a.results:
        head = {"steps": a.steps, "guidance": a.guidance, "seed": a.seed, "scheduler": "DDIM", "summary": summary}
        text = json.dumps(head, indent=1)[:-2] + ',\n "pictures": [\n  '
        open(a.results, "w").write(text + ",\n  ".join(json.dumps(r) for r in rows) + "\n ]\n}\n")
    if a.sheet:
        data.contact_sheet(pics[:64], a.sheet)


if __name__ == "__main__":
    main()
