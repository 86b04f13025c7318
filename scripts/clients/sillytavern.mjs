// SillyTavern against the server: its own routes for pictures, from the package of npm, called as its browser half calls them.
//
//     node sillytavern.mjs ADDRESS TOKEN      NODE_TOOLS names the folder whose node_modules has it

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import path from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";

const tools = createRequire(path.join(process.env.NODE_TOOLS ?? ".", "package.json"));
const home = path.join(process.env.NODE_TOOLS ?? ".", "node_modules/sillytavern");
const its = (file) => import(pathToFileURL(path.join(home, file)).href);
const [address, token] = process.argv.slice(2);

const { setConfigFilePath } = await its("src/util.js");
setConfigFilePath(path.join(home, "default/config.yaml"));
const { router } = await its("src/endpoints/stable-diffusion.js");
const express = tools("express");
const tavern = express().use(express.json({ limit: "50mb" })).use("/api/sd", router).listen(0, "127.0.0.1");
await once(tavern, "listening");
after(() => tavern.close());
console.debug = () => {};

const server = { url: address, auth: `tavern:${token}` };

async function call(route, body = {}, signal) {
  const url = `http://127.0.0.1:${tavern.address().port}/api/sd/${route}`;
  const answer = await fetch(url, { method: "POST", signal, headers: { "content-type": "application/json" }, body: JSON.stringify({ ...server, ...body }) });
  assert.equal(answer.status, 200, route);
  return answer.headers.get("content-type")?.includes("json") ? answer.json() : answer.text();
}

const ask = {
  prompt: "a red circle above a blue square", negative_prompt: "green", sampler_name: "Euler a", scheduler: "automatic", steps: 4, cfg_scale: 4, width: 128, height: 128,
  restore_faces: false, enable_hr: false, hr_upscaler: "Latent", hr_scale: 2, hr_additional_modules: [], denoising_strength: 0.7, hr_second_pass_steps: 0, seed: 7,
  override_settings: { CLIP_stop_at_last_layers: 1, forge_additional_modules: [] }, override_settings_restore_afterwards: true, clip_skip: 1,
  save_images: true, send_images: true, do_not_save_grid: false, do_not_save_samples: false,
};

async function jobs(state) {
  const answer = await fetch(`${address}/v1/jobs?state=${state}&limit=200`, { headers: { authorization: `Bearer ${token}` } });
  return (await answer.json()).jobs.length;
}

/** Pictures of its interface that were stopped. */
async function stopped() {
  const text = await (await fetch(`${address}/metrics`, { headers: { authorization: `Bearer ${token}` } })).text();
  return Number(/jobs_total\{interface="sdapi",state="cancelled"\} (\d+)/.exec(text)?.[1] ?? 0);
}

async function until(true_) {
  for (let tries = 0; tries < 400; tries += 1) {
    if (await true_()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.fail("it does not come to that");
}

test("it connects, and fills its lists", async () => {
  await call("ping");
  for (const route of ["samplers", "schedulers", "models"]) assert.ok((await call(route)).length, route);
  for (const route of ["upscalers", "vaes"]) assert.ok(Array.isArray(await call(route)), route);
  assert.ok((await call("samplers")).includes("Euler a"));
});

test("it picks a model", async () => {
  const { value } = (await call("models")).find((model) => model.value.includes("bundled"));
  await call("set-model", { model: value });
  assert.equal(await call("get-model"), value);
});

test("it makes a picture, and the same again", async () => {
  const [first, again] = [await call("generate", ask), await call("generate", ask)];
  assert.equal(Buffer.from(first.images[0], "base64").subarray(1, 4).toString(), "PNG");
  assert.equal(first.images[0], again.images[0]);
});

test("its stop button stops the picture, and the next is made", async () => {
  const before = await stopped();
  const button = new AbortController();
  const long = call("generate", { ...ask, steps: 200 }, button.signal);
  long.catch(() => null);
  await until(async () => (await jobs("running")) > 0);
  button.abort();
  await assert.rejects(long, { name: "AbortError" });
  await until(async () => (await jobs("running")) === 0 && (await stopped()) === before + 1);
  assert.ok((await call("generate", ask)).images[0]);
});

test("a wrong password is told", async () => {
  const answer = await fetch(`${address}/sdapi/v1/options`, { headers: { authorization: `Basic ${btoa("tavern:open-barley")}` } });
  assert.equal(answer.status, 401);
});
