"""A model's denoising loop in diffusers, or a Stable Diffusion's denoiser in OpenVINO or ONNX Runtime on the CPU; prints JSON.

usage: diffusion.py diffusers MODEL --steps N [--size N] [--batch N] [--interval N] [--guidance G] [--control DIR] [--device D] [--dtype T]
                    [--compile] [--decode]
       diffusion.py openvino|onnxruntime EXPORTED --steps N --size N [--dtype f32] [--decode] [--rows N] [--text-width N]
       EXPORTED: a folder of exported.py, of so many rows, for text states of that width
       --interval: with the DeepCache package, branch 0
       --control: with this ControlNet, on a white picture; needs --size
       --dtype: of OpenVINO f32, or nothing for what it chooses itself; it is in the answer
       --decode: one picture's latents besides

Threads are OMP_NUM_THREADS. `denoising` is the loop's seconds, without text encoder and autoencoder, `decoding` the autoencoder's;
`peak_memory` is in bytes of main memory.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

DTYPES = ["f32", "tf32", "f16", "bf16"]
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))

Answer = dict[str, Any]
Inputs = dict[str, np.ndarray]
Model = Callable[[Inputs], object]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def diffusers_run(options: argparse.Namespace) -> Answer:
    import torch
    from pipelines import compiled, deepcache, open_pipeline

    torch.set_num_threads(THREADS)
    tf32 = options.dtype == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    dtypes = {"f16": torch.float16, "bf16": torch.bfloat16}
    device, dtype = torch.device(options.device), dtypes.get(options.dtype, torch.float32)
    with torch.inference_mode():
        pipeline = open_pipeline(options.model, device, dtype, options.control)
        if options.interval:
            deepcache(pipeline, options.interval)
        if options.compile:
            compiled(pipeline)
        call = {"steps": options.steps, "size": options.size, "batch": options.batch, "guidance": options.guidance}
        # Touches every weight; at the full size where kernels are chosen by it.
        small = device.type == "cpu" and not options.compile and options.size
        pipeline.denoising(call | {"steps": 2} | ({"size": 64} if small else {}))
        answer = {"denoising": pipeline.denoising(call), "precision": options.dtype or "f32"}
        if options.decode:
            side = options.size // 8
            latents = torch.randn(1, 4, side, side, dtype=dtype)
            pipeline.pipe.vae.decode(latents[..., :8, :8])
            answer["decoding"] = seconds(lambda: pipeline.pipe.vae.decode(latents))
    return answer


def openvino_model(file: pathlib.Path, dtype: str | None) -> tuple[Model, str]:
    """And the type that it computes in."""
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": dtype} if dtype else {}
    model = openvino.Core().compile_model(file.with_suffix(".xml"), "CPU", hint | {"INFERENCE_NUM_THREADS": THREADS})
    return model, model.get_property("INFERENCE_PRECISION_HINT").get_type_name()


def onnx_model(file: pathlib.Path, dtype: str | None) -> tuple[Model, str]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(file.with_suffix(".onnx"), settings, providers=["CPUExecutionProvider"])
    return functools.partial(session.run, None), "f32"


def exported_run(options: argparse.Namespace) -> Answer:
    """Every step on the same numbers, guidance and sampler left out: they take no time that could be seen."""
    made = openvino_model if options.side == "openvino" else onnx_model
    folder, side, normals = pathlib.Path(options.model), options.size // 8, np.random.default_rng(0).standard_normal
    rows = options.rows
    sample, text = normals((rows, 4, side, side), dtype=np.float32), normals((rows, 77, options.text_width), dtype=np.float32)
    inputs = {"sample": sample, "timestep": np.array(500, dtype=np.int64), "encoder_hidden_states": text}
    model, precision = made(folder / f"unet-{options.size}", options.dtype)
    model(inputs)
    answer = {"denoising": seconds(lambda: [model(inputs) for _ in range(options.steps)]), "precision": precision}
    if options.decode:
        del model
        model, _ = made(folder / f"decoder-{options.size}", options.dtype)
        latents = {"latents": sample[:1]}
        model(latents)
        answer["decoding"] = seconds(lambda: model(latents))
    return answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["diffusers", "openvino", "onnxruntime"])
    parser.add_argument("model")
    for name, default in [("steps", None), ("size", None), ("batch", 1), ("interval", 0), ("rows", 2), ("text-width", 768)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--control")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--decode", action="store_true")
    options = parser.parse_args()
    if not options.size and (options.control or options.decode or options.side != "diffusers"):
        parser.error("--size is needed")
    answer = diffusers_run(options) if options.side == "diffusers" else exported_run(options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(answer | {"peak_memory": peak}))


main()
