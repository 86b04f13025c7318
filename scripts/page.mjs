// The server's page in a real browser: makes a picture, compares, cancels, replays, survives a restart, asks for a token, has no fault that axe knows.
//
//     node scripts/page.mjs PROGRAM [FOLDER FOR SCREENSHOTS]      see scripts/page.sh, which installs what it needs
//
// CHROMIUM names the browser, NODE_TOOLS the folder whose node_modules has playwright-core and axe-core.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";

const tools = createRequire(path.join(process.env.NODE_TOOLS ?? ".", "package.json"));
const { chromium } = tools("playwright-core");
const axe = readFileSync(tools.resolve("axe-core/axe.min.js"), "utf8");
const [program, pictures] = process.argv.slice(2);
const port = Number(process.env.PORT ?? 7873);
const base = `http://127.0.0.1:${port}/`;
const broken = mkdtempSync(path.join(tmpdir(), "page-"));
const rule = "deepcache:interval=3,branch=0";
if (pictures) mkdirSync(pictures, { recursive: true });

let server;

const answers = () => fetch(`${base}healthz`).then((answer) => answer.status < 500, () => false);

async function start(env = {}) {
  server = spawn(program, ["serve", "--port", String(port), "--max-steps", "1000"], { env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "inherit"] });
  for (let tries = 0; tries < 200; tries += 1) {
    if (await answers()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the server does not start");
}

async function stop(signal = "SIGTERM") {
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill(signal);
  await ended;
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

/** A page that fails the test for any fault of its own, and for a request to anywhere else. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, ...options });
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(error.stack));
  page.on("console", (message) => /Content Security Policy|violates/.test(message.text()) && page.faults.push(message.text()));
  page.on("request", (request) => /^(blob|data):/.test(request.url()) || request.url().startsWith(base) || page.faults.push(request.url()));
  await page.goto(base);
  return page;
}

async function close(page) {
  assert.deepEqual(page.faults, []);
  await page.context().close();
}

async function ask(page, prompt, { rule: named = "none", seed = 7, steps = 24 } = {}) {
  await page.fill("#prompt", prompt);
  const listed = await page.$$eval("#rule option", (options) => options.map((option) => option.value));
  await page.selectOption("#rule", listed.includes(named) ? named : "…");
  if (!listed.includes(named)) await page.fill("#own-rule", named);
  await page.fill("#seed", String(seed));
  await page.fill("#steps", String(steps));
}

async function make(page, prompt, options) {
  await ask(page, prompt, options);
  await page.click("#make");
}

const up = (page) => page.waitForSelector("#link.up");
const rows = (page) => page.locator("#queue li");
const shelf = (page) => page.locator("#gallery li");
const text = (page, selector) => page.locator(selector).textContent();
const says = (page, selector, words) => page.waitForFunction(
  ([one, what]) => document.querySelector(one)?.textContent.includes(what), [selector, words]);

const count = (page, selector, number) => page.waitForFunction(
  ([one, many]) => document.querySelectorAll(one).length === many, [selector, number]);

/** Nothing that axe finds, in whatever state the page is. */
async function accessible(page) {
  await page.waitForTimeout(250);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), []);
}

