"""Finds the coloured shapes of a picture.  numpy only, deterministic; checker.rs is its port.

1. every pixel gets the nearest colour of the palette;
2. colours with flat areas (3 x 3 of one label) are "present", the background is the most
   common of them on the frame; pixels are labelled again with present colours only;
3. 4-connected components of the other colours, small ones dropped;
4. each silhouette is compared (IoU) with the shapes drawn into its bounding box.
"""

import numpy as np

SHAPES = ["circle", "square", "triangle", "star", "ring", "cross"]
PALETTE = ["red", "orange", "yellow", "green", "blue", "purple", "white", "black", "light grey", "grey", "dark grey"]
RGB = np.array([
    (225, 35, 35), (250, 140, 20), (250, 220, 40), (30, 160, 60), (40, 80, 225), (150, 50, 190),
    (250, 250, 250), (15, 15, 15), (200, 200, 200), (140, 140, 140), (80, 80, 80)], np.int64)
COLOURS = 8            # the first eight are colours of shapes, the others of backgrounds only
MIN_FLAT = 24          # flat pixels that make a colour present and a component count
FRAME = 4
SUB = 4                # samples per pixel side of a template


def nearest(rgb, allowed):
    """Label image: index of the nearest allowed palette colour, the first of equals."""
    d = ((rgb.astype(np.int64)[:, :, None, :] - RGB[allowed][None, None]) ** 2).sum(-1)
    return np.array(allowed)[d.argmin(-1)]


def flat(label):
    """True where the 3 x 3 neighbourhood (inside the picture) has one label."""
    h, w = label.shape
    out = np.zeros((h, w), bool)
    mid = label[1:-1, 1:-1]
    same = np.ones(mid.shape, bool)
    for dy in range(3):
        for dx in range(3):
            same &= label[dy:dy + h - 2, dx:dx + w - 2] == mid
    out[1:-1, 1:-1] = same
    return out


def components(mask):
    """4-connected components, numbered in order of their first pixel (row by row)."""
    h, w = mask.shape
    ids = np.full((h, w), -1, np.int64)
    count = 0
    for y0 in range(h):
        for x0 in range(w):
            if not mask[y0, x0] or ids[y0, x0] >= 0:
                continue
            ids[y0, x0] = count
            stack = [(y0, x0)]
            while stack:
                y, x = stack.pop()
                for yy, xx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                    if 0 <= yy < h and 0 <= xx < w and mask[yy, xx] and ids[yy, xx] < 0:
                        ids[yy, xx] = count
                        stack.append((yy, xx))
            count += 1
    return ids, count


# Stars: inner radius, where the tips end, and the bounding box (half width, top, bottom) that
# this gives for an outer radius of 1.  The second is a star with worn tips, as a blurred one has.
STARS = [(0.45, 1.0, 0.951, -1.0, 0.809), (0.52, 0.8, 0.795, -0.8, 0.715)]
TEMPLATES = [0, 1, 2, 3, 4, 5, 3]      # shapes of the templates; the last is the worn star


def star(u, v, profile):
    q, clip, wide, top, bottom = profile
    x, y = u * wide, (v + 1) / 2 * (bottom - top) + top
    nx, ny = q * np.sin(np.deg2rad(36)), 1 - q * np.cos(np.deg2rad(36))
    best = None
    for k in range(5):                 # measured at the nearest tip, the one with the greatest `along`
        a = np.deg2rad(72 * k)
        tx, ty = np.sin(a), -np.cos(a)
        along, side = x * tx + y * ty, np.abs(x * ty - y * tx)
        value = along * nx + side * ny - nx
        if best is None:
            best, far = value, along
        else:
            better = along > far
            best, far = np.where(better, value, best), np.where(better, along, far)
    return (best <= 0) & (x * x + y * y <= clip * clip)


def inside(template, u, v):
    """Is (u, v) in the shape that fills [-1, 1] x [-1, 1]?  v points down."""
    if template == 0:
        return u * u + v * v <= 1
    if template == 1:
        return np.ones(np.broadcast(u, v).shape, bool)
    if template == 2:
        return np.abs(u) <= (v + 1) / 2
    if template == 3 or template == 6:
        return star(u, v, STARS[0 if template == 3 else 1])
    if template == 4:
        r = u * u + v * v
        return (r <= 1) & (r >= 0.58 * 0.58)
    return (np.abs(u) <= 0.36) | (np.abs(v) <= 0.36)


def template_iou(mask, template):
    """IoU of a silhouette (cut to its bounding box) with a template drawn into that box."""
    h, w = mask.shape
    u = ((np.arange(w * SUB) + 0.5) / (w * SUB) * 2 - 1)[None, :]
    v = ((np.arange(h * SUB) + 0.5) / (h * SUB) * 2 - 1)[:, None]
    cover = inside(template, u, v).reshape(h, SUB, w, SUB).sum((1, 3))       # 0 .. SUB * SUB
    full = SUB * SUB
    inter = int(cover[mask].sum())
    total = int(mask.sum()) * full + int(cover[~mask].sum())
    return inter / total


def fill(mask):
    """The mask with its holes, and the holes: 4-connected areas that do not touch the border."""
    ids, count = components(~mask)
    border = set(ids[0]) | set(ids[-1]) | set(ids[:, 0]) | set(ids[:, -1])
    holes = [ids == i for i in range(count) if i not in border]
    filled = mask.copy()
    for hole in holes:
        filled |= hole
    return filled, holes


