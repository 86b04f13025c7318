// The server as the page speaks to it: JSON by fetch, and events by a stream that is read here, since EventSource sends no token.

const KEY = "afterimage.token";

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered ${status}`);
    this.status = status;
    this.hint = error?.hint ?? null;
  }
  get text() {
    return this.hint ? `${this.message}\nHint: ${this.hint}` : this.message;
  }
}

/** Reads JSON; whole numbers beyond 2^53, which seeds may be, stay whole. */
const parse = (text) => JSON.parse(text, (key, value, { source } = {}) =>
  Number.isInteger(value) && !Number.isSafeInteger(value) && /^\d+$/.test(source) ? BigInt(source) : value);

/** Writes JSON that `parse` reads. */
export const write = (value, space) => JSON.stringify(value, (key, one) =>
  typeof one === "bigint" ? JSON.rawJSON?.(String(one)) ?? Number(one) : one, space);

/** The server does not answer. */
export class Unreachable extends Error {}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (secret) => sessionStorage.setItem(KEY, secret),
  drop: () => sessionStorage.removeItem(KEY),
};

async function ask(path, { method = "GET", body, signal, accept = "application/json" } = {}) {
  const headers = { accept };
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const address = new URL(path.replace(/^\//, ""), document.baseURI);
  let answer;
  try {
    // Without credentials, or a 401 would open the browser's own window for passwords.
    answer = await fetch(address, { method, headers, signal, credentials: "omit", cache: "no-store", body: body && write(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable(error.message);
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  throw new Refused(answer.status, said?.error);
}

const json = async (path, options) => parse(await (await ask(path, options)).text());

export const info = () => json("v1/info");
export const models = async () => (await json("v1/models")).data;
export const plan = (request, signal) => json("v1/plan", { method: "POST", body: request, signal });
export const send = (request) => json("v1/jobs", { method: "POST", body: request });
export const job = (id) => json(`v1/jobs/${id}`);
export const done = async () => (await json("v1/jobs?state=done&limit=100")).jobs;
export const stop = (id) => json(`v1/jobs/${id}`, { method: "DELETE" });
export const health = async () => (await ask("healthz")).json();
export const picture = async (url) => (await ask(url, { accept: "image/*" })).blob();

/** Server-sent events of `path`, `[name, data]` each, `["open"]` before all, until the server ends them. Silence of 30 seconds counts as a lost connection. */
export async function* events(path, signal) {
  const quiet = new AbortController();
  const both = AbortSignal.any([quiet.signal, signal].filter(Boolean));
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => quiet.abort(), 30_000);
  };
  try {
    heard();
    const reader = (await ask(path, { signal: both, accept: "text/event-stream" })).body.pipeThrough(new TextDecoderStream()).getReader();
    yield ["open"];
    let rest = "";
    for (;;) {
      const { done: ended, value } = await reader.read();
      if (ended) return;
      heard();
      const parts = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = parts.pop();
      yield* parts.map(event).filter(Boolean);
    }
  } catch (error) {
    if (error instanceof Refused || signal?.aborted) throw error;
    throw new Unreachable(error.message);
  } finally {
    clearTimeout(timer);
    quiet.abort();
  }
}

function event(block) {
  const lines = block.split("\n");
  const field = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart());
  const data = field("data").join("\n");
  return data && [field("event")[0] ?? "message", parse(data)];
}
