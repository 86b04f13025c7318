"""Publishes a diffusers folder: fp16 safetensors with a plain header, file by file atomically."""

import json
import os
import shutil

from safetensors.torch import load_file, save_file


def publish(temp, out, prefix=lambda path: ""):
    """Moves the files of `temp` to `out`; `prefix(path)` is put before tensor names.  Returns bytes."""
    total = 0
    for root, _, files in os.walk(temp):
        for name in files:
            path = os.path.join(root, name)
            if name.endswith(".safetensors"):        # same tensors, plain header, half everywhere
                pre = prefix(path)
                save_file({pre + k.removeprefix(pre): v.half().contiguous() for k, v in load_file(path).items()},
                          path, {"format": "pt"})
            elif name == "config.json":              # no traces of folders of the training machine
                c = {k: v for k, v in json.load(open(path)).items() if k not in ("_name_or_path",)}
                json.dump(c, open(path, "w"), indent=2, sort_keys=True)
            target = os.path.join(out, os.path.relpath(path, temp))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.chmod(path, 0o644)
            total += os.path.getsize(path)
            os.replace(path, target)
    shutil.rmtree(temp)
    return total
