// @ts-check
/** The fleet: figures, lines, a map and a table of pods, and what is known of one pod. */
import { ask } from "./api.js";
import { Charts } from "./charts.js";
import { attempt, close, open } from "./dialog.js";
import { byId, colour, duration, fill, h, meter, NONE, number, percent, say, tail, toast } from "./dom.js";
import { latest, mayChange, podsOf, state } from "./state.js";
import { Table, textCell } from "./table.js";

const STATES = /** @type {Record<string, string>} */ ({ ok: "well", failing: "failing, kept", out: "out", draining: "draining" });
const view = { pool: "", search: "", state: "", metric: "inflight", busiest: 1 };

/** @type {Record<string, {label: string, of: (pod: any) => number | null, full: number, write: (v: any) => string}>} */
const METRICS = {
  inflight: { label: "requests in flight", of: (pod) => pod.inflight, full: 0, write: (v) => number(v) },
  queued: { label: "engine's queue", of: (pod) => pod.queued, full: 0, write: (v) => number(v) },
  kv_usage: { label: "KV cache used", of: (pod) => pod.kv_usage, full: 1, write: (v) => percent(v) },
  ttft_s: { label: "time to first token", of: (pod) => pod.ttft_s || null, full: 0, write: duration },
  hit_rate: { label: "prefix hit rate", of: (pod) => pod.hit_rate, full: 1, write: (v) => percent(v) },
};

/** A cell with a bar. @param {(pod: any) => number} share @param {(pod: any) => string} text @param {(pod: any) => string} tone */
const barCell = (share, text, tone = () => "") => () => {
  const node = meter(0, ""), inner = node.querySelector("i"), label = node.lastChild;
  return { node, set: (/** @type {any} */ pod) => {
    const width = `${Math.round(Math.min(1, share(pod)) * 100)}%`;
    if (inner.style.width !== width) inner.style.width = width;
    if (inner.className !== tone(pod)) inner.className = tone(pod);
    say(label, text(pod));
  } };
};

const nameCell = () => {
  /** @type {any} */ let shown = null;
  const button = h("button", { type: "button", class: "link", onclick: () => showPod(shown.id) });
  return { node: button, set: (/** @type {any} */ pod) => {
    shown = pod;
    say(button, tail(pod.id, 30));
    if (button.title !== pod.id) button.title = pod.id;
  } };
};

const stateCell = () => {
  const mark = h("i", { class: "dot", "aria-hidden": "true" }), label = h("span", {});
  return { node: h("span", { class: "state" }, mark, label), set: (/** @type {any} */ pod) => {
    if (mark.dataset.state !== pod.state) mark.dataset.state = pod.state;
    say(label, pod.why && pod.state !== "draining" ? `${STATES[pod.state]}: ${pod.why}` : STATES[pod.state]);
  } };
};

/** @type {import("./table.js").Column[]} */
const COLUMNS = [
  { key: "id", label: "Pod", rank: 0, sort: (p) => p.id, make: nameCell },
  { key: "pool", label: "Pool", rank: 3, sort: (p) => p.pool, make: textCell((p) => p.pool) },
  { key: "state", label: "Health", rank: 0, sort: (p) => p.state + p.why, make: stateCell },
  { key: "inflight", label: "In flight", hint: "Requests dispatched and not finished, over all replicas", rank: 0, sort: (p) => p.inflight, make: barCell((p) => p.inflight / view.busiest, (p) => number(p.inflight)) },
  { key: "queued", label: "Queue", hint: "Requests that wait in the engine", rank: 1, sort: (p) => p.queued, make: textCell((p) => number(p.queued)) },
  { key: "kv", label: "KV", hint: "Share of the engine's KV cache in use", rank: 1, sort: (p) => p.kv_usage, make: barCell((p) => p.kv_usage, (p) => percent(p.kv_usage), (p) => (p.kv_usage > 0.9 ? "bad" : p.kv_usage > 0.75 ? "warn" : "")) },
  { key: "hit", label: "Hits", hint: "Prompt tokens that the engine found in its prefix cache", rank: 2, sort: (p) => p.hit_rate ?? -1, make: barCell((p) => p.hit_rate ?? 0, (p) => percent(p.hit_rate), () => "good") },
  { key: "ttft", label: "TTFT", hint: "Moving average of the time to first token", rank: 2, sort: (p) => p.ttft_s, make: textCell((p) => duration(p.ttft_s || null)) },
  { key: "expected", label: "Predicted", hint: "What the router expected of these times", rank: 3, sort: (p) => p.expected_ttft_s, make: textCell((p) => duration(p.expected_ttft_s || null)) },
  { key: "error", label: "Off by", hint: "Mean error of the prediction", rank: 3, sort: (p) => p.ttft_error, make: textCell((p) => (p.ttft_s ? percent(p.ttft_error) : NONE)) },
  { key: "requests", label: "Answered", hint: "Requests that ended, through this replica", rank: 3, sort: (p) => p.requests, make: textCell((p) => number(p.requests)) },
  { key: "failed", label: "Failed", rank: 3, sort: (p) => p.failed, make: textCell((p) => number(p.failed)) },
];

