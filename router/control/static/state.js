// @ts-check
/** What the console knows: the last frame, and the last minutes as figures. Knows no element and no request. */

/** @typedef {{id: string, pool: string, state: string, why: string, inflight: number, own_inflight: number, queued: number, running: number, kv_usage: number, ttft_s: number, expected_ttft_s: number, ttft_error: number, looked_up: number, found: number, requests: number, failed: number, rate: number, hit_rate: number | null, key: string}} Pod */

const KEPT_S = 300;
/** Rates are differences over this long. */
const WINDOW_S = 10;

export const state = {
  /** @type {Map<string, Pod>} */ pods: new Map(),
  /** @type {any[]} */ pools: [],
  /** @type {any[]} */ tenants: [],
  /** @type {any[]} Newest first. */ decisions: [],
  /** @type {any} */ replica: null,
  /** @type {string[]} */ policyNames: [],
  /** @type {number[]} */ ttftBounds: [],
  /** @type {number[]} */ ratioBounds: [],
  role: "read",
  caller: "",
  secured: false,
  at: 0,
  /** Milliseconds that the last frame took to be taken in. */ tookMs: 0,
  /** @type {Map<string, any[]>} By pool, and "" for all: figures a second. */ history: new Map(),
};

/** @type {string[]} */
let fields = [];
/** @type {{at: number, time: number, pools: Map<string, any>}[]} Sums of the last seconds. */
let past = [];

/** Take a frame in. @param {any} frame */
export function apply(frame) {
  const began = performance.now();
  if (frame.fields) start(frame);
  for (const id of frame.gone) state.pods.delete(id);
  for (const row of frame.pods) takePod(row, frame.at);
  Object.assign(state, { at: frame.at, replica: frame.replica, pools: frame.pools, tenants: frame.tenants });
  for (const each of frame.decisions) state.decisions.unshift({ ...each, age0: frame.at - each.at, time: Date.now() });
  state.decisions.length = Math.min(state.decisions.length, 40);
  takeSums(frame);
  state.tookMs = performance.now() - began;
}

/** @param {any} frame */
function start(frame) {
  fields = frame.fields;
  state.pods.clear();
  state.history.clear();
  past = [];
  Object.assign(state, { policyNames: frame.policy_names, ttftBounds: frame.ttft_bounds, ratioBounds: frame.ratio_bounds, secured: frame.secured });
}

/** @param {any[]} row @param {number} at */
function takePod(row, at) {
  /** @type {any} */
  const pod = {};
  for (let n = 0; n < fields.length; n += 1) pod[fields[n]] = row[n];
  const before = /** @type {any} */ (state.pods.get(pod.id));
  const asked = before ? pod.looked_up - before.looked_up : 0;
  const rate = asked > 0 ? (pod.found - before.found) / asked : null;
  const last = before?.hit_rate ?? (pod.looked_up > 0 ? pod.found / pod.looked_up : null);
  pod.hit_rate = rate === null || last === null ? last : last + 0.3 * (Math.min(1, Math.max(0, rate)) - last);
  pod.key = `${pod.id} ${pod.pool} ${pod.why}`.toLowerCase();
  pod.at = at;
  state.pods.set(pod.id, pod);
}

/** @param {any} frame */
function takeSums(frame) {
  const pools = new Map(frame.pools.map((/** @type {any} */ each) => [each.name, each]));
  past.push({ at: frame.at, time: Date.now() / 1000, pools });
  while (past.length > 2 && frame.at - past[1].at >= WINDOW_S) past.shift();
  const names = [...pools.keys()];
  for (const name of ["", ...names]) {
    const made = figures(name ? [name] : names);
    const kept = state.history.get(name) ?? [];
    if (made) kept.push(made);
    while (kept.length && made && made.time - kept[0].time > KEPT_S) kept.shift();
    state.history.set(name, kept);
  }
}

/** Figures of the last seconds, of some pools together. @param {string[]} names */
function figures(names) {
  const now = past[past.length - 1], before = past[0];
  const seconds = now.at - before.at;
  if (seconds <= 0) return null;
  /** @param {string} field */
  const grown = (field) => sum(names, (name) => (now.pools.get(name)?.[field] ?? 0) - (before.pools.get(name)?.[field] ?? 0));
  /** @param {string} field */
  const counts = (field) => names.map((name) => difference(now.pools.get(name)?.[field], before.pools.get(name)?.[field])).reduce(added, []);
  const asked = grown("looked_up"), ttft = counts("ttft"), ratio = counts("ttft_ratio");
  return {
    time: now.time,
    rate: grown("requests") / seconds,
    failed: (grown("failed") + grown("refused")) / seconds,
    hit_rate: asked > 0 ? grown("hits") / asked : null,
    p50: quantile(ttft, state.ttftBounds, 0.5),
    p95: quantile(ttft, state.ttftBounds, 0.95),
    ratio: quantile(ratio, state.ratioBounds, 0.5),
    inflight: sum(names, (name) => now.pools.get(name)?.inflight ?? 0),
  };
}

/** @param {string[]} names @param {(name: string) => number} of */
const sum = (names, of) => names.reduce((all, name) => all + of(name), 0);
/** @param {number[]} [now] @param {number[]} [before] */
const difference = (now = [], before = []) => now.map((count, at) => count - (before[at] ?? 0));
/** @param {number[]} one @param {number[]} other */
const added = (one, other) => other.map((count, at) => count + (one[at] ?? 0));

/** From cumulative counts by bucket, interpolated inside the bucket. @param {number[]} totals @param {number[]} bounds @param {number} q */
export function quantile(totals, bounds, q) {
  const all = totals[totals.length - 1] ?? 0;
  if (!all) return null;
  const wanted = q * all;
  const at = totals.findIndex((total) => total >= wanted);
  if (at >= bounds.length) return bounds[bounds.length - 1];
  const low = at ? bounds[at - 1] : 0, under = at ? totals[at - 1] : 0;
  return low + ((bounds[at] - low) * (wanted - under)) / Math.max(1, totals[at] - under);
}

/** The newest figures of a pool, of all for "". @param {string} pool */
export const latest = (pool) => state.history.get(pool)?.at(-1);

/** @param {string} pool */
export const podsOf = (pool) => (pool ? [...state.pods.values()].filter((pod) => pod.pool === pool) : [...state.pods.values()]);

export const mayChange = () => state.role === "operate";