/** A screenshot as WebP, which the browser itself makes of it. */
async function photograph(page, name) {
  if (!pictures) return;
  await page.mouse.move(0, 0);
  await page.waitForTimeout(400);
  const png = (await page.screenshot()).toString("base64");
  const desk = await browser.newPage();
  const webp = await desk.evaluate(async (data) => {
    const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${data}`)).blob());
    const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    return canvas.toDataURL("image/webp", 0.88).split(",")[1];
  }, png);
  await desk.close();
  writeFileSync(path.join(pictures, `${name}.webp`), Buffer.from(webp, "base64"));
}

const tests = {
  async "it is small, and needs nothing from elsewhere"() {
    const folder = new URL("../src/serve/page/", import.meta.url);
    const size = readdirSync(folder).reduce((sum, name) => sum + statSync(new URL(name, folder)).size, 0);
    assert.ok(size < 60_000, `${size} bytes`);
    const policy = (await fetch(base)).headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*/);
  },

  async "the forecast follows the rule"(page) {
    await ask(page, "a red circle above a blue square", { rule });
    await says(page, "#forecast p", "times as fast");
    assert.equal(await page.locator("#forecast .score i").count(), 24);
    assert.equal(await page.locator("#forecast .score i:not(.reuse)").count(), 8);
    await ask(page, "a red circle", { rule: "deepcache:interval=0" });
    await page.waitForSelector("#forecast.bad");
    await accessible(page);
  },

  async "it makes a picture, and shows it on the way"(page) {
    await make(page, "a red circle above a blue square", { rule, seed: 7, steps: 24 });
    await page.waitForSelector("#easel.soft #picture");
    await shelf(page).first().waitFor();
    await says(page, "#details", rule.split(":")[0]);
    await says(page, "#said", "Done");
    await count(page, "#queue li", 0);
    await accessible(page);
  },

  async "it is set beside the plain run, by the keyboard too"(page) {
    await page.click("[data-deed=compare]");
    await page.waitForSelector("#split:not([hidden])");
    await says(page, "#likeness", "PSNR");
    await page.focus("#share");
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.locator("#easel").evaluate((easel) => easel.style.getPropertyValue("--share")), "51%");
    await page.locator("#easel").click({ position: { x: 40, y: 90 } });
    assert.ok(Number(await page.locator("#share").inputValue()) < 20);
    await page.fill("#share", "50");
    await accessible(page);
    await photograph(page, "page");
  },

  async "a replay gives the same bytes"(page) {
    const before = await shelf(page).count();
    await page.click("[data-deed=replay]");
    await says(page, "#details", "the same bytes");
    assert.equal(await shelf(page).count(), before);
  },

  async "picture and recipe are saved"(page) {
    const [picture] = await Promise.all([page.waitForEvent("download"), page.click("[data-deed=picture]")]);
    assert.match(picture.suggestedFilename(), /^afterimage-7\.png$/);
    assert.ok(readFileSync(await picture.path()).includes('"prompts":["a red circle above a blue square"]'));
    const [recipe] = await Promise.all([page.waitForEvent("download"), page.click("[data-deed=recipe]")]);
    assert.equal(JSON.parse(readFileSync(await recipe.path(), "utf8")).seed, 7);
  },

  async "one is cancelled while it runs, one while it waits, and nobody else"(page) {
    for (const prompt of ["a green star", "a blue star", "a white star", "a yellow star"]) await make(page, prompt, { steps: 400 });
    await count(page, "#queue li", 4);
    await page.waitForFunction(() => /step [1-9]/.test(document.querySelector("#queue li")?.textContent));
    const ids = await rows(page).evaluateAll((lines) => lines.map((line) => line.dataset.id));
    const cancel = (at) => page.locator(`[data-id="${ids[at]}"]`).getByRole("button", { name: "Cancel" }).click();
    const is = (at, state) => page.waitForSelector(`[data-id="${ids[at]}"][data-state=${state}]`);
    await cancel(1);
    await is(1, "cancelled");
    await is(0, "running");
    await cancel(0);
    await is(0, "cancelled");
    await is(2, "running");
    await page.getByRole("button", { name: "a white star", exact: true }).click();
    await page.waitForSelector("#easel.soft #picture");
    await accessible(page);
    await photograph(page, "page-queue");
    await cancel(3);
    await is(3, "cancelled");
    await cancel(2);
    await is(2, "cancelled");
    for (let left = 4; left > 0; left -= 1) await page.getByRole("button", { name: "Take off the list" }).first().click();
    await count(page, "#queue li", 0);
  },

  async "it survives a restart of the server, and says so"(page) {
    const before = await shelf(page).count();
    await make(page, "a purple ring on a yellow background", { steps: 60 });
    await page.waitForFunction(() => /step [1-9]/.test(document.querySelector("#queue li")?.textContent));
    await stop("SIGKILL");
    await page.waitForSelector("#link.down");
    await says(page, "#notice", "does not answer");
    assert.ok(await page.locator("#make").isDisabled());
    await accessible(page);
    let lose = true; // the first stream that the new server would answer
    await page.route("**/v1/events", async (route) => {
      if (!lose || !(await answers())) return route.continue();
      lose = false;
      await route.abort();
    });
    await start();
    await up(page);
    await says(page, "#notice", "started again");
    assert.ok(!lose);
    await page.waitForSelector("[data-state=lost]");
    await accessible(page);
    assert.equal(await shelf(page).count(), before);
    await page.getByRole("button", { name: "Again" }).click();
    await count(page, "#gallery li", before + 1);
  },

  async "a reload keeps the gallery and the form"(page) {
    const before = await shelf(page).count();
    await page.reload();
    await up(page);
    await shelf(page).nth(before - 1).waitFor();
    assert.equal(await page.inputValue("#prompt"), "a purple ring on a yellow background");
    await shelf(page).first().getByRole("button").focus();
    await page.keyboard.press("ArrowRight");
    await page.waitForFunction(() => document.querySelector("#gallery li:nth-child(2) [aria-current=true]"));
  },

  async "the keyboard alone makes a picture"(page) {
    const before = await shelf(page).count();
    await page.reload();
    await up(page);
    await page.fill("#steps", "6");
    await page.focus("#prompt");
    await page.keyboard.press("Control+A");
    await page.keyboard.type("an orange cross");
    await page.keyboard.press("Control+Enter");
    await says(page, "#said", "Done: an orange cross");
    await count(page, "#gallery li", before + 1);
  },

  async "what is refused is said beside the button"(page) {
    await make(page, "a red circle", { rule: "nonsense" });
    await says(page, "#fault", "nonsense");
    await accessible(page);
  },
};

async function looks() {
  const kinds = { "page-dark": { colorScheme: "dark" }, "page-narrow": { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true } };
  for (const [at, [name, options]] of Object.entries(kinds).entries()) {
    const page = await open(options);
    await up(page);
    await make(page, "a yellow star to the left of a purple ring", { rule, seed: 3 + at, steps: 15 });
    await says(page, "#said", "Done");
    await page.click("[data-deed=compare]");
    await says(page, "#likeness", "PSNR");
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${name} is ${wide} pixels too wide`);
    await accessible(page);
    if (name === "page-narrow") await page.locator("#stage").scrollIntoViewIfNeeded();
    await photograph(page, name);
    await close(page);
  }
}

