"""Scenes: structured records, their captions, their pictures and the held-out set.

A record is a dict of integers/floats:
  n (1 or 2), s1 c1 z1 s2 c2 z2 (shape, colour, size), rel, bg, named_bg,
  x1 y1 r1 x2 y2 r2 (centre and radius in pixels of a 128 x 128 picture).
The relation always reads "object 1 is REL object 2".
"""

import hashlib
import math
import random

import numpy as np
import torch

SIZE = 128
SHAPES = ["circle", "square", "triangle", "star", "ring", "cross"]
COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "white", "black"]
BACKGROUNDS = COLOURS + ["light grey", "grey", "dark grey"]
RELATIONS = ["none", "left", "right", "above", "below", "inside"]
SIZES = ["small", "large"]
RGB = [
    (225, 35, 35), (250, 140, 20), (250, 220, 40), (30, 160, 60),
    (40, 80, 225), (150, 50, 190), (250, 250, 250), (15, 15, 15),
    (200, 200, 200), (140, 140, 140), (80, 80, 80),
]
NEUTRAL = [6, 7, 8, 9, 10]          # backgrounds of captions that name none
CONTAINERS = [0, 1, 2, 4]           # shapes that another can lie in
STAR_INNER = 0.45
CROSS_ARM = 0.36
RING_HOLE = 0.58
OPPOSITE = {1: 2, 2: 1, 3: 4, 4: 3}


# ---------------------------------------------------------------- held-out set

def key(rec):
    """The combination that decides about hold-out, the same for mirrored wordings."""
    if rec["n"] == 1:
        return f"1/{rec['s1']}/{rec['c1']}/{rec['bg']}"
    a, b, rel = (rec["s1"], rec["c1"]), (rec["s2"], rec["c2"]), rec["rel"]
    if rel in (2, 4):
        a, b, rel = b, a, OPPOSITE[rel]
    return f"2/{a[0]}/{a[1]}/{b[0]}/{b[1]}/{rel}"


def held_out(rec):
    return hashlib.sha256(key(rec).encode()).digest()[0] < 26      # about 10 %


# --------------------------------------------------------------------- records

def sample_record(rng):
    """One random scene with its geometry (held-out or not)."""
    r = {"n": 1 if rng.random() < 0.25 else 2}
    r["s1"], r["c1"] = rng.randrange(6), rng.randrange(8)
    r["s2"], r["c2"], r["rel"] = 0, 0, 0
    if r["n"] == 2:
        u = rng.random()
        r["rel"] = 5 if u < 0.2 else 1 + rng.randrange(4)
        r["s2"], r["c2"] = rng.randrange(6), rng.randrange(8)
        if r["rel"] == 5:
            r["s2"] = rng.choice(CONTAINERS)
            while r["c2"] == r["c1"]:
                r["c2"] = rng.randrange(8)
        else:
            while (r["s1"], r["c1"]) == (r["s2"], r["c2"]):
                r["s2"], r["c2"] = rng.randrange(6), rng.randrange(8)
    r["named_bg"] = int(rng.random() < 0.5)
    used = {r["c1"]} | ({r["c2"]} if r["n"] == 2 else set())
    pool = range(11) if r["named_bg"] else NEUTRAL
    r["bg"] = rng.choice([b for b in pool if b not in used])
    r["z1"], r["z2"] = rng.randrange(2), rng.randrange(2)
    u = rng.uniform
    r["x2"] = r["y2"] = r["r2"] = 0.0
    mid = SIZE / 2
    if r["n"] == 1:
        r["r1"] = u(34, 41) if r["z1"] else u(20, 23)
        r["x1"], r["y1"] = mid + u(-9, 9), mid + u(-9, 9)
        return r
    if r["rel"] == 5:
        r["z1"], r["z2"] = 0, 1
        r["r2"] = u(49, 53)
        r["x2"], r["y2"] = mid + u(-5, 5), mid + u(-5, 5)
        r["r1"] = u(18.5, 20.5)
        drop = 0.2 * r["r2"] if r["s2"] == 2 else 0.0
        r["x1"], r["y1"] = r["x2"] + u(-3, 3), r["y2"] + drop + u(-3, 3)
        return r
    r["r1"] = u(25, 27) if r["z1"] else u(19, 21)
    r["r2"] = u(25, 27) if r["z2"] else u(19, 21)
    a, b = mid - 32 + u(-2, 2), mid + 32 + u(-2, 2)
    if r["rel"] in (2, 4):
        a, b = b, a
    if r["rel"] in (1, 2):
        r["x1"], r["x2"], r["y1"], r["y2"] = a, b, mid + u(-7, 7), mid + u(-7, 7)
    else:
        r["y1"], r["y2"], r["x1"], r["x2"] = a, b, mid + u(-7, 7), mid + u(-7, 7)
    return r


