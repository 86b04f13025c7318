// The large picture: what is being made, what was made, and how far that is from the plain run.

import * as api from "./api.js";
import { advance, draw } from "./score.js";
import { rule } from "./shelf.js";

const part = (id) => document.getElementById(id);
const plans = new Map();
let drawn = null;

/** `a red circle` or `class 27` */
export const title = (recipe) => recipe.prompts?.join(" | ") || (recipe.classes?.length ? `class ${recipe.classes}` : "no prompt");

const seconds = (count) => `${count < 10 ? count.toFixed(2) : count.toFixed(1)} s`;

/** What a recipe says, for people. */
export function settings(recipe) {
  const [width, height] = recipe.size ?? [];
  const words = [recipe.model?.name ?? "bundled", width && `${width} × ${height}`, recipe.steps && `${recipe.steps} steps`,
    recipe.guidance_scale != null && `guidance ${recipe.guidance_scale}`, recipe.seed != null && `seed ${recipe.seed}`, rule(recipe) ?? "no rule"];
  return words.filter(Boolean).join(" · ");
}

function shape(recipe) {
  const [width, height] = recipe.size ?? [1, 1];
  part("easel").style.setProperty("--shape", width / height);
}

function bare() {
  for (const id of ["plain", "seam", "split", "tag-rule", "tag-plain", "run", "deeds"]) part(id).hidden = true;
  part("easel").className = "";
}

/** Nothing to show. */
export function empty() {
  bare();
  part("easel").className = "empty";
  part("picture").hidden = true;
  for (const id of ["caption", "details"]) part(id).textContent = "";
}

/** Shows a job that waits or runs. */
export function job({ job, preview, lost }) {
  bare();
  shape(job.recipe);
  part("easel").className = preview ? "soft" : "empty";
  Object.assign(part("picture"), { hidden: !preview, src: preview ?? "", alt: preview ? "What the picture seems to become" : "" });
  part("blank").textContent = lost ? "Lost in a restart of the server." : { queued: "It waits for its turn.", running: "It begins.", failed: "It failed.", cancelled: "It was cancelled." }[job.state] ?? "";
  part("caption").textContent = title(job.recipe);
  part("details").textContent = [settings(job.recipe), job.error?.message, job.error?.hint].filter(Boolean).join("\n");
  score(job.id, job.recipe, job.step);
}

/** The plan of a run, filled as far as the run is. */
async function score(id, recipe, step) {
  const row = part("run");
  if (drawn !== id) {
    drawn = id;
    row.replaceChildren();
    if (!plans.has(id)) plans.set(id, api.plan({ recipe }).catch(() => null));
    const plan = await plans.get(id);
    if (drawn !== id) return;
    if (plan) draw(row, plan);
  }
  row.hidden = !row.children.length;
  advance(row, step);
}

/** Shows a picture of the gallery, beside its plain run where there is one. */
export async function picture(item, plain, making) {
  bare();
  shape(item.recipe);
  const image = part("picture");
  Object.assign(image, { hidden: false, src: item.address, alt: title(item.recipe) });
  part("caption").textContent = title(item.recipe);
  part("details").textContent = [settings(item.recipe), account(item), item.word].filter(Boolean).join("\n");
  part("deeds").hidden = false;
  Object.assign(document.querySelector("[data-deed=compare]"), {
    hidden: !rule(item.recipe) || Boolean(plain), disabled: making, textContent: making ? "The plain run is on its way…" : "Compare with the plain run",
  });
  score(item.job, item.recipe, Infinity);
  if (plain) await beside(item, plain);
}

function account({ seconds: took, work }) {
  if (!took) return "";
  const saved = work?.reused ? ` · ${Math.round(100 * work.reused / (work.cells + work.reused))} % of the cells reused` : "";
  return `${seconds(took.denoising)} denoising, ${seconds(took.total)} in all${saved}`;
}

async function beside(item, plain) {
  Object.assign(part("plain"), { hidden: false, src: plain.address, alt: `${title(plain.recipe)}, the plain run` });
  part("tag-rule").textContent = rule(item.recipe);
  for (const id of ["seam", "split", "tag-rule", "tag-plain"]) part(id).hidden = false;
  part("easel").className = "pair";
  divide(part("share").value);
  const times = item.seconds && plain.seconds ? `${seconds(item.seconds.denoising)} against ${seconds(plain.seconds.denoising)}: ${(plain.seconds.denoising / item.seconds.denoising).toFixed(2)} times as fast. ` : "";
  part("likeness").textContent = times;
  const decibels = await likeness(item.blob, plain.blob).catch(() => null);
  if (part("picture").src !== item.address || decibels === null) return;
  part("likeness").textContent = times + (decibels === Infinity ? "The same pixels." : `PSNR ${decibels.toFixed(1)} dB.`);
}

/** Peak signal to noise between two pictures, in decibels. */
async function likeness(a, b) {
  const [one, other] = await Promise.all([a, b].map(pixels));
  if (one.length !== other.length) return null;
  let squares = 0;
  for (let at = 0; at < one.length; at += 1) squares += (one[at] - other[at]) ** 2;
  // Every fourth byte is opacity, which is the same.
  return 10 * Math.log10(255 ** 2 / (squares / (one.length * 0.75)));
}

async function pixels(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  canvas.drawImage(bitmap, 0, 0);
  return canvas.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

function divide(share) {
  part("easel").style.setProperty("--share", `${share}%`);
  part("share").setAttribute("aria-valuetext", `${share} % with the rule, ${100 - share} % plain`);
}

/** Wires the slider, and the picture itself as one. */
export function listen() {
  const [easel, share] = [part("easel"), part("share")];
  share.addEventListener("input", () => divide(share.value));
  const drag = (event) => {
    if (!easel.classList.contains("pair") || (event.type === "pointermove" && !event.buttons)) return;
    if (event.type === "pointerdown") easel.setPointerCapture(event.pointerId);
    const { left, width } = easel.getBoundingClientRect();
    share.value = Math.round(100 * (event.clientX - left) / width);
    divide(share.value);
  };
  for (const name of ["pointerdown", "pointermove"]) easel.addEventListener(name, drag);
}
