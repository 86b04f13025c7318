"""Trains the film network on encoded films; v prediction, 10 % empty captions, more samples where there is much noise.

The noise levels are those of `scenes`, rescaled so that the last one has nothing of the film in it (zero terminal signal).  Eight
frames that move alike show their way through a lot of noise: at the last level of `scenes` itself the network reads the direction
off what is left of the film, never learns to take it from the text, and finds one at random in the pure noise that a run starts
from.  So a fifth of the films is all noise, where only the text tells.

Everything learns: what looks along the frames or at the text at the full rate, the rest of `scenes` at a quarter of it, for its heads of
attention are grouped anew (see film_net.py) and it never saw a single shape far from the middle.
"""

import argparse
import glob
import random

import torch
from diffusers import UNet3DConditionModel
from transformers import CLIPTextModel

import film_net
import films
import data
import loop
from train_unet import alphas_cumprod


class Films:
    """Encoded films of all files that match a pattern, those that appear later included."""

    def __init__(self, pattern, rng):
        self.pattern, self.rng, self.known, self.recs, self.latents = pattern, rng, set(), [], []

    def look(self):
        for path in sorted(set(glob.glob(self.pattern)) - self.known):
            recs, latents = torch.load(path, weights_only=False)
            self.known.add(path)
            self.recs += recs
            self.latents += list(latents)
            print(f"{path.rsplit('/', 1)[-1]}: {len(recs)} films, {len(self.recs)} in all", flush=True)

    def draw(self, n):
        recs, latents = [], []
        for _ in range(n):
            i = self.rng.randrange(len(self.recs))
            rec, z = self.recs[i], self.latents[i].float()
            if self.rng.random() < 0.5:
                rec, z = films.reversed_film(rec), z.flip(1)
            recs.append(rec)
            latents.append(z)
        return recs, torch.stack(latents)


def pace(name):
    """What looks along the frames or at the text learns at the full rate."""
    return 1.0 if film_net.temporal(name) or ".attn2." in name else 0.25


def without_remains(ac):
    """The same noise levels rescaled to end in pure noise, as `rescale_betas_zero_snr` of a scheduler does it."""
    root = ac.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def train(rank, count, a):
    torch.manual_seed(5)
    film_net.quick()
    net = film_net.make_film().eval()
    if a.start:
        net.load_state_dict(UNet3DConditionModel.from_pretrained(a.start + "/unet", torch_dtype=torch.float32).state_dict())
    else:
        film_net.inherit(net)
    text = CLIPTextModel.from_pretrained(a.text + "/text_encoder").eval().requires_grad_(False)
    encode, rng = data.Encoder(films.SCENES + "/tokenizer"), random.Random(f"{rank} {a.resume} {a.until}")
    pool, ac = Films(a.films, rng), without_remains(alphas_cumprod())
    snr, calls = ac / (1 - ac), 0

    def errors(n):
        nonlocal calls
        if calls % 50 == 0:
            pool.look()
        calls += 1
        recs, z = pool.draw(n)
        words = ["" if rng.random() < 0.1 else films.caption(rng, r) for r in recs]
        with torch.no_grad():
            states = text(torch.tensor([encode(w) for w in words])).last_hidden_state
        t, noise = ((loop.times(n).float() / 1000) ** a.late * 1000).long(), torch.randn_like(z)
        t[torch.rand(n) < a.first] = 999
        k = ac[t][:, None, None, None, None]
        out = net(k.sqrt() * z + (1 - k).sqrt() * noise, t, states).sample
        return ((out - (k.sqrt() * noise - (1 - k).sqrt() * z)) ** 2).mean((1, 2, 3, 4)), t

    loop.train(net, errors, (snr + 1).clamp(max=6) / (snr + 1), a, rank, count, pace, torch.float32)


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--films", required=True, help="pattern of the files of films.py")
    p.add_argument("--text", required=True, help="folder of train_film_text.py")
    p.add_argument("--start", default="", help="folder of export_film.py to go on from, where no state was kept")
    p.add_argument("--late", type=float, default=0.7, help="times are even ones to this power: below 1, more with much noise")
    p.add_argument("--first", type=float, default=0.2, help="share of the films that are all noise")
    return loop.arguments(p)


if __name__ == "__main__":
    loop.launch(train, arguments(), port=29531)
