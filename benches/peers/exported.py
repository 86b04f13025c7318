"""Exports a Stable Diffusion's UNet and its decoder, tiny or not, one picture, for OpenVINO or ONNX Runtime at one size; prints
the files' names as JSON.

usage: exported.py openvino|onnxruntime MODEL FOLDER [--size N] [--rows N]
       --rows: of the UNet, two where it is guided

OpenVINO keeps the weights in f16, its own default, which loses nothing of a model of f16 files; ONNX has them in f32 beside the graph.
"""

import argparse
import json
import pathlib
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel


class Unet(torch.nn.Module):
    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor) -> torch.Tensor:
        return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class Decoder(torch.nn.Module):
    def __init__(self, vae: AutoencoderKL | AutoencoderTiny) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latents, return_dict=False)[0]


def openvino_file(model: torch.nn.Module, inputs: dict[str, torch.Tensor], file: pathlib.Path) -> None:
    import openvino

    converted = openvino.convert_model(model, example_input=inputs, input=[(name, list(value.shape)) for name, value in inputs.items()])
    openvino.save_model(converted, file.with_suffix(".xml"))


def onnx_file(model: torch.nn.Module, inputs: dict[str, torch.Tensor], file: pathlib.Path) -> None:
    torch.onnx.export(model, tuple(inputs.values()), file.with_suffix(".onnx"), input_names=list(inputs), external_data=True, dynamo=True)


def autoencoder(model: str) -> AutoencoderKL | AutoencoderTiny:
    config = json.loads((pathlib.Path(model) / "vae" / "config.json").read_text())
    kind = AutoencoderTiny if config["_class_name"] == "AutoencoderTiny" else AutoencoderKL
    return kind.from_pretrained(model, subfolder="vae", torch_dtype=torch.float32).eval()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=["openvino", "onnxruntime"])
    parser.add_argument("model")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rows", type=int, default=2)
    options = parser.parse_args()
    write: Any = openvino_file if options.peer == "openvino" else onnx_file
    options.folder.mkdir(parents=True, exist_ok=True)
    side = options.size // 8
    with torch.inference_mode():
        unet = UNet2DConditionModel.from_pretrained(options.model, subfolder="unet", torch_dtype=torch.float32).eval()
        text = torch.randn(options.rows, 77, unet.config.cross_attention_dim)
        inputs = {"sample": torch.randn(options.rows, 4, side, side), "timestep": torch.tensor(500), "encoder_hidden_states": text}
        write(Unet(unet), inputs, options.folder / f"unet-{options.size}")
        write(Decoder(autoencoder(options.model)), {"latents": torch.randn(1, 4, side, side)}, options.folder / f"decoder-{options.size}")
    print(json.dumps({"files": sorted(file.name for file in options.folder.iterdir())}))


main()
