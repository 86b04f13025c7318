"""A notebook in cells: a picture, the same cached, how much that changed, and what it spared. Needs Pillow.

    python examples/pictures.py [FOLDER]
"""

# %% a model
import sys
from pathlib import Path

import afterimage
import numpy as np

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
pipe = afterimage.Pipeline.load("bundled", device="cpu")
prompt = "a red circle above a blue square"

# %% the plain run
plain = pipe(prompt, seed=7, num_inference_steps=30)
plain.save(folder / "plain.png")

# %% the same seed, with two of three steps reusing what the third has computed
cached = pipe(recipe=plain.recipe, cache="deepcache:interval=3,branch=0,forecast=linear")
cached.save(folder / "cached.png")

# %% how far apart they are, before rounding
error = np.mean((plain.values - cached.values) ** 2)
print(f"{-10 * np.log10(error):.1f} dB apart")

# %% what was spared
cells = [result.report["models"][0]["cells"] for result in (plain, cached)]
print(f"{cells[0]} cells became {cells[1]}")
