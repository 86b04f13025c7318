// The form: what a picture is to be, and what its rule promises.

import * as api from "./api.js";
import { draw, promise } from "./score.js";

const KEPT = "afterimage.ask";
const OWN = "…";
const PREVIEWS = 8;
const RULES = {
  none: "None: the plain run",
  "auto:speedup=2": "Automatic: twice as fast",
  "auto:psnr=35": "Automatic: 35 dB from plain",
  "deepcache:interval=2,branch=0": "DeepCache, every 2nd step",
  "deepcache:interval=3,branch=0": "DeepCache, every 3rd step",
  "deepcache:interval=5,branch=0": "DeepCache, every 5th step",
  "encoder-propagation:every=3": "Encoder propagation, every 3rd",
  "taylorseer:interval=5,warmup=3,order=1": "TaylorSeer, every 5th step",
  "easycache:threshold=0.1": "EasyCache: decides as it goes",
  "tgate:gate=10": "T-GATE, from step 10 on",
};
const part = (id) => document.getElementById(id);
const number = (id) => (part(id).value === "" ? null : Number(part(id).value));

let models = [];
let about = {};
/** The picture to start from, as `[name, data URL]`. */
let start = null;
let latest = new AbortController();
let timer;

/** Fills the lists by what the server has, and puts in what was asked for last. */
export function furnish(info, list) {
  const before = models.length ? read() : kept();
  [about, models] = [info, list.filter((model) => !model.error)];
  const names = models.map(({ id }) => new Option(id, id));
  part("model").replaceChildren(...names);
  const rules = Object.entries(RULES).map(([rule, name]) => new Option(name, rule));
  part("rules").replaceChildren(...info.rules.map(({ rule, help }) => new Option(help, rule)));
  part("rule").replaceChildren(...rules, new Option("Another rule…", OWN));
  part("model").value = (models.find(({ id }) => id === before?.model) ?? models.find((model) => model.default) ?? models[0])?.id;
  suit(!before);
  if (before) put(before);
  changed();
}

/** What the form holds. */
export function read() {
  const fields = ["prompt", "negative", "label", "steps", "guidance", "width", "height", "seed", "strength"];
  const values = Object.fromEntries(fields.map((id) => [id, part(id).value]));
  const rule = part("rule").value === OWN ? part("own-rule").value.trim() : part("rule").value;
  return { ...values, model: part("model").value, rule };
}

function put({ rule, model, ...values }) {
  for (const [id, value] of Object.entries(values)) part(id).value = value ?? "";
  const known = [...part("rule").options].some((option) => option.value === rule);
  part("rule").value = known ? rule : OWN;
  if (!known) part("own-rule").value = rule;
}

const whole = (text) => (Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text));
const kept = () => JSON.parse(localStorage.getItem(KEPT) ?? "null");
const model = () => models.find(({ id }) => id === part("model").value);

/** Shows the fields that the chosen model has; `fresh` puts its defaults in. */
function suit(fresh) {
  const chosen = model();
  if (!chosen) return;
  part("text").hidden = chosen.kind === "nothing" || chosen.kind === "class";
  part("class").hidden = chosen.kind !== "class";
  if (chosen.kind === "picture") part("from").open = true;
  part("prompt").required = chosen.kind === "text";
  for (const id of ["width", "height"]) Object.assign(part(id), { min: chosen.multiple, step: chosen.multiple });
  if (about.limits?.max_steps) part("steps").max = about.limits.max_steps;
  if (!fresh) return;
  const [width, height] = chosen.size;
  for (const [id, value] of Object.entries({ width, height, steps: chosen.steps, guidance: chosen.guidance_scale })) part(id).value = value ?? "";
}

/** The request that the form asks for. */
export function request() {
  const { prompt, negative, label, rule, seed } = read();
  const chosen = model();
  const recipe = { model: { name: chosen?.id }, steps: number("steps"), size: [number("width"), number("height")] };
  if (chosen?.kind === "class") recipe.classes = [Number(label)];
  if (!part("text").hidden && prompt.trim()) recipe.prompts = [prompt.trim()];
  if (!part("text").hidden && negative.trim()) recipe.negative_prompts = [negative.trim()];
  if (number("guidance") !== null) recipe.guidance_scale = number("guidance");
  if (rule && rule !== "none") recipe.cache = rule;
  if (seed.trim()) recipe.seed = whole(seed.trim());
  const asked = { recipe };
  if (start) {
    Object.assign(recipe, { init_image: { path: start[0] }, strength: number("strength") });
    asked.files = Object.fromEntries([start]);
  }
  return { ...asked, preview_every: Math.max(1, Math.round(recipe.steps / PREVIEWS)) };
}

/** Puts a recipe into the form, with the files that it names. */
export function use(recipe, files) {
  const known = models.some(({ id }) => id === recipe.model?.name);
  if (known) part("model").value = recipe.model.name;
  suit(true);
  const [width, height] = recipe.size ?? [part("width").value, part("height").value];
  put({
    prompt: recipe.prompts?.[0], negative: recipe.negative_prompts?.[0], label: recipe.classes?.[0] ?? 0, width, height,
    steps: recipe.steps ?? part("steps").value, guidance: recipe.guidance_scale ?? part("guidance").value,
    seed: recipe.seed, rule: recipe.cache ?? "none", strength: recipe.strength ?? part("strength").value,
  });
  const name = recipe.init_image?.path;
  start = files?.[name] ? [name, files[name]] : null;
  part("from").open = Boolean(start);
  changed();
}

/** After any change: remembers it, and asks what the rule promises. */
export function changed() {
  part("own").hidden = part("rule").value !== OWN;
  const [method] = part("own-rule").value.split(":");
  part("own-note").textContent = about.rules?.find(({ rule }) => rule.split(":")[0] === method)?.help ?? "";
  localStorage.setItem(KEPT, JSON.stringify(read()));
  clearTimeout(timer);
  timer = setTimeout(forecast, 200);
}

async function forecast() {
  const box = part("forecast");
  latest.abort();
  latest = new AbortController();
  const asked = request();
  try {
    if (!part("steps").validity.valid) throw new api.Refused(400, { message: part("steps").validationMessage });
    const plan = await api.plan({ recipe: asked.recipe, files: asked.files }, latest.signal);
    draw(box.querySelector(".score"), plan);
    const [speed, rest] = promise(plan);
    const strong = document.createElement("b");
    strong.textContent = speed;
    box.querySelector("p").replaceChildren(strong, `\n${rest}`);
    box.classList.remove("bad");
  } catch (error) {
    if (!(error instanceof api.Refused)) return;
    box.querySelector("p").textContent = error.text;
    box.classList.add("bad");
  }
}

const address = (file) => new Promise((resolve) => {
  const reader = Object.assign(new FileReader(), { onload: () => resolve(reader.result) });
  reader.readAsDataURL(file);
});

/** Wires the form; `make` is called with a request. */
export function listen(make) {
  const form = part("ask");
  form.addEventListener("input", changed);
  part("model").addEventListener("change", () => suit(true));
  part("start").addEventListener("change", async ({ target: { files: [file] } }) => {
    start = file ? [file.name, await address(file)] : null;
    changed();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    make(request());
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}