def around(filled, label):
    """The most common label within 3 pixels (square) outside of a silhouette, -1 if none."""
    h, w = filled.shape
    big = np.zeros((h + 6, w + 6), bool)
    for dy in range(7):
        for dx in range(7):
            big[dy:dy + h, dx:dx + w] |= filled
    near = big[3:-3, 3:-3] & ~filled
    if not near.any():
        return -1
    return int(np.bincount(label[near], minlength=len(PALETTE)).argmax())


def find_shapes(rgb):
    """rgb uint8 [H, W, 3] -> list of dicts, largest first, and the background's name."""
    h, w = rgb.shape[:2]
    first = nearest(rgb, list(range(len(PALETTE))))
    counts = np.bincount(first[flat(first)], minlength=len(PALETTE))
    present = [i for i in range(len(PALETTE)) if counts[i] >= MIN_FLAT]
    if not present:
        return [], ""
    label = nearest(rgb, present)
    frame = np.ones((h, w), bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    background = int(np.bincount(label[frame], minlength=len(PALETTE)).argmax())
    level = flat(label)
    parts = []
    for c in present:
        if c == background or c >= COLOURS:
            continue
        ids, count = components(label == c)
        for i in range(count):
            mask = ids == i
            if int((mask & level).sum()) >= MIN_FLAT:
                parts.append((int(mask.sum()), c, mask))
    parts.sort(key=lambda p: -p[0])             # stable: colour, then first pixel
    found, seen_through = [], []
    for area, c, mask in parts:
        if any(c == colour and not (mask & ~hole).any() for colour, hole in seen_through):
            continue                            # what one sees of the outer shape through a ring
        filled, holes = fill(mask)
        outer = around(filled, label)
        shape_mask = mask.copy()
        for hole in holes:
            if 10 * int((label[hole] == outer).sum()) >= 3 * int(hole.sum()):
                seen_through.append((outer, hole))
            else:
                shape_mask |= hole
        ys, xs = np.nonzero(mask)
        y0, y1, x0, x1 = int(ys.min()), int(ys.max()) + 1, int(xs.min()), int(xs.max()) + 1
        cut = shape_mask[y0:y1, x0:x1]
        scores = [template_iou(cut, t) for t in range(len(TEMPLATES))]
        best = int(np.argmax(scores))
        found.append({
            "shape": SHAPES[TEMPLATES[best]], "colour": PALETTE[c], "iou": scores[best],
            "x": (x0 + x1) / 2, "y": (y0 + y1) / 2, "width": x1 - x0, "height": y1 - y0,
        })
    return found, PALETTE[background]


MIN_IOU = 0.65


def judge(found, background, truth):
    """Compares with a line of prompts.jsonl; returns which parts are right.

    objects: each object named is found once with its colour and shape and nothing else is there;
    relation: also in the place that the prompt says.
    """
    good = [f for f in found if f["iou"] >= MIN_IOU]
    want = [(o["shape"], o["colour"]) for o in truth["objects"]]
    objects = sorted((f["shape"], f["colour"]) for f in found) == sorted(want) and len(good) == len(found)
    named = all(any((f["shape"], f["colour"]) == x for f in good) for x in want)
    relation = objects
    if named and len(want) == 2:
        a = next(f for f in good if (f["shape"], f["colour"]) == want[0])
        b = next(f for f in good if (f["shape"], f["colour"]) == want[1])
        dx, dy = b["x"] - a["x"], b["y"] - a["y"]
        rel = truth["relation"]
        if rel == "inside":
            place = abs(dx) < b["width"] / 2 and abs(dy) < b["height"] / 2 and a["width"] < b["width"]
        else:
            along, across = {"left": (dx, dy), "right": (-dx, dy), "above": (dy, dx), "below": (-dy, dx)}[rel]
            place = along > 16 and along > abs(across)
        relation = place
    else:
        relation = named
    ground = truth.get("background") in (None, background)
    return {"objects": named, "exact": objects, "relation": relation, "background": ground}


if __name__ == "__main__":
    # Calibration: true pictures, and with a folder of a VAE its round trips.
    import random
    import sys

    import torch

    import data
    torch.set_num_threads(1)
    rng = random.Random(11)
    count = int(sys.argv[1])
    recs = [data.sample_record(rng) for _ in range(count)]
    vae = None
    if len(sys.argv) > 2 and sys.argv[2]:
        from diffusers import AutoencoderKL
        vae = AutoencoderKL.from_pretrained(sys.argv[2])
    sums, wrong = np.zeros(4), []
    for i in range(0, count, 20):
        x = data.render(recs[i:i + 20])
        if vae is not None:
            with torch.no_grad():
                x = vae.decode(vae.encode(x).latent_dist.mean).sample
        for pic, r in zip(data.to_u8(x), recs[i:i + 20]):
            found, bg = find_shapes(pic)
            res = judge(found, bg, data.truth(r))
            sums += [res["objects"], res["exact"], res["relation"], res["background"]]
            if not (res["exact"] and res["relation"]):
                wrong.append(pic)
                print(data.truth(r), found, bg)
    print("objects exact relation background:", (sums / count).round(4).tolist())
    if wrong and len(sys.argv) > 3:
        data.contact_sheet(wrong[:32], sys.argv[3])