def sample_training(rng):
    while True:
        r = sample_record(rng)
        if not held_out(r):
            return r


def truth(rec):
    """The structured ground truth of a record, as in prompts.jsonl."""
    objects = [{"shape": SHAPES[rec[f"s{i}"]], "colour": COLOURS[rec[f"c{i}"]], "size": SIZES[rec[f"z{i}"]]}
               for i in range(1, rec["n"] + 1)]
    return {"objects": objects, "relation": RELATIONS[rec["rel"]], "background": BACKGROUNDS[rec["bg"]]}


# -------------------------------------------------------------------- captions

def noun(rng, rec, i, article="a"):
    """'a red circle' / 'a big red circle' / 'an orange ring'; size named half of the time."""
    colour, shape = COLOURS[rec[f"c{i}"]], SHAPES[rec[f"s{i}"]]
    size = ""
    if rng.random() < 0.5:
        size = rng.choice(["small", "small", "tiny", "little"] if rec[f"z{i}"] == 0 else ["large", "large", "big"])
    words = " ".join(w for w in (size, colour, shape) if w)
    if not article:
        return words
    if article == "a" and words[0] in "aeiou":
        article = "an"
    return f"{article} {words}"


PHRASES = {
    1: ["to the left of", "left of", "on the left of"],
    2: ["to the right of", "right of", "on the right of"],
    3: ["above", "above", "over", "on top of"],
    4: ["below", "below", "under", "beneath"],
    5: ["inside", "inside", "in", "inside of"],
}
WITH = {
    1: ["to its left", "on its left"], 2: ["to its right", "on its right"],
    3: ["above it", "over it"], 4: ["below it", "under it"], 5: ["inside", "inside it", "in it"],
}


def caption(rng, rec):
    """A random wording of the scene."""
    if rec["n"] == 1:
        text = noun(rng, rec, 1)
    else:
        u = rng.random()
        rel = rec["rel"]
        if u < 0.62:
            text = f"{noun(rng, rec, 1)} {rng.choice(PHRASES[rel])} {noun(rng, rec, 2)}"
        elif u < 0.78 and rel in OPPOSITE:
            text = f"{noun(rng, rec, 2)} {rng.choice(PHRASES[OPPOSITE[rel]])} {noun(rng, rec, 1)}"
        elif u < 0.93:
            text = f"{noun(rng, rec, 2)} with {noun(rng, rec, 1)} {rng.choice(WITH[rel])}"
        elif rel == 5:
            text = f"{noun(rng, rec, 2)} around {noun(rng, rec, 1)}"
        else:
            pair = [noun(rng, rec, 1), noun(rng, rec, 2)]
            rng.shuffle(pair)
            text = " and ".join(pair)
    if rec["named_bg"]:
        bg = BACKGROUNDS[rec["bg"]]
        art = "an" if bg[0] in "aeiou" else "a"
        text += rng.choice([f" on {art} {bg} background", f" on {art} {bg} background", f" on {bg}",
                            f", {bg} background", f", on {bg}", f", on {art} {bg} background"])
    return text


# -------------------------------------------------------------------- pictures