async function token() {
  await start({ AFTERIMAGE_TOKEN: "open-sesame" });
  const page = await open();
  await page.waitForSelector("#door[open]");
  await accessible(page);
  await page.fill("#token", "open-barley");
  await page.keyboard.press("Enter");
  await says(page, "#door-note", "does not know");
  await page.fill("#token", "open-sesame");
  await page.keyboard.press("Enter");
  await up(page);
  await make(page, "a red star", { steps: 4 });
  await shelf(page).first().waitFor();
  await close(page);
  await stop();
}

async function step(name, act, page) {
  const began = performance.now();
  try {
    await act();
    console.log(`ok    ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    console.log(`FAILED ${name}`);
    if (page) await page.screenshot({ path: path.join(broken, "failed.png"), fullPage: true }).then(() => console.log(`see ${broken}/failed.png`));
    throw error;
  }
}

try {
  await start();
  const page = await open();
  page.setDefaultTimeout(180_000);
  await up(page);
  await step("nothing yet", () => accessible(page), page);
  for (const [name, test] of Object.entries(tests)) await step(name, () => test(page), page);
  await close(page);
  await step("dark, and narrow", looks);
  await stop();
  await step("a token is asked for", token);
} finally {
  server?.kill("SIGKILL");
  await browser.close();
}
