"""Asks a training state how much it takes from the text: errors on held-out films under their own caption, under that of the opposite
direction, and under none, at some noise levels.  Costs a few seconds where drawing films costs minutes.

    python ask_film.py --state run/net/state.pt --text run/text
"""

import argparse
import random

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel

import film_net
import films
import data
from train_film import without_remains
from train_unet import alphas_cumprod

TIMES = (500, 700, 850, 950, 999)


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--state", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--count", type=int, default=16)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    film_net.quick()
    state, net = torch.load(a.state, weights_only=False, map_location="cpu"), film_net.make_film().eval()
    text = CLIPTextModel.from_pretrained(a.text + "/text_encoder").eval()
    vae = AutoencoderKL.from_pretrained(films.SCENES + "/vae").eval()
    encode, rng, recs = data.Encoder(films.SCENES + "/tokenizer"), random.Random(9), []
    while len(recs) < a.count:
        rec = films.sample_record(rng)
        if films.held_out(rec):
            recs.append(rec)
    z = vae.encode(data.render([f for r in recs for f in films.frames(r)])).latent_dist.mean * vae.config.scaling_factor
    z, ac = z.view(-1, films.FRAMES, *z.shape[1:]).transpose(1, 2), without_remains(alphas_cumprod())
    captions = {"own": [films.caption(random.Random(i), r) for i, r in enumerate(recs)],
                "opposite": [films.caption(random.Random(i), films.reversed_film(r)) for i, r in enumerate(recs)], "none": [""] * a.count}
    states = {k: text(torch.tensor([encode(w) for w in words])).last_hidden_state for k, words in captions.items()}
    noise = torch.randn_like(z)
    for which in ("weights", "average"):
        net.load_state_dict(state[which])
        for t in TIMES:
            k = ac[t]
            error = {name: ((net(k.sqrt() * z + (1 - k).sqrt() * noise, t, s).sample - (k.sqrt() * noise - (1 - k).sqrt() * z)) ** 2).mean().item()
                     for name, s in states.items()}
            print(f"{which} seen {state['seen']} time {t}: " + " ".join(f"{name} {e:.4f}" for name, e in error.items()), flush=True)


if __name__ == "__main__":
    main()