def coverage(shape, x, y, r):
    """Antialiased coverage in [0, 1]; x, y relative to the centre, all broadcastable."""
    if shape == 0:
        d = torch.sqrt(x * x + y * y) - r
    elif shape == 1:
        d = torch.maximum(x.abs(), y.abs()) - 0.88 * r
    elif shape == 2:      # equilateral, tip up, bounding box centred
        big = 1.15 * r
        yy = y - 0.25 * big
        d = torch.maximum(yy - 0.5 * big, x.abs() * math.cos(math.pi / 6) - yy * 0.5 - 0.5 * big)
    elif shape == 3:      # five tips, one up
        big = 1.1 * r
        yy = y - 0.095 * big
        ang = torch.atan2(x, -yy)
        fold = torch.remainder(ang + math.pi / 5, 2 * math.pi / 5) - math.pi / 5
        rad = torch.sqrt(x * x + yy * yy)
        px, py = rad * torch.cos(fold), rad * torch.sin(fold).abs()
        # edge from the tip (R, 0) to the notch (q R cos 36, q R sin 36)
        nx, ny = STAR_INNER * math.sin(math.pi / 5), 1 - STAR_INNER * math.cos(math.pi / 5)
        norm = math.hypot(nx, ny)
        d = (px * nx + py * ny - big * nx) / norm
    elif shape == 4:
        half = 0.5 * (1 - RING_HOLE) * r
        d = (torch.sqrt(x * x + y * y) - (r - half)).abs() - half
    else:
        arm = CROSS_ARM * r
        ax, ay = x.abs(), y.abs()
        d = torch.minimum(torch.maximum(ax - r, ay - arm), torch.maximum(ax - arm, ay - r))
    return (0.5 - d).clamp(0, 1)


def render(recs, crop=None, rng=None):
    """float32 [B, 3, S, S] in [-1, 1]; with `crop`, a window of that many pixels at an object."""
    n, s = len(recs), crop or SIZE
    table = torch.tensor(RGB, dtype=torch.float32) / 127.5 - 1
    col = lambda k: torch.tensor([r[k] for r in recs])
    if crop:
        near = [rng.randrange(r["n"]) + 1 for r in recs]     # windows around one of the objects
        origin = lambda v: float(min(max(round(v - crop / 2 + rng.uniform(-22, 22)), 0), SIZE - crop))
        ox = torch.tensor([origin(r[f"x{i}"]) for r, i in zip(recs, near)])
        oy = torch.tensor([origin(r[f"y{i}"]) for r, i in zip(recs, near)])
    else:
        ox = oy = torch.zeros(n)
    grid = torch.arange(s, dtype=torch.float32) + 0.5
    out = table[col("bg")][:, :, None, None].expand(n, 3, s, s).clone()
    for i in (2, 1):      # object 1 may lie inside object 2
        shapes, colours = col(f"s{i}"), table[col(f"c{i}")]
        cx, cy, rr = col(f"x{i}").float() - ox, col(f"y{i}").float() - oy, col(f"r{i}").float()
        live = col("n") >= i
        for shape in range(6):
            idx = torch.nonzero(live & (shapes == shape)).flatten()
            if len(idx) == 0:
                continue
            x = grid[None, None, :] - cx[idx][:, None, None]
            y = grid[None, :, None] - cy[idx][:, None, None]
            cov = coverage(shape, x, y, rr[idx][:, None, None])[:, None]
            out[idx] = out[idx] * (1 - cov) + colours[idx][:, :, None, None] * cov
    return out


