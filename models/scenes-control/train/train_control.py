"""Trains a ControlNet on outlines for `scenes`, whose UNet stays as it is.

It starts as a copy of the UNet's encoder.  Of the two gates in a row that a ControlNet has (the last convolution of its
picture's encoder, and its outputs) only the second starts at zero: it is enough to begin as the plain UNet.  The encoder of the
picture starts with outputs as large as those of the first convolution; as PyTorch makes it, thin lines reach it a hundred
thousand times weaker, and 25 000 samples taught it nothing.
"""

import argparse
import os
import random
import sys

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel

HERE = os.path.dirname(os.path.abspath(__file__))
SCENES = os.path.join(HERE, "../../scenes")
sys.path += [SCENES + "/train", os.path.join(HERE, "../../fashion-ddpm/train")]
import data  # noqa: E402
import loop  # noqa: E402
import outlines  # noqa: E402
from train_unet import Pool, alphas_cumprod  # noqa: E402

WIDTHS = (8, 16, 32, 64)


def make_control(unet):
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=WIDTHS)
    return control


@torch.no_grad()
def wake(embedding, hints):
    """Scales each convolution of the picture's encoder to outputs of spread 1."""
    x = hints
    for conv in (embedding.conv_in, *embedding.blocks, embedding.conv_out):
        torch.nn.init.kaiming_normal_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
        conv.weight /= conv(x).std()
        x = torch.nn.functional.silu(conv(x))


# Spread of what the outputs' convolutions see, measured: the deeper, the larger.
SPREAD = [1, 2, 3, 8, 10, 12, 50, 50, 55, 180, 180, 180]


def pace(name):
    """Outputs learn the slower the larger what they see is; the copied encoder more slowly than what is new."""
    if name.startswith("controlnet_down_blocks."):
        return SPREAD[int(name.split(".")[1])] ** -0.5
    if name.startswith("controlnet_mid_block."):
        return SPREAD[-1] ** -0.5
    return 1.0 if name.startswith("controlnet_cond_embedding.") else 0.3


class Scenes(Pool):
    """Scenes encoded before, where a file of train_unet.py is given, else encoded while the training runs."""

    def __init__(self, a, rank):
        vae = AutoencoderKL.from_pretrained(SCENES + "/vae").eval()
        super().__init__(vae, random.Random(900 + rank), a.pool)
        if a.scenes:
            self.recs, known = torch.load(f"{a.scenes}/pool{rank}.pt", weights_only=False)
            self.limit, self.lat = len(self.recs), known
        while len(self.recs) < min(480, self.limit):
            self.add(16)

    def batch(self, n):
        self.add(2)
        return self.draw(n, 0, 0.0)


def hints(recs, rng, plain):
    """Outlines, of the picture itself for a share `plain` of the scenes: where colours are alike it has gaps."""
    drawn = [r if rng.random() < plain else outlines.sketch(r) for r in recs]
    return outlines.hint(data.to_u8(data.render(drawn)))


def late(n):
    """Times, more of them where there is much noise: there the place is decided."""
    return ((loop.times(n).float() / 1000) ** 0.7 * 1000).long()


def train(rank, count, a):
    torch.manual_seed(5)
    unet = UNet2DConditionModel.from_pretrained(SCENES + "/unet")
    net = make_control(unet).to(memory_format=torch.channels_last)
    unet = unet.bfloat16().to(memory_format=torch.channels_last).requires_grad_(False)
    text = CLIPTextModel.from_pretrained(SCENES + "/text_encoder").eval().requires_grad_(False)
    encode, scenes, rng = data.Encoder(SCENES + "/tokenizer"), Scenes(a, rank), random.Random(70 + rank)
    ac = alphas_cumprod()
    snr = ac / (1 - ac)
    if not a.resume:
        wake(net.controlnet_cond_embedding, hints(scenes.batch(64)[0], rng, a.plain))

    def errors(n):
        recs, z = scenes.batch(n)
        words = ["" if rng.random() < a.drop else data.caption(rng, r) for r in recs]
        states = text(torch.tensor([encode(w) for w in words])).last_hidden_state.bfloat16()
        t, noise = late(n), torch.randn_like(z)
        k = ac[t][:, None, None, None]
        noisy = (k.sqrt() * z + (1 - k).sqrt() * noise).bfloat16().contiguous(memory_format=torch.channels_last)
        picture = hints(recs, rng, a.plain).bfloat16().contiguous(memory_format=torch.channels_last)
        down, mid = net(noisy, t, states, controlnet_cond=picture, return_dict=False)
        out = unet(noisy, t, states, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
        return ((out.float() - (k.sqrt() * noise - (1 - k).sqrt() * z)) ** 2).mean((1, 2, 3)), t

    loop.train(net, errors, (snr + 1).clamp(max=6) / (snr + 1), a, rank, count, pace)


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--scenes", default="", help="folder with the encoded scenes of train_unet.py")
    p.add_argument("--pool", type=int, default=16000, help="scenes per worker, without --scenes")
    p.add_argument("--drop", type=float, default=0.3, help="share of captions left out")
    p.add_argument("--plain", type=float, default=0.3)
    return loop.arguments(p)


if __name__ == "__main__":
    loop.launch(train, arguments(), port=29527)
