"""Counts what `scenes` makes of outlines, masks and pictures to start from, uncached and under two rules.

    pip install -r models/scenes/train/requirements.txt
    AFTERIMAGE=target/release/afterimage python scripts/edit_figures.py control|inpaint|image FOLDER [COUNT]

Prompts are unseen ones.  Every picture is judged by models/scenes/train/checker.py and by its masks; pictures stay in FOLDER.
"""

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "models/scenes/train"), str(ROOT / "models/scenes-control/train")]
import checker  # noqa: E402
import data  # noqa: E402
import outlines  # noqa: E402

PROGRAM = os.environ.get("AFTERIMAGE", str(ROOT / "target/release/afterimage"))
NET = os.environ.get("CONTROL", str(ROOT / "models/scenes-control"))
RULES = {"uncached": "none", "deepcache": "deepcache:interval=3,branch=0", "propagation": "encoder-propagation:every=3"}
STRENGTH = 0.7                     # of image to image
GROWN = 6                          # pixels of the mask around the object that is replaced
NEAR = 8                           # pixels that an object kept in place may move


def make(path, prompt, seed, *options):
    if not path.exists():
        subprocess.run([PROGRAM, "generate", prompt, "--seed", str(seed), "--device", "cpu", "--output", str(path), *options],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env={**os.environ, "RAYON_NUM_THREADS": "1"})
    return np.asarray(Image.open(path).convert("RGB"))


def unseen(rng, wanted):
    while True:
        rec = data.sample_record(rng)
        if data.held_out(rec) and wanted(rec):
            return rec


def worded(rec, seed):
    """A caption that names the place; the same wording for the same seed."""
    rng = random.Random(seed)
    while " and " in (text := data.caption(rng, rec)):
        pass
    return text


def judged(picture, rec):
    truth = data.truth(rec)
    truth["background"] = truth["background"] if rec["named_bg"] else None
    found, ground = checker.find_shapes(picture)
    return found, ground, checker.judge(found, ground, truth)


def drawn(rec, i):
    """Mask of an object as it is drawn, without what lies on it."""
    def cover(k):
        grid = np.arange(data.SIZE) + 0.5
        x, y = data.torch.tensor(grid[None] - rec[f"x{k}"]), data.torch.tensor(grid[:, None] - rec[f"y{k}"])
        return data.coverage(rec[f"s{k}"], x, y, rec[f"r{k}"]).numpy() > 0.5
    return cover(1) if i == 1 else cover(2) & ~cover(1)


def overlap(picture, rec, ground):
    """The least IoU, over the colours asked for, of where the colour is with where its shapes were drawn."""
    objects = range(1, rec["n"] + 1)
    wanted = {rec[f"c{i}"] for i in objects}
    known = sorted(wanted | ({checker.PALETTE.index(ground)} if ground else {rec["bg"]}))
    label = checker.nearest(picture, known)
    scores = []
    for colour in wanted:
        target = np.any([drawn(rec, i) for i in objects if rec[f"c{i}"] == colour], axis=0)
        here = label == colour
        scores.append((here & target).sum() / max(1, (here | target).sum()))
    return float(min(scores))


def of_object(found, rec, i=1):
    want = (data.SHAPES[rec[f"s{i}"]], data.COLOURS[rec[f"c{i}"]])
    return next((f for f in found if (f["shape"], f["colour"]) == want), None)


def control(folder, index):
    rec = unseen(random.Random(4000 + index), lambda _: True)
    prompt, path = worded(rec, index), folder / f"{index:03}-drawing.png"
    Image.fromarray(data.to_u8(data.render([outlines.sketch(rec)]))[0]).save(path)
    steered = ["--control-model", NET, "--control-image", str(path), "--control-canny"]
    runs = {"no ControlNet": [], **{name: [*steered, "--cache", rule] for name, rule in RULES.items()}}
    rows = {}
    for name, options in runs.items():
        picture = make(folder / f"{index:03}-{name.replace(' ', '-')}.png", prompt, index, *options)
        _, ground, right = judged(picture, rec)
        iou = overlap(picture, rec, ground)
        rows[name] = {"all objects": right["objects"], "place named": right["relation"], "IoU": iou, "IoU >= 0.7": iou >= 0.7}
    return rows


