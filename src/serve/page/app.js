// The page: wires the form, the stage, the queue and the gallery to the server's jobs.

import * as api from "./api.js";
import * as ask from "./ask.js";
import * as shelf from "./shelf.js";
import * as stage from "./stage.js";
import { Jobs } from "./jobs.js";

const part = (id) => document.getElementById(id);
const jobs = new Jobs();
/** Pictures by key, the newest first. */
let pictures = new Map();
/** What the stage shows: `{job}` or `{key}`. */
let shown = {};

const say = (text) => (part("said").textContent = text);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const button = (text, label, act, className = "quiet") => {
  const one = make("button", { type: "button", textContent: text, className, onclick: act });
  if (label) one.setAttribute("aria-label", label);
  return one;
};

// Sending and stopping

/** Does something with the server, and says what was refused. */
async function attempt(act) {
  part("fault").textContent = "";
  try {
    return await act();
  } catch (error) {
    if (error.status === 401) open();
    const text = error instanceof api.Unreachable ? "The server does not answer." : error.text ?? error.message;
    part("fault").textContent = text;
    return null;
  }
}

/** Sends a request; unless it is `aside`, the stage follows it. */
async function send(request, extra = {}) {
  const entry = await attempt(() => jobs.send(request, extra));
  if (!entry) return;
  say("Sent.");
  if (!extra.aside) shown = { job: entry.job.id };
  for (const warning of entry.job.warnings ?? []) notice(warning, false);
  render();
}

const again = (item, recipe, extra) => send({ recipe, files: item.files, preview_every: Math.max(1, Math.round((recipe.steps ?? 24) / 8)) }, extra);

const deeds = {
  compare: (item) => {
    part("stage").focus({ preventScroll: true });
    return again(item, shelf.plainly(item.recipe), { aside: item.key });
  },
  replay: (item) => again(item, item.recipe, { replays: item.key }),
  use: (item) => {
    ask.use(item.recipe, item.files);
    part("prompt").focus();
  },
  picture: (item) => save(item.blob, `${stem(item)}.${item.blob.type.split("/")[1]}`),
  recipe: (item) => save(new Blob([`${api.write(item.recipe, 2)}\n`], { type: "application/json" }), `${stem(item)}.json`),
  forget: async (item) => {
    await drop(item);
    const others = [...pictures.values()].some(({ job }) => job === item.job);
    if (!others) await api.stop(item.job).catch(() => null);
    say("Removed.");
    part("stage").focus();
  },
};

const stem = ({ recipe }) => `afterimage-${[recipe.seed ?? 0].flat()[0]}`;

function save(blob, name) {
  const href = URL.createObjectURL(blob);
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

// The gallery

function hold(item) {
  const address = pictures.get(item.key)?.address ?? URL.createObjectURL(item.blob);
  pictures = new Map([...pictures, [item.key, { ...item, address }]].sort(([, a], [, b]) => b.made - a.made));
}

async function drop({ key }) {
  await shelf.drop(key);
  URL.revokeObjectURL(pictures.get(key)?.address);
  pictures.delete(key);
  if (shown.key === key) shown = { key: pictures.keys().next().value };
  render();
}

/** Brings a done job's pictures home; answers the key of the one to show. A replay that gave the same bytes is not kept twice. */
async function bring({ job, request, replays }) {
  const { id, seconds, work, finished: made } = job;
  for (const [at, image] of job.images.entries()) {
    const key = `${id}.${at}`;
    if (pictures.has(key)) continue;
    const blob = await api.picture(image.url);
    const item = { key, job: id, blob, recipe: image.recipe ?? job.recipe, seconds, work, made, files: request?.files };
    const before = pictures.get(replays);
    if (before && await shelf.same(before.blob, blob)) {
      before.word = "Replayed: the same bytes.";
      await api.stop(id);
      return replays;
    }
    if (before) item.word = "Replayed: other bytes than before.";
    for (const gone of await shelf.keep(item).catch(() => [])) pictures.delete(gone);
    hold(item);
  }
  return `${id}.0`;
}

async function finished({ detail: entry }) {
  const { job } = entry;
  if (job.state !== "done") {
    if (job.state === "failed") say(`Failed: ${job.error?.message}`);
    if (job.state === "cancelled") say("Cancelled.");
    // What another program asked for is its own affair.
    if (!entry.request && shown.job !== job.id) jobs.dismiss(entry);
    return;
  }
  try {
    const first = await bring(entry);
    jobs.dismiss(entry);
    say(`Done: ${stage.title(job.recipe)}, ${job.seconds.total.toFixed(1)} seconds.`);
    if (shown.job === job.id || !(shown.job || shown.key)) shown = { key: first };
  } catch {
    // Other programs' pictures go with the answer that they wait for.
    if (!entry.request) return jobs.dismiss(entry);
    notice("A picture is done, but could not be fetched. Reload the page to try again.", false);
  }
  render();
}

/** Looks for what was made while the page was away. */
async function collect() {
  for (const job of await api.done()) await bring({ job }).catch(() => null);
  render();
}

// What is to be seen

let due = false;
function render() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    renderQueue();
    renderGallery();
    renderStage();
    const running = jobs.live().find(({ job }) => job.state === "running" && job.steps);
    document.title = running ? `${Math.round(100 * running.job.step / running.job.steps)} % · Afterimage` : "Afterimage";
  });
}

