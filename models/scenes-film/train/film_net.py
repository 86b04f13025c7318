"""The film network: UNet3DConditionModel with the spatial weights of `scenes`, and faster forwards for training on CPUs."""

import os

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel, UNet3DConditionModel
from diffusers.models.resnet import TemporalConvLayer

SCENES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scenes")
TEMPORAL = ("transformer_in.", ".temp_convs.", ".temp_attentions.")


def temporal(name):
    """Is it a weight that looks along the frames?"""
    return any(part in "." + name for part in TEMPORAL) or name.startswith("transformer_in.")


def make_film():
    """The layout of ms-1.7b at the widths of `scenes`; `attention_head_dim` is the width of a head here, one for all levels."""
    return UNet3DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=(32, 48, 64, 64),
        down_block_types=("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),
        up_block_types=("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3,
        cross_attention_dim=128, attention_head_dim=16, norm_num_groups=8)


@torch.no_grad()
def inherit(net):
    """Copies the weights of `scenes`; what looks along the frames starts as the identity."""
    old = UNet2DConditionModel.from_pretrained(SCENES + "/unet").state_dict()
    new = net.state_dict()
    for name, weight in new.items():
        if temporal(name):
            if name.endswith(".proj_out.weight") or name.endswith(".proj_out.bias"):
                weight.zero_()
            continue
        weight.copy_(old.pop(name).view_as(weight))      # 1 x 1 convolutions become linear layers
    if old:
        raise SystemExit(f"not taken over: {sorted(old)}")


def quick_forward(self, hidden_states, num_frames=1):
    """TemporalConvLayer as convolutions of pictures of frames x pixels; a third of the time of Conv3d on a CPU."""
    rows, c, h, w = hidden_states.shape
    x = hidden_states.view(-1, num_frames, c, h * w).permute(0, 2, 1, 3).contiguous(memory_format=torch.channels_last)
    y = x
    for stage in (self.conv1, self.conv2, self.conv3, self.conv4):
        norm, conv = stage[0], stage[-1]
        y = F.silu(norm(y))
        y = F.conv2d(y, conv.weight.squeeze(-1), conv.bias, padding=(1, 0))
    return (x + y).permute(0, 2, 1, 3).reshape(rows, c, h, w)


def quick():
    TemporalConvLayer.forward = quick_forward
