"""Writes the ControlNet (fp16, the moving average of its weights) from a training state, in the layout of diffusers."""

import argparse

import torch
from diffusers import UNet2DConditionModel

from train_control import SCENES, make_control


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--state", required=True)
    p.add_argument("--out", default="..")
    a = p.parse_args()
    state = torch.load(a.state, weights_only=False, map_location="cpu")
    net = make_control(UNet2DConditionModel.from_pretrained(SCENES + "/unet"))
    net.load_state_dict(state["average"])
    net.half().save_pretrained(a.out)
    print(f"exported step {state['step']} (samples {state['seen']})")


if __name__ == "__main__":
    main()