let hung = "";
function renderStage() {
  const entry = jobs.all.get(shown.job);
  const item = pictures.get(shown.key);
  if (entry || !item) hung = "";
  if (entry) return stage.job(entry);
  if (!item) return stage.empty();
  const plain = shelf.rule(item.recipe) ? [...pictures.values()].find((other) => !shelf.rule(other.recipe) && shelf.akin(item.recipe, other.recipe)) : null;
  const making = jobs.live().some(({ aside }) => aside === item.key);
  const now = [item.key, item.word, plain?.key, making].join();
  if (now !== hung) stage.picture(item, plain, making);
  hung = now;
}

function how({ job, lost }) {
  if (lost) return "lost in a restart of the server";
  if (job.state === "queued") return job.position ? `waits, ${job.position} in front` : "is next";
  if (job.state === "failed") return `failed: ${job.error?.message}`;
  if (job.state === "cancelled") return "cancelled";
  if (job.state === "done") return "done";
  return { loading: "reads the model", encoding: "writes the picture" }[job.phase] ?? `step ${job.step} of ${job.steps || "…"}`;
}

const lines = new Map();

/** The line of a job. It stays the same element while the job's state does: a button that is being pressed must not be replaced. */
function row(entry) {
  const { job, lost } = entry;
  const state = lost ? "lost" : job.state;
  const before = lines.get(job.id);
  const line = before?.dataset.state === state ? before : draft(entry, state);
  lines.set(job.id, line);
  const bar = line.querySelector("progress");
  line.querySelector(".how").textContent = how(entry);
  Object.assign(bar, { max: job.steps || 1, value: job.step, hidden: state !== "running" });
  return line;
}

function draft(entry, state) {
  const { job, request } = entry;
  const name = stage.title(job.recipe);
  const live = ["queued", "running"].includes(state);
  const ends = make("div");
  if (live) ends.append(button("Cancel", `Cancel: ${name}`, () => attempt(() => jobs.stop(entry))));
  else ends.append(
    button("Again", `Again: ${name}`, () => (jobs.dismiss(entry), again({ files: request?.files }, job.recipe))),
    button("×", `Take off the list: ${name}`, () => jobs.dismiss(entry)));
  const what = button(name, null, () => ((shown = { job: job.id }), render()), "what");
  const bar = make("progress");
  bar.setAttribute("aria-label", `Progress: ${name}`);
  const line = make("li", {}, what, make("p", { className: live ? "how" : "how bad" }), bar, ends);
  Object.assign(line.dataset, { id: job.id, state });
  return line;
}

/** Puts `items` into `list` where they are not there already, and the focus back where it was. */
function refill(list, items) {
  if (items.length === list.children.length && items.every((item, at) => item === list.children[at])) return;
  const at = [...list.querySelectorAll("button")].indexOf(document.activeElement);
  list.replaceChildren(...items);
  const buttons = list.querySelectorAll("button");
  if (at >= 0) (buttons[Math.min(at, buttons.length - 1)] ?? part("stage")).focus();
}