/** @type {Table} */ let table;
/** @type {Charts} */ let charts;

export function begin() {
  table = new Table(byId("pod-table"), COLUMNS, { label: "Pods", sortBy: "id" });
  charts = new Charts(byId("charts"));
  fill(byId("map-metric"), ...Object.entries(METRICS).map(([value, { label }]) => h("option", { value }, label)));
  byId("map-metric").addEventListener("change", (/** @type {any} */ event) => { view.metric = event.target.value; draw(); });
  byId("pod-state").addEventListener("change", (/** @type {any} */ event) => { view.state = event.target.value; draw(); });
  byId("pod-search").addEventListener("input", (/** @type {any} */ event) => { view.search = event.target.value.trim().toLowerCase(); draw(); });
  const map = byId("map");
  map.addEventListener("click", (/** @type {MouseEvent} */ event) => { const pod = podAt(event); if (pod) showPod(pod.id); });
  map.addEventListener("mousemove", (/** @type {MouseEvent} */ event) => {
    const pod = podAt(event);
    map.title = pod ? `${pod.id}: ${STATES[pod.state]}, ${METRICS[view.metric].write(METRICS[view.metric].of(pod))}` : "";
  });
}

export const restyle = () => charts.restyle();

export function draw() {
  const pods = podsOf(view.pool);
  view.busiest = Math.max(4, pods.reduce((most, pod) => Math.max(most, pod.inflight), 0));
  const shown = pods.filter((pod) => (!view.state || pod.state === view.state) && (!view.search || pod.key.includes(view.search)));
  chips();
  kpis(pods);
  table.show(shown);
  table.empty.hidden = shown.length > 0;
  say(table.empty, pods.length ? "No pod matches." : "No pods yet: discovery has found none.");
  say(byId("pod-count"), shown.length === pods.length ? number(pods.length) : `${number(shown.length)} of ${number(pods.length)}`);
  map(shown);
}

/** Apart from the rest, since four charts take longer to make than a thousand rows. */
export const drawCharts = () => charts.draw(state.history.get(view.pool) ?? []);

function chips() {
  const names = ["", ...state.pools.map((each) => each.name)];
  const box = byId("pool-chips");
  if (box.dataset.names !== names.join("\n")) {
    box.dataset.names = names.join("\n");
    fill(box, ...(names.length > 2 ? names : []).map((name) => h("button", { type: "button", class: "chip", "data-pool": name, onclick: () => { view.pool = name; draw(); drawCharts(); } }, name || "All pools")));
  }
  for (const each of box.children) each.setAttribute("aria-pressed", String(each.dataset.pool === view.pool));
}

/** @param {any[]} pods */
function kpis(pods) {
  const now = latest(view.pool) ?? {};
  const well = pods.filter((pod) => pod.state === "ok").length;
  const rows = [
    ["Pods", `${number(well)} / ${number(pods.length)}`, well < pods.length ? `${number(pods.length - well)} not well` : "all well", well < pods.length ? "warn" : "good"],
    ["Requests", `${number(now.rate, 1)}/s`, now.failed ? `${number(now.failed, 2)}/s failed or refused` : "none failed", now.failed ? "bad" : "good"],
    ["TTFT p50", duration(now.p50), `p95 ${duration(now.p95)}`, ""],
    ["Found / predicted", now.ratio === null || now.ratio === undefined ? NONE : `${now.ratio.toFixed(2)} ×`, "median time to first token", ""],
    ["Prefix hits", percent(now.hit_rate), "of prompt tokens", ""],
    ["In flight", number(now.inflight), `${number(state.replica?.waiting)} waiting here`, state.replica?.waiting ? "warn" : ""],
  ];
  const box = byId("kpis");
  if (box.childElementCount !== rows.length) fill(box, ...rows.map(([label]) => h("div", { class: "card kpi" }, h("span", { class: "label" }, label), h("b", {}), h("small", {}))));
  rows.forEach(([, value, note, tone], at) => {
    const [, big, small] = box.children[at].children;
    say(big, value);
    say(small, note);
    if (small.className !== tone) small.className = tone;
  });
}

