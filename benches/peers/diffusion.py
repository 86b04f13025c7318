"""One Stable Diffusion run in diffusers on the CPU, or its denoiser in OpenVINO; prints JSON.

usage: diffusion.py diffusers MODEL STEPS SIZE [INTERVAL]     INTERVAL: with the DeepCache package, branch 0
       diffusion.py openvino  MODEL STEPS SIZE

Threads are OMP_NUM_THREADS; weights are widened to f32. `denoising` is the loop's seconds, without text encoder and autoencoder;
`peak_memory` is in bytes.
"""

import json
import os
import resource
import sys
import time

import torch

GUIDANCE = 7.5


def diffusers_run(model, steps, size, interval):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32, safety_checker=None, feature_extractor=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    if interval:
        from DeepCache import DeepCacheSDHelper

        helper = DeepCacheSDHelper(pipe=pipe)
        helper.set_params(cache_interval=interval, cache_branch_id=0)
        helper.enable()
    times = []
    set_timesteps = pipe.scheduler.set_timesteps

    def started(*arguments, **keywords):
        times.append(time.perf_counter())
        return set_timesteps(*arguments, **keywords)

    def ended(pipe, step, timestep, tensors):
        times.append(time.perf_counter())
        return tensors

    def run(steps, size):
        pipe(
            "a lighthouse", num_inference_steps=steps, height=size, width=size, guidance_scale=GUIDANCE, output_type="latent",
            generator=torch.Generator().manual_seed(0), callback_on_step_end=ended,
        )

    run(2, 64)  # touches every weight
    times.clear()
    pipe.scheduler.set_timesteps = started
    run(steps, size)
    return times[-1] - times[0]


def openvino_run(model, steps, size):
    import openvino
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", torch_dtype=torch.float32).eval()
    sample = torch.randn(2, 4, size // 8, size // 8)
    text = torch.randn(2, 77, unet.config.cross_attention_dim)
    inputs = {"sample": sample, "timestep": torch.tensor(500), "encoder_hidden_states": text}
    converted = openvino.convert_model(unet, example_input=inputs)
    del unet
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"])}
    compiled = openvino.compile_model(converted, "CPU", settings)
    inputs = {name: value.numpy() for name, value in inputs.items()}
    compiled(inputs)
    start = time.perf_counter()
    for _ in range(steps):
        compiled(inputs)
    return time.perf_counter() - start


def main():
    side, model, steps, size, *interval = sys.argv[1:]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with torch.inference_mode():
        if side == "diffusers":
            seconds = diffusers_run(model, int(steps), int(size), int(interval[0]) if interval else 0)
        else:
            seconds = openvino_run(model, int(steps), int(size))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"denoising": seconds, "peak_memory": peak}))


main()
