// The gallery's store: pictures with their recipes, in this browser, so that they outlive the server's own memory.

import { write } from "./api.js";

const MOST = 300;
let opened;

const asked = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

async function store(mode) {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("afterimage", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("pictures", { keyPath: "key" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return (await opened).transaction("pictures", mode).objectStore("pictures");
}

/** All pictures, the newest first. */
export async function all() {
  const items = await asked((await store("readonly")).getAll());
  return items.sort((a, b) => b.made - a.made || a.key.localeCompare(b.key));
}

/** Keeps a picture; the oldest make way for it. Answers the keys of those. */
export async function keep(item) {
  await asked((await store("readwrite")).put(item));
  const gone = (await all()).slice(MOST).map((old) => old.key);
  for (const key of gone) await drop(key);
  return gone;
}

export async function drop(key) {
  await asked((await store("readwrite")).delete(key));
}

/** The rule of a recipe; null is the plain run. */
export const rule = (recipe) => (!recipe.cache || recipe.cache === "none" ? null : recipe.cache);

/** The recipe of the plain run beside this one. */
export function plainly(recipe) {
  const { cache, router, made, ...rest } = recipe;
  return rest;
}

const sorted = (value) => {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
};

/** Whether two recipes differ in nothing but the rule. */
export const akin = (a, b) => write(sorted(plainly(a))) === write(sorted(plainly(b)));

/** Whether two pictures are the same, byte for byte. */
export async function same(a, b) {
  if (a.size !== b.size) return false;
  const [one, other] = await Promise.all([a, b].map(async (blob) => new Uint8Array(await blob.arrayBuffer())));
  return one.every((byte, at) => byte === other[at]);
}
