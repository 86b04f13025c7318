// A plan as a row of bars, one a model call, as tall as it is dear: warm is computed in full, cool is reused.

/** Draws the spans of a plan; `label` is for those who do not see it. */
export function draw(row, plan) {
  const calls = plan.spans.flatMap(({ len, refresh, gmacs }) =>
    Array.from({ length: len }, (_, at) => ({ refresh: refresh && at === 0, gmacs: gmacs / len })));
  const dearest = Math.max(...calls.map((call) => call.gmacs));
  row.replaceChildren(...calls.map((call) => {
    const bar = document.createElement("i");
    if (!call.refresh) bar.className = "reuse";
    bar.style.setProperty("--tall", `${Math.max(7, Math.round(100 * call.gmacs / dearest))}%`);
    return bar;
  }));
  row.classList.toggle("many", calls.length > 60);
  row.setAttribute("aria-label", told(plan));
}

/** Marks the first `count` bars as done. */
export function advance(row, count) {
  [...row.children].forEach((bar, at) => bar.classList.toggle("done", at < count));
}

/** `30 model calls, 10 in full` */
export function told({ work }) {
  return `${work.evaluations} model calls, ${work.full_evaluations} in full`;
}

/** What a plan promises, in words. */
export function promise(plan) {
  const { predicted_speedup: faster, gmacs } = plan.work;
  const most = plan.work.decided_in_the_run ? "Up to " : "";
  const speed = faster > 1.005 ? `${most}${faster.toFixed(2)} times as fast, by count` : "The plain run: every step in full";
  return [speed, `${told(plan)} · ${gmacs.toPrecision(3)} GMACs · ${bytes(plan.memory?.peak)}`];
}

export function bytes(count) {
  if (!count) return "memory unknown";
  const power = Math.min(4, Math.floor(Math.log2(count) / 10));
  return `${(count / 1024 ** power).toPrecision(3)} ${["bytes", "KiB", "MiB", "GiB", "TiB"][power]}`;
}
