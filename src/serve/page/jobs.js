// The caller's jobs as the server tells of them, and what became of those that it no longer knows.

import * as api from "./api.js";

const LIVE = ["queued", "running"];
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Follows all jobs over one stream, and takes it up again whenever it is lost.
 *
 * Events: `change` (a job), `link` (up, down, refused; `again` after a restart), `finished` (a job that was waited for).
 */
export class Jobs extends EventTarget {
  /** Jobs by id: `{job, request, preview, lost}`. */
  all = new Map();
  #started = null;
  #following = new Map();

  live() {
    return [...this.all.values()].filter((entry) => LIVE.includes(entry.job.state) && !entry.lost);
  }

  /** Sends a request; the answer's entry is followed until it is done. */
  async send(request, extra = {}) {
    return this.#take(await api.send(request), { request, ...extra });
  }

  /** Stops a job. */
  async stop(entry) {
    this.#take(await api.stop(entry.job.id));
  }

  /** Takes a job off the list. */
  dismiss(entry) {
    this.all.delete(entry.job.id);
    this.#tell("change", entry);
  }

  /** Keeps the connection, for as long as the page lives. */
  async watch() {
    for (let wait = 250; ; wait = Math.min(4000, wait * 1.6)) {
      const whole = new AbortController();
      try {
        const stream = api.events("v1/events", whole.signal);
        await stream.next(); // open: of the server that answers next, nothing that it tells is missed
        await this.#greet();
        wait = 250;
        for await (const event of stream) this.#hear(...event);
        this.#tell("link", { state: "down" });
      } catch (error) {
        const refused = error instanceof api.Refused && [401, 403].includes(error.status);
        this.#tell("link", { state: refused ? "refused" : "down", error });
        if (refused) await new Promise((resolve) => this.addEventListener("retry", resolve, { once: true }));
      } finally {
        whole.abort();
      }
      await pause(wait);
    }
  }

  /** Ends the wait for a token. */
  retry() {
    this.dispatchEvent(new Event("retry"));
  }

  /** The first words on a new connection: whether this is the same server, and what it still knows. */
  async #greet() {
    const about = await api.info();
    const again = this.#started !== null && about.started !== this.#started;
    this.#started = about.started;
    this.#tell("link", { state: "up", again, about });
    await Promise.all(this.live().map((entry) => this.#recall(entry)));
  }

  async #recall(entry) {
    try {
      this.#take(await api.job(entry.job.id));
    } catch (error) {
      if (error.status !== 404) throw error;
      entry.lost = true;
      this.#tell("change", entry);
    }
  }

  #hear(name, job) {
    if (name !== "job") return;
    if (job.state !== "gone") return this.#take(job);
    const entry = this.all.get(job.id);
    if (entry && !LIVE.includes(entry.job.state)) this.dismiss(entry);
  }

  #take(job, extra) {
    const known = this.all.get(job.id);
    const entry = known ?? { job, preview: null, lost: false };
    if (known && known.job.version > job.version) return Object.assign(entry, extra);
    const waited = !known || LIVE.includes(known.job.state);
    Object.assign(entry, { job }, extra);
    this.all.set(job.id, entry);
    this.#tell("change", entry);
    if (LIVE.includes(job.state)) this.#follow(entry);
    else if (waited) this.#tell("finished", entry);
    return entry;
  }

  /** Reads the previews and steps of a job until its stream ends. What is lost on the way, the stream of all jobs tells. */
  async #follow(entry) {
    const { id, state } = entry.job;
    if (state !== "running" || this.#following.has(id)) return;
    this.#following.set(id, entry);
    try {
      for await (const [name, data] of api.events(`v1/jobs/${id}/events`)) {
        if (name === "state") this.#take(data);
        if (name === "preview") this.#show(entry, data);
      }
    } catch {
      // The connection is gone, or the job: the stream of all jobs finds out which.
    } finally {
      this.#following.delete(id);
    }
  }

  #show(entry, { type, data }) {
    entry.preview = `data:${type};base64,${data}`;
    this.#tell("change", entry);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