const cells = { size: 0, columns: 1, /** @type {any[]} */ pods: [] };

/** @param {any[]} pods */
function map(pods) {
  const canvas = byId("map"), width = canvas.clientWidth, scale = devicePixelRatio || 1;
  const size = pods.length <= 48 ? 26 : pods.length <= 300 ? 16 : 11;
  const columns = Math.max(1, Math.floor(width / size));
  const height = Math.max(size, Math.ceil(pods.length / columns) * size);
  pods = [...pods].sort((a, b) => (a.pool < b.pool ? -1 : a.pool > b.pool ? 1 : a.id < b.id ? -1 : 1));
  Object.assign(cells, { size, columns, pods });
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) { canvas.height = Math.round(height * scale); canvas.style.height = `${height}px`; }
  const { of, full } = METRICS[view.metric];
  const most = full || pods.reduce((top, pod) => Math.max(top, of(pod) ?? 0), 0) || 1;
  const tones = { out: colour("--bad"), draining: colour("--muted"), failing: colour("--warn"), accent: colour("--accent"), track: colour("--track") };
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pods.forEach((pod, at) => {
    const x = (at % columns) * size, y = Math.floor(at / columns) * size, edge = size - 2;
    pen.globalAlpha = 1;
    pen.fillStyle = pod.state === "ok" ? tones.track : tones[/** @type {"out"} */ (pod.state)];
    pen.fillRect(x, y, edge, edge);
    if (pod.state !== "ok" && pod.state !== "failing") return;
    pen.fillStyle = pod.state === "ok" ? tones.accent : tones.failing;
    pen.globalAlpha = Math.min(1, (of(pod) ?? 0) / most);
    if (pod.state === "ok") pen.fillRect(x, y, edge, edge);
  });
  pen.globalAlpha = 1;
  const ill = pods.filter((pod) => pod.state !== "ok").length;
  const label = `Map of ${pods.length} pods by ${METRICS[view.metric].label}: ${ill} not well`;
  if (canvas.getAttribute("aria-label") !== label) canvas.setAttribute("aria-label", label);
}

/** @param {MouseEvent} event */
function podAt(event) {
  const column = Math.floor(event.offsetX / cells.size), row = Math.floor(event.offsetY / cells.size);
  return column < cells.columns ? cells.pods[row * cells.columns + column] : undefined;
}

/** @type {(pod: any) => [string, any][]} */
const DETAILS = (pod) => [
  ["Health", pod.routable ? (pod.kept.length ? `failing (${pod.kept.join(", ")}), kept since its pool has too few others` : "well") : `out: ${pod.blockers.join(", ")}`],
  ["Pool", pod.pool], ["Address", pod.address], ["Models", pod.models.join(", ") || "those of its pool"], ["Role", pod.role],
  ["Labels", Object.entries(pod.labels).map(([name, value]) => `${name}=${value}`).join(", ") || NONE],
  ["In flight", `${number(pod.inflight)}${pod.max_inflight ? ` of ${number(pod.max_inflight)}` : ""}, of which ${number(pod.own_inflight)} through this replica`],
  ["Tokens in flight", number(pod.inflight_tokens)], ["Prefill that waits", `${number(pod.pending_prefill_tokens)} tokens, ${duration(pod.pending_s)}`],
  ["Engine", `${number(pod.queued)} queued, ${number(pod.running)} running, ${number(pod.foreign)} that no gateway sent`],
  ["KV cache", percent(pod.kv_usage, 1)], ["Prefill speed", `${number(pod.prefill_tokens_per_s)} tokens/s`],
  ["TTFT", `found ${duration(pod.ttft_ewma_s || null)}, predicted ${duration(pod.expected_ttft_s || null)}, off by ${percent(pod.ttft_error)}`],
];

/** @param {string} id */
async function showPod(id) {
  await attempt(async () => {
    const path = `/admin/pods/${encodeURI(id)}`;
    const pod = await ask("GET", path);
    const drained = pod.blockers.includes("draining");
    const change = () => attempt(async () => {
      await ask(drained ? "DELETE" : "POST", `${path}/drain`);
      close();
      toast(drained ? `${id} gets requests again` : `${id} gets no new requests`);
    });
    open(id, h("dl", { class: "details" }, ...DETAILS(pod).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      h("p", { class: "lead" }, drained ? "This replica sends it no new requests." : "A drain stops new requests from this replica; those in flight go on."),
      [h("button", { type: "button", class: drained ? "primary" : "danger", disabled: !mayChange(), onclick: change }, drained ? "End drain" : "Drain pod")]);
  });
}
