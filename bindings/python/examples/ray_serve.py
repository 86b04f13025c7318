"""OpenAI's form of asking for pictures, behind Ray Serve: `pip install "ray[serve]"`, then `serve run ray_serve:app`."""

import base64
import tempfile
import time
from pathlib import Path

import afterimage
from fastapi import FastAPI, HTTPException
from ray import serve

web = FastAPI()


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 1})  # num_gpus=1: a replica a GPU
@serve.ingress(web)
class Pictures:
    def __init__(self, model: str = "bundled") -> None:
        self.pipe = afterimage.Pipeline.load(model)

    @web.post("/v1/images/generations")
    def generations(self, asked: dict) -> dict:
        width, height = (int(side) for side in asked["size"].split("x")) if "size" in asked else (None, None)
        options = {"seed": asked.get("seed"), "num_inference_steps": asked.get("steps"), "cache": asked.get("cache")}
        try:
            result = self.pipe(asked["prompt"], num_images_per_prompt=asked.get("n"), width=width, height=height, **options)
        except (afterimage.RequestError, afterimage.PlanError) as error:
            raise HTTPException(400, {"error": {"message": str(error), "type": "invalid_request_error"}}) from error
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, f"{index}.png") for index in range(len(result))]
            for index, file in enumerate(files):
                result.save(file, index)
            data = [{"b64_json": base64.b64encode(file.read_bytes()).decode()} for file in files]
        return {"created": int(time.time()), "data": data}


app = Pictures.bind()
