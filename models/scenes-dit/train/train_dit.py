"""Trains the DiT on latents of single shapes; v prediction, 10 % of the labels replaced by null.

All blocks share one time and label embedder, as in the DiT paper; diffusers' layout has a copy in
every block, which export.py writes.  `eval()` keeps diffusers from dropping labels by itself, which
it would do in every block separately.
"""

import argparse
import os
import sys

import torch
from diffusers import DiTTransformer2DModel

import singles

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../fashion-ddpm/train"))
import loop  # noqa: E402


def make_dit():
    return DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=64, num_layers=9, in_channels=4, out_channels=4,
        sample_size=16, patch_size=2, num_embeds_ada_norm=singles.COUNT, norm_elementwise_affine=False,
        norm_type="ada_norm_zero")


def share_embedder(net):
    for block in net.transformer_blocks[1:]:
        block.norm1.emb = net.transformer_blocks[0].norm1.emb
    return net


def initialise(net):
    """As in the paper: Xavier, embedders 0.02, and zero where a block or the output begins."""
    for module in net.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
            torch.nn.init.zeros_(module.bias)
    embedder = net.transformer_blocks[0].norm1.emb
    for table in (embedder.timestep_embedder.linear_1, embedder.timestep_embedder.linear_2,
                  embedder.class_embedder.embedding_table):
        torch.nn.init.normal_(table.weight, std=0.02)
    for module in [b.norm1.linear for b in net.transformer_blocks] + [net.proj_out_1, net.proj_out_2]:
        torch.nn.init.zeros_(module.weight)


def alphas_cumprod():
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000) ** 2
    return torch.cumprod(1 - betas, 0)


def train(rank, count, a):
    torch.manual_seed(6)
    net = share_embedder(make_dit())
    initialise(net)
    net.eval()
    pool = torch.load(a.latents)
    ac = alphas_cumprod()

    def errors(n):
        pick = torch.randint(len(pool["labels"]), (n,))
        z, labels = pool["latents"][pick].float(), pool["labels"][pick]
        labels = torch.where(torch.rand(n) < 0.1, singles.NULL, labels)
        t, noise = loop.times(n), torch.randn_like(z)
        k = ac[t][:, None, None, None]
        noisy = k.sqrt() * z + (1 - k).sqrt() * noise
        out = net(noisy.bfloat16(), t, labels).sample.float()
        return ((out - (k.sqrt() * noise - (1 - k).sqrt() * z)) ** 2).mean((1, 2, 3)), t

    snr = ac / (1 - ac)
    loop.train(net, errors, (snr + 1).clamp(max=6) / (snr + 1), a, rank, count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latents", required=True, help="file of singles.py")
    loop.launch(train, loop.arguments(parser), port=29522)