def beside(rec):
    return rec["rel"] in (1, 2, 3, 4) and rec["c1"] != rec["c2"]


def changes(rec, shapes):
    """The same scene with the first object in another colour, and in another shape if so wished; unseen as well."""
    for colour in set(range(8)) - {rec["c1"], rec["c2"], rec["bg"]}:
        for shape in set(range(6)) - {rec["s1"]} if shapes else [rec["s1"]]:
            new = {**rec, "c1": colour, "s1": shape}
            if data.held_out(new):
                yield new


def source(folder, index, shapes):
    """A pair by the model in which the checker finds everything and nothing more, and what it is to become."""
    rng, folder = random.Random(6000 + index), folder.parent / "sources"
    folder.mkdir(exist_ok=True)
    for attempt in range(100):
        rec = unseen(rng, beside)
        options = list(changes(rec, shapes))
        if not options:
            continue
        path = folder / f"{index:03}-{attempt}.png"
        picture = make(path, worded(rec, index), index)
        found, _, right = judged(picture, rec)
        if right["exact"] and right["relation"]:
            return rec, random.Random(index).choice(options), found, path, picture
    raise SystemExit("the model makes nothing of its prompts")


def kept(before, after, rec_before, rec_after, i):
    a, b = of_object(before, rec_before, i), of_object(after, rec_after, i)
    return bool(a and b) and max(abs(a["x"] - b["x"]), abs(a["y"] - b["y"])) <= NEAR


def image(folder, index):
    rec, new, before, path, _ = source(folder, index, shapes=False)
    rows = {}
    for name, rule in RULES.items():
        picture = make(folder / f"{index:03}-{name}.png", worded(new, index), 1000 + index, "--init-image", str(path),
                       "--strength", str(STRENGTH), "--cache", rule)
        found, _, right = judged(picture, new)
        rows[name] = {"all objects": right["objects"], "nothing else": right["exact"],
                      "both in place": all(kept(before, found, rec, new, i) for i in (1, 2))}
    return rows


def inpaint(folder, index):
    rec, new, before, path, original = source(folder, index, shapes=True)
    old = of_object(before, rec)
    mask = np.zeros((data.SIZE, data.SIZE), np.uint8)
    x, y, w, h = (int(old[k]) for k in ("x", "y", "width", "height"))
    mask[max(0, y - h // 2 - GROWN):y + h // 2 + GROWN, max(0, x - w // 2 - GROWN):x + w // 2 + GROWN] = 255
    Image.fromarray(mask).save(folder / f"{index:03}-mask.png")
    rows = {}
    for name, rule in RULES.items():
        picture = make(folder / f"{index:03}-{name}.png", worded(new, index), 1000 + index, "--init-image", str(path),
                       "--mask", str(folder / f"{index:03}-mask.png"), "--cache", rule)
        found, _, right = judged(picture, new)
        asked = of_object(found, new)
        error = ((picture.astype(float) - original) ** 2)[mask == 0].mean()
        rows[name] = {"all objects": right["objects"], "nothing else": right["exact"],
                      "asked for, in the mask": bool(asked) and mask[int(asked["y"]), int(asked["x"])] > 0,
                      "PSNR outside, dB": float(10 * np.log10(255 ** 2 / max(error, 1e-9)))}
    return rows


def main(task, folder, count=40):
    folder, count = Path(folder), int(count)
    folder.mkdir(parents=True, exist_ok=True)
    data.torch.set_num_threads(1)
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda i: {"control": control, "inpaint": inpaint, "image": image}[task](folder, i), range(count)))
    table = {name: {k: round(float(np.mean([r[name][k] for r in rows])), 3) for k in rows[0][name]} for name in rows[0]}
    print(json.dumps({"task": task, "pictures": count, "means": table}, indent=1))
    (folder / "rows.json").write_text(json.dumps(rows, default=float))


if __name__ == "__main__":
    main(*sys.argv[1:])
