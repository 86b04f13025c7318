"""Trains the UNet on Fashion-MNIST, 32 x 32 grey; epsilon prediction, linear schedule."""

import argparse

import torch
from diffusers import UNet2DModel

import data
import loop


def make_unet():
    return UNet2DModel(
        sample_size=32, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32, 32, 64, 128),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1,
        norm_eps=1e-6, norm_num_groups=8)


def alphas_cumprod():
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)


def train(rank, count, a):
    torch.manual_seed(5)
    net = make_unet().to(memory_format=torch.channels_last)
    pictures, _ = data.read("train")
    ac = alphas_cumprod()

    def errors(n):
        x = data.scaled(pictures[torch.randint(len(pictures), (n,))])
        t, noise = loop.times(n), torch.randn_like(x)
        k = ac[t][:, None, None, None]
        noisy = (k.sqrt() * x + (1 - k).sqrt() * noise).bfloat16().contiguous(memory_format=torch.channels_last)
        return ((net(noisy, t).sample.float() - noise) ** 2).mean((1, 2, 3)), t

    loop.train(net, errors, loop.clipped(ac), a, rank, count)


if __name__ == "__main__":
    loop.launch(train, loop.arguments(argparse.ArgumentParser(description=__doc__)), port=29521)