def to_u8(pics):
    """[B, 3, S, S] in [-1, 1] -> uint8 [B, S, S, 3]."""
    return ((pics.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def contact_sheet(pics_u8, path, columns=8):
    from PIL import Image
    n = len(pics_u8)
    rows = (n + columns - 1) // columns
    sheet = np.full((rows * (SIZE + 4), columns * (SIZE + 4), 3), 255, np.uint8)
    for i, p in enumerate(pics_u8):
        y, x = (i // columns) * (SIZE + 4), (i % columns) * (SIZE + 4)
        sheet[y:y + SIZE, x:x + SIZE] = p
    Image.fromarray(sheet).save(path)


# ------------------------------------------------------------------- tokenizer

def _bytes_to_unicode():
    bs = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    cs, n = bs[:], 0
    for b in range(256):
        if b not in bs:
            bs.append(b)
            cs.append(256 + n)
            n += 1
    return [chr(c) for c in cs]


def caption_words():
    rng = random.Random(7)
    words = set("a an the picture of drawing shape".split()) | {","}
    for _ in range(20000):
        words |= set(caption(rng, sample_record(rng)).replace(",", " ,").split())
    return sorted(words)


def write_tokenizer(path, clip_folder, max_length):
    """CLIP BPE reduced to the merges that the caption words use (same order as in CLIP)."""
    import json
    import os
    lines = open(os.path.join(clip_folder, "merges.txt"), encoding="utf-8").read().split("\n")[1:]
    merges = [tuple(x.split()) for x in lines if len(x.split()) == 2][: 49152 - 256 - 2]
    rank = {m: i for i, m in enumerate(merges)}
    needed = set()
    for word in caption_words():
        parts = list(word[:-1]) + [word[-1] + "</w>"]
        while len(parts) > 1:
            pairs = [(rank.get(p, 1 << 30), j) for j, p in enumerate(zip(parts, parts[1:]))]
            best, j = min(pairs)
            if best == 1 << 30:
                break
            needed.add(best)
            parts[j:j + 2] = [parts[j] + parts[j + 1]]
    kept = [merges[i] for i in sorted(needed)]
    chars = _bytes_to_unicode()
    vocab = chars + [c + "</w>" for c in chars] + ["".join(m) for m in kept]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    os.makedirs(path, exist_ok=True)
    tok = lambda c: {"content": c, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    json.dump({v: i for i, v in enumerate(vocab)}, open(os.path.join(path, "vocab.json"), "w", encoding="utf-8"),
              ensure_ascii=False)
    with open(os.path.join(path, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "\n".join(" ".join(m) for m in kept) + "\n")
    config = {
        "add_prefix_space": False, "bos_token": {"__type": "AddedToken", **tok("<|startoftext|>")},
        "do_lower_case": True, "eos_token": {"__type": "AddedToken", **tok("<|endoftext|>")},
        "errors": "replace", "model_max_length": max_length, "pad_token": "<|endoftext|>",
        "tokenizer_class": "CLIPTokenizer", "unk_token": {"__type": "AddedToken", **tok("<|endoftext|>")},
    }
    special = {"bos_token": tok("<|startoftext|>"), "eos_token": tok("<|endoftext|>"),
               "pad_token": "<|endoftext|>", "unk_token": tok("<|endoftext|>")}
    json.dump(config, open(os.path.join(path, "tokenizer_config.json"), "w"), indent=2)
    json.dump(special, open(os.path.join(path, "special_tokens_map.json"), "w"), indent=2)


class Encoder:
    """Caption -> token ids, with a cache of words (the captions have about 50 of them)."""

    def __init__(self, folder):
        from transformers import CLIPTokenizer
        self.tok = CLIPTokenizer.from_pretrained(folder)
        self.length = self.tok.model_max_length
        self.words = {}

    def __call__(self, text):
        ids = []
        for w in text.replace(",", " ,").split():
            if w not in self.words:
                self.words[w] = self.tok(w, add_special_tokens=False)["input_ids"]
            ids += self.words[w]
        ids = [self.tok.bos_token_id] + ids[: self.length - 2] + [self.tok.eos_token_id]
        return ids + [self.tok.pad_token_id] * (self.length - len(ids))


if __name__ == "__main__":
    import sys
    import time
    rng = random.Random(0)
    recs = [sample_record(rng) for _ in range(64)]
    t = time.time()
    pics = render(recs)
    print("render 64:", time.time() - t)
    contact_sheet(to_u8(pics), sys.argv[1])
    for r in recs[:24]:
        print(caption(rng, r))
