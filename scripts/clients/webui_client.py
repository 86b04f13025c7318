"""The `webuiapi` package of PyPI against the server's `/sdapi/v1`.

    python webui_client.py HOST PORT TOKEN [CONTROLNET]
"""

import json
import sys
import threading
import time
import unittest

import webuiapi
from PIL import Image, ImageDraw

HOST, PORT, TOKEN = sys.argv[1:4]
NET = sys.argv[4] if len(sys.argv) > 4 else None
PROMPT = "a red circle above a blue square"
QUICK = {"prompt": PROMPT, "seed": 7, "steps": 4, "cfg_scale": 4, "width": 128, "height": 128}


class WebUi(unittest.TestCase):
    api = webuiapi.WebUIApi(host=HOST, port=int(PORT), username="anybody", password=TOKEN)

    def test_a_picture(self):
        made = self.api.txt2img(**QUICK)
        self.assertEqual(made.image.size, (128, 128))
        self.assertEqual((made.info["seed"], made.info["steps"]), (7, 4))
        self.assertEqual(made.parameters["prompt"], PROMPT)
        again = self.api.txt2img(**QUICK)
        self.assertEqual(made.image.tobytes(), again.image.tobytes())

    def test_a_random_seed_is_told(self):
        made = self.api.txt2img(**QUICK | {"seed": -1})
        again = self.api.txt2img(**QUICK | {"seed": made.info["seed"]})
        self.assertEqual(made.image.tobytes(), again.image.tobytes())

    def test_batches(self):
        made = self.api.txt2img(**QUICK, batch_size=2, n_iter=2)
        pictures = [image for image in made.images if image.size == (128, 128)]
        self.assertEqual(len({image.tobytes() for image in pictures}), 4)
        self.assertEqual(len(made.info["all_seeds"]), 4)

    def test_samplers_and_schedulers(self):
        samplers, schedulers = self.api.util_get_sampler_names(), self.api.util_get_scheduler_names()
        self.assertIn("Euler a", samplers)
        for sampler, scheduler in [("Euler a", "automatic"), ("DDIM", "automatic"), ("Euler", "karras"), ("DPM++ 2M", "karras")]:
            with self.subTest(sampler=sampler, scheduler=scheduler):
                self.assertEqual(self.api.txt2img(**QUICK, sampler_name=sampler, scheduler=scheduler).image.size, (128, 128))
        self.assertIn("karras", [scheduler.lower() for scheduler in schedulers])

    def test_a_picture_from_a_picture(self):
        start = self.api.txt2img(**QUICK).image
        options = QUICK | {"prompt": "a green star", "steps": 8}
        made = self.api.img2img(images=[start], denoising_strength=0.6, **options)
        self.assertNotEqual(made.image.tobytes(), start.tobytes())
        mask = Image.new("L", (128, 128), 0)
        ImageDraw.Draw(mask).rectangle((0, 0, 127, 63), fill=255)
        painted = self.api.img2img(images=[start], mask_image=mask, inpainting_fill=1, mask_blur=0, inpaint_full_res=False, denoising_strength=0.9, **options)
        below = (8, 100, 120, 120)
        apart = max(abs(a - b) for a, b in zip(painted.image.convert("RGB").crop(below).tobytes(), start.convert("RGB").crop(below).tobytes()))
        self.assertLess(apart, 48, "what the mask keeps")

    @unittest.skipUnless(NET, "no ControlNet named")
    def test_a_controlnet_as_its_extension_sends_it(self):
        self.assertIn(NET, " ".join(self.api.controlnet_model_list()))
        lines = Image.new("RGB", (128, 128), "black")
        ImageDraw.Draw(lines).ellipse((30, 30, 98, 98), outline="white", width=3)
        unit = webuiapi.ControlNetUnit(image=lines, module="none", model=NET, weight=1.0)
        # Units are put into `alwayson_scripts`, whose default the package shares between calls.
        made = self.api.txt2img(**QUICK, controlnet_units=[unit], alwayson_scripts={})
        plain = self.api.txt2img(**QUICK, alwayson_scripts={})
        self.assertTrue(made.images[0].tobytes() != plain.image.tobytes(), "the net changes nothing")

    def test_lists(self):
        self.assertTrue(self.api.util_get_model_names())
        for listed in [self.api.get_upscalers(), self.api.get_latent_upscale_modes(), self.api.get_sd_vae(), self.api.get_loras()]:
            self.assertIsInstance(listed, list)
        self.assertIn("loaded", self.api.get_embeddings())

    def test_the_model_is_an_option(self):
        name = next(name for name in self.api.util_get_model_names() if "bundled" in name)
        self.api.util_set_model(name, find_closest=False)
        self.assertEqual(self.api.util_get_current_model(), name)

    def test_the_recipe_comes_back_from_the_picture(self):
        info = self.api.png_info(self.api.txt2img(**QUICK).image)
        self.assertIn(PROMPT, info.info)

    def test_progress_and_interrupt(self):
        made = []
        thread = threading.Thread(target=lambda: made.append(self.api.txt2img(**QUICK | {"steps": 200})))
        thread.start()
        seen = self.until(lambda told: told["state"]["sampling_step"] > 0)
        self.assertEqual(seen["state"]["sampling_steps"], 200)
        self.assertGreater(seen["progress"], 0)
        self.assertEqual(seen["state"]["job_count"], 1)
        self.api.interrupt()
        began = time.monotonic()
        thread.join(20)
        self.assertFalse(thread.is_alive())
        self.assertLess(time.monotonic() - began, 5)
        self.until(lambda told: told["progress"] == 0 and told["state"]["job_count"] == 0)

    def until(self, true):
        for _ in range(3000):
            told = self.api.get_progress()
            if true(told):
                return told
            time.sleep(0.02)
        self.fail(json.dumps(told))

    def test_what_is_refused_is_a_4xx(self):
        for options in [{"steps": 100_000}, {"width": 64_000}, {"seed": "seven"}, {"sampler_name": "Nonsense"}]:
            with self.subTest(**options), self.assertRaises(RuntimeError) as refused:
                self.api.txt2img(**QUICK | options)
            self.assertIn(refused.exception.args[0] // 100, [4])

    def test_a_wrong_password(self):
        stranger = webuiapi.WebUIApi(host=HOST, port=int(PORT), username="anybody", password="open-barley")
        with self.assertRaises(RuntimeError) as refused:
            stranger.txt2img(**QUICK)
        self.assertEqual(refused.exception.args[0], 401)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[5:], verbosity=2)
