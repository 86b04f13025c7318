"""The `openai` package of PyPI against the server: every call that its images have, and its errors.

    python openai_client.py ADDRESS TOKEN
"""

import base64
import io
import sys
import unittest
import urllib.request

import openai
from PIL import Image

ADDRESS, TOKEN = sys.argv[1:3]
PROMPT = "a red circle above a blue square"
QUICK = {"steps": 4, "seed": 7}


def picture(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


def png(image: Image.Image, name: str):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return name, buffer.getvalue(), "image/png"


class Images(unittest.TestCase):
    client = openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key=TOKEN, max_retries=0)

    def generate(self, **options):
        options = {"model": "bundled", "prompt": PROMPT, "extra_body": QUICK} | options
        return self.client.images.generate(**options)

    def test_models(self):
        listed = {model.id for model in self.client.models.list()}
        self.assertIn("bundled", listed)
        self.assertEqual(self.client.models.retrieve("bundled").object, "model")

    def test_a_picture_and_the_same_again(self):
        first, again = self.generate(size="128x128"), self.generate(size="128x128")
        self.assertEqual(picture(first.data[0].b64_json).size, (128, 128))
        self.assertEqual(first.data[0].b64_json, again.data[0].b64_json)
        self.assertGreater(first.created, 1_700_000_000)
        other = self.generate(extra_body=QUICK | {"seed": 8})
        self.assertNotEqual(first.data[0].b64_json, other.data[0].b64_json)

    def test_plain_extra_fields_reach_the_recipe(self):
        body = QUICK | {"negative_prompt": "green", "cache": "deepcache:interval=2,branch=0"}
        recipe = picture(self.generate(extra_body=body).data[0].b64_json).text["recipe"]
        for part in ['"seed":7', '"steps":4', "deepcache", "green"]:
            self.assertIn(part, recipe)

    def test_several(self):
        made = self.generate(n=2)
        self.assertEqual(len({image.b64_json for image in made.data}), 2)

    def test_what_other_models_take_is_no_error(self):
        self.generate(quality="high", style="vivid", user="somebody", background="opaque", moderation="low")
        self.generate(size="auto")

    def test_formats(self):
        for name in ["jpeg", "webp", "png"]:
            made = self.generate(output_format=name)
            self.assertEqual(picture(made.data[0].b64_json).format, name.upper())

    def test_an_address(self):
        url = self.generate(response_format="url").data[0].url
        with urllib.request.urlopen(url) as answer:
            self.assertEqual(Image.open(io.BytesIO(answer.read())).size, (128, 128))

    def test_a_stream(self):
        events = list(self.generate(stream=True, partial_images=2, extra_body=QUICK | {"steps": 12}))
        partial = [event for event in events if event.type == "image_generation.partial_image"]
        self.assertEqual([event.partial_image_index for event in partial], [0, 1])
        self.assertEqual(events[-1].type, "image_generation.completed")
        for event in events:
            self.assertEqual(picture(event.b64_json).size, (128, 128))
        same = self.generate(extra_body=QUICK | {"steps": 12})
        self.assertEqual(events[-1].b64_json, same.data[0].b64_json)

    def test_edits(self):
        start = picture(self.generate().data[0].b64_json).convert("RGBA")
        mask = start.copy()
        mask.paste((0, 0, 0, 0), (0, 0, 128, 64))
        options = {"model": "bundled", "prompt": "a green star", "extra_body": QUICK | {"strength": 0.8}}
        plain = self.client.images.edit(image=png(start, "start.png"), **options)
        several = self.client.images.edit(image=[png(start, "start.png")], **options)
        self.assertEqual(plain.data[0].b64_json, several.data[0].b64_json)
        masked = self.client.images.edit(image=png(start, "start.png"), mask=png(mask, "mask.png"), **options)
        below = (8, 100, 120, 120)
        made = picture(masked.data[0].b64_json).convert("RGB").crop(below)
        kept = start.convert("RGB").crop(below)
        apart = max(abs(a - b) for a, b in zip(made.tobytes(), kept.tobytes()))
        self.assertLess(apart, 48, "what the mask keeps")

    def test_a_mask_of_another_size(self):
        start, mask = Image.new("RGB", (128, 128), "red"), Image.new("RGBA", (64, 64))
        with self.assertRaises(openai.BadRequestError) as refused:
            self.client.images.edit(model="bundled", prompt=PROMPT, image=png(start, "a.png"), mask=png(mask, "m.png"))
        self.assertIn("mask", refused.exception.message)

    def test_errors(self):
        with self.assertRaises((openai.NotFoundError, openai.BadRequestError)) as refused:
            self.generate(model="dall-e-9")
        self.assertEqual(refused.exception.code, "model_not_found")
        for options, named in [
            ({"extra_body": {"steps": 100_000}}, "steps"),
            ({"extra_body": {"seed": "seven"}}, "seed"),
            ({"size": "64000x64000"}, "size"),
            ({"size": "wide"}, "size"),
            ({"n": 10_000}, "n"),
            ({"extra_body": {"cache": "nonsense"}}, "cache"),
        ]:
            with self.subTest(named=named), self.assertRaises(openai.BadRequestError) as refused:
                self.generate(**options)
            self.assertEqual(refused.exception.param, named)

    def test_another_token(self):
        stranger = openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="open-barley", max_retries=0)
        with self.assertRaises(openai.AuthenticationError):
            stranger.models.list()


class Hasty(unittest.IsolatedAsyncioTestCase):
    async def test_a_client_that_goes_away_ends_its_picture(self):
        client = openai.AsyncOpenAI(base_url=f"{ADDRESS}/v1", api_key=TOKEN, max_retries=0)
        with self.assertRaises(openai.APITimeoutError):
            await client.with_options(timeout=0.4).images.generate(model="bundled", prompt="a white ring", extra_body={"steps": 200})
        made = await client.images.generate(model="bundled", prompt=PROMPT, extra_body=QUICK)
        self.assertEqual(picture(made.data[0].b64_json).size, (128, 128))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
