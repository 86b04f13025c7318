"""A model's denoising loop in diffusers, or a Stable Diffusion's denoiser in OpenVINO on the CPU; prints JSON.

usage: diffusion.py diffusers|openvino MODEL --steps N [--size N] [--batch N] [--interval N] [--guidance G] [--control DIR]
                    [--device D] [--dtype T] [--compile]
       --interval: with the DeepCache package, branch 0
       --control: with this ControlNet, on a white picture; needs --size

Threads are OMP_NUM_THREADS. `denoising` is the loop's seconds, without text encoder and autoencoder; `peak_memory` is in bytes of main memory.
"""

import argparse
import json
import os
import resource
import time

import torch
from pipelines import compiled, deepcache, open_pipeline

DTYPES = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def diffusers_run(options: argparse.Namespace) -> float:
    device = torch.device(options.device)
    tf32 = options.dtype == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    pipeline = open_pipeline(options.model, device, DTYPES[options.dtype], options.control)
    if options.interval:
        deepcache(pipeline, options.interval)
    if options.compile:
        compiled(pipeline)
    call = {"steps": options.steps, "size": options.size, "batch": options.batch, "guidance": options.guidance}
    # Touches every weight; at the full size where kernels are chosen by it.
    small = device.type == "cpu" and not options.compile and options.size
    pipeline.denoising(call | {"steps": 2} | ({"size": 64} if small else {}))
    return pipeline.denoising(call)


def openvino_run(options: argparse.Namespace) -> float:
    import openvino
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(options.model, subfolder="unet", torch_dtype=torch.float32).eval()
    sample = torch.randn(2, 4, options.size // 8, options.size // 8)
    text = torch.randn(2, 77, unet.config.cross_attention_dim)
    inputs = {"sample": sample, "timestep": torch.tensor(500), "encoder_hidden_states": text}
    converted = openvino.convert_model(unet, example_input=inputs)
    del unet
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"])}
    model = openvino.compile_model(converted, "CPU", settings)
    inputs = {name: value.numpy() for name, value in inputs.items()}
    model(inputs)
    start = time.perf_counter()
    for _ in range(options.steps):
        model(inputs)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["diffusers", "openvino"])
    parser.add_argument("model")
    for name, default in [("steps", None), ("size", None), ("batch", 1), ("interval", 0)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--control")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    if options.control and not options.size:
        parser.error("--control needs --size")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    run = diffusers_run if options.side == "diffusers" else openvino_run
    with torch.inference_mode():
        seconds = run(options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"denoising": seconds, "peak_memory": peak}))


main()
