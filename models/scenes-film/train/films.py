"""Films of one shape that moves across the picture: records, captions, frames and encoded pools.

    python films.py --count 1500 --seed 1 --out run/films1.pt --until HH:MM

A record is one of `scenes` with one shape (n = 1) and `dir`; x1 y1 is where it is in the middle of the film, `reach` how far in
pixels it starts before and ends after that.  Played backwards a film shows the opposite direction.
"""

import argparse
import os
import random
import sys
import time

import torch

SCENES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scenes")
sys.path += [SCENES + "/train", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../fashion-ddpm/train")]
import data  # noqa: E402
import loop  # noqa: E402

FRAMES = 8
DIRECTIONS = ["right", "left", "down", "up"]
STEP = [(1, 0), (-1, 0), (0, 1), (0, -1)]
WAYS = [
    ["to the right", "to the right", "right", "from left to right"],
    ["to the left", "to the left", "left", "from right to left"],
    ["down", "down", "downwards", "to the bottom"],
    ["up", "up", "upwards", "to the top"],
]


def held_out(rec):
    """About a tenth of all combinations of shape, colour, ground and axis is never drawn in training."""
    return data.hashlib.sha256(f"film/{rec['s1']}/{rec['c1']}/{rec['bg']}/{rec['dir'] // 2}".encode()).digest()[0] < 26


def sample_record(rng):
    """One random film (held-out or not)."""
    r = {"n": 1, "s1": rng.randrange(6), "c1": rng.randrange(8), "z1": rng.randrange(2), "s2": 0, "c2": 0, "z2": 0, "rel": 0,
         "x2": 0.0, "y2": 0.0, "r2": 0.0, "dir": rng.randrange(4), "named_bg": int(rng.random() < 0.5)}
    r["bg"] = rng.choice([b for b in (range(11) if r["named_bg"] else data.NEUTRAL) if b != r["c1"]])
    u, mid = rng.uniform, data.SIZE / 2
    r["r1"] = u(25, 27) if r["z1"] else u(19, 21)
    along, across = mid + u(-2, 2), mid + u(-7, 7)
    r["x1"], r["y1"] = (along, across) if r["dir"] < 2 else (across, along)
    r["reach"] = u(26, 30)
    return r


def sample_training(rng):
    while True:
        r = sample_record(rng)
        if not held_out(r):
            return r


def reversed_film(rec):
    return {**rec, "dir": rec["dir"] ^ 1}


def caption(rng, rec):
    text = f"{data.noun(rng, rec, 1)} {rng.choice(['moves', 'moves', 'moving'])} {rng.choice(WAYS[rec['dir']])}"
    if rec["named_bg"]:
        ground = data.BACKGROUNDS[rec["bg"]]
        article = "an" if ground[0] in "aeiou" else "a"
        text += rng.choice([f" on {article} {ground} background", f" on {article} {ground} background", f" on {ground}",
                            f", {ground} background", f", on {article} {ground} background"])
    return text


def frames(rec):
    """The record of each frame."""
    dx, dy = STEP[rec["dir"]]
    out = []
    for k in range(FRAMES):
        at = rec["reach"] * (2 * k / (FRAMES - 1) - 1)
        out.append({**rec, "x1": rec["x1"] + at * dx, "y1": rec["y1"] + at * dy})
    return out


def truth(rec):
    return {"shape": data.SHAPES[rec["s1"]], "colour": data.COLOURS[rec["c1"]], "direction": DIRECTIONS[rec["dir"]],
            "background": data.BACKGROUNDS[rec["bg"]] if rec["named_bg"] else None}


def main():
    from diffusers import AutoencoderKL
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--count", type=int, required=True)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--until", required=True, help="end as HH:MM (UTC), with fewer films if need be")
    a = p.parse_args()
    torch.set_num_threads(1)
    rng, start, recs, latents = random.Random(a.seed), time.time(), [], []
    vae = AutoencoderKL.from_pretrained(SCENES + "/vae").eval()
    left = loop.seconds_until(a.until)
    while len(recs) < a.count and time.time() - start < left:
        new = [sample_training(rng) for _ in range(4)]
        with torch.no_grad():
            z = vae.encode(data.render([f for r in new for f in frames(r)])).latent_dist.mean * vae.config.scaling_factor
        recs += new
        latents.append(z.view(-1, FRAMES, *z.shape[1:]).transpose(1, 2).half())      # [films, 4, frames, 16, 16]
    torch.save((recs, torch.cat(latents)), a.out + ".new")
    os.replace(a.out + ".new", a.out)
    print(f"{len(recs)} films in {time.time() - start:.0f}s, spread {torch.cat(latents).float().std():.3f}", flush=True)


if __name__ == "__main__":
    main()
