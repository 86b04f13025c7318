// The `openai` package of npm against the server.
//
//     node openai_client.mjs ADDRESS TOKEN      NODE_TOOLS names the folder whose node_modules has it

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";

const tools = createRequire(path.join(process.env.NODE_TOOLS ?? ".", "package.json"));
const { default: OpenAI, toFile } = tools("openai");
const [address, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey, maxRetries: 0 });
const quick = { model: "bundled", prompt: "a red circle above a blue square", steps: 4, seed: 7 };
const bytes = (text) => Buffer.from(text, "base64");

test("models", async () => {
  const { data } = await client.models.list();
  assert.ok(data.some((model) => model.id === "bundled"));
});

test("a picture, and the same again", async () => {
  const [first, again] = [await client.images.generate(quick), await client.images.generate(quick)];
  assert.equal(bytes(first.data[0].b64_json).subarray(1, 4).toString(), "PNG");
  assert.equal(first.data[0].b64_json, again.data[0].b64_json);
});

test("a stream", async () => {
  const kinds = [];
  let last;
  for await (const event of await client.images.generate({ ...quick, steps: 12, stream: true, partial_images: 2 })) {
    kinds.push(event.type);
    last = event;
  }
  const partial = "image_generation.partial_image";
  assert.deepEqual(kinds, [partial, partial, "image_generation.completed"]);
  assert.equal(bytes(last.b64_json).subarray(1, 4).toString(), "PNG");
});

test("an edit", async () => {
  const { data } = await client.images.generate(quick);
  const image = await toFile(bytes(data[0].b64_json), "start.png", { type: "image/png" });
  const made = await client.images.edit({ model: "bundled", prompt: "a green star", image, steps: 4, seed: 7, strength: 0.8 });
  assert.notEqual(made.data[0].b64_json, data[0].b64_json);
  const listed = await client.images.edit({ model: "bundled", prompt: "a green star", image: [image], steps: 4, seed: 7, strength: 0.8 });
  assert.equal(listed.data[0].b64_json, made.data[0].b64_json);
});

test("errors", async () => {
  await assert.rejects(client.images.generate({ ...quick, steps: 100000 }), (error) => error instanceof OpenAI.BadRequestError && error.param === "steps");
  await assert.rejects(client.images.generate({ ...quick, model: "dall-e-9" }), (error) => error.code === "model_not_found");
  const stranger = new OpenAI({ baseURL: `${address}/v1`, apiKey: "open-barley", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});

test("a stream that is left", async () => {
  const stream = await client.images.generate({ ...quick, steps: 200, stream: true, partial_images: 3 });
  for await (const event of stream) {
    assert.equal(event.type, "image_generation.partial_image");
    break;
  }
  await client.images.generate(quick);
});