function renderQueue() {
  const order = (entry) => [entry.lost ? 3 : { running: 0, queued: 1 }[entry.job.state] ?? 2, entry.job.position ?? 0, entry.job.created];
  const entries = [...jobs.all.values()].filter((entry) => entry.job.state !== "done" || entry.lost);
  entries.sort((a, b) => order(a).map((one, at) => one - order(b)[at]).find(Boolean) ?? 0);
  for (const id of lines.keys()) if (!jobs.all.has(id)) lines.delete(id);
  refill(part("queue").querySelector("ol"), entries.map(row));
}

function renderGallery() {
  const list = part("gallery").querySelector("ul");
  const now = [...pictures.keys()].join();
  if (list.dataset.keys !== now) {
    list.dataset.keys = now;
    refill(list, [...pictures.values()].map(tile));
  }
  for (const one of list.querySelectorAll("button")) {
    const is = one.dataset.key === shown.key && !shown.job;
    one.setAttribute("aria-current", is);
  }
}

function tile({ key, address, recipe }) {
  const image = make("img", { src: address, alt: "", loading: "lazy" });
  const one = make("button", { type: "button", title: stage.settings(recipe), onclick: () => ((shown = { key }), render()) }, image);
  one.setAttribute("aria-label", `${stage.title(recipe)}, ${stage.settings(recipe)}`);
  one.dataset.key = key;
  return make("li", {}, one);
}

/** Arrow keys go through the gallery. */
function walk(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const buttons = [...part("gallery").querySelectorAll("li button")];
  const at = buttons.indexOf(document.activeElement);
  if (!step || at < 0) return;
  event.preventDefault();
  buttons[(at + step + buttons.length) % buttons.length].focus();
  document.activeElement.click();
}

// The connection

let fading;
function notice(text, good = true) {
  clearTimeout(fading);
  Object.assign(part("notice"), { textContent: text, hidden: !text, className: good ? "good" : "" });
  if (good && text) fading = setTimeout(() => notice(""), 8000);
}

async function link({ detail: { state, again: restarted, about } }) {
  const before = part("link").className;
  part("link").className = state;
  part("link").textContent = { up: "Connected", down: "Not connected", refused: "Token needed" }[state];
  part("make").disabled = state !== "up";
  if (state === "refused") return open();
  if (state === "down" && before === "up") return notice("The server does not answer. This page goes on trying; what is in the form and the gallery is kept.", false);
  if (state !== "up") return;
  part("key").hidden = !about.auth;
  part("device").textContent = [about.devices?.map((device) => device.name ?? device).join(", "), about.version].filter(Boolean).join(" · ");
  if (before === "down") notice(restarted ? "The server was started again. What it had not finished is in the queue, to be sent again." : "The server is back.");
  await attempt(async () => ask.furnish(about, await api.models()));
  await collect().catch(() => null);
}

function open() {
  if (part("door").open) return;
  part("door-note").textContent = api.token.get() ? "The server does not know this token." : "It is kept until this tab is closed.";
  part("token").value = "";
  part("key").hidden = false;
  part("door").showModal();
}

function listen() {
  ask.listen((request) => {
    send(request);
    if (matchMedia("(max-width: 48rem)").matches) part("stage").scrollIntoView();
  });
  stage.listen();
  part("keep").onclick = () => {
    const recipe = pictures.get(shown.key)?.recipe ?? jobs.all.get(shown.job)?.job.recipe;
    part("seed").value = recipe?.seed ?? "";
    ask.changed();
  };
  part("deeds").onclick = ({ target }) => deeds[target.dataset.deed]?.(pictures.get(shown.key));
  part("gallery").addEventListener("keydown", walk);
  part("key").onclick = open;
  part("door-close").onclick = () => part("door").close();
  part("door").querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    api.token.set(part("token").value.trim());
    part("door").close();
    jobs.retry();
  };
  jobs.addEventListener("change", render);
  jobs.addEventListener("finished", finished);
  jobs.addEventListener("link", link);
}

listen();
for (const item of await shelf.all().catch(() => [])) hold(item);
shown = { key: pictures.keys().next().value };
render();
jobs.watch();
