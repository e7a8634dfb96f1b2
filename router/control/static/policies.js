// @ts-check
/** Policies: what decides in each pool, what is tried beside it with its figures, the history, and every change. */
import { ask } from "./api.js";
import { attempt, close, open } from "./dialog.js";
import { byId, duration, fill, h, NONE, number, percent, say, toast } from "./dom.js";
import { mayChange, state } from "./state.js";

/** @typedef {{card: any, now: any, trial: any, history: any, shown: string, asked: number, generation: number | null, report: any}} Card */
/** @type {Map<string, Card>} */
const cards = new Map();
const TRIAL_EVERY_MS = 2000;

/** @param {string} pool @param {string} rest */
const pathOf = (pool, rest) => `/admin/pools/${encodeURIComponent(pool)}/${rest}`;
/** @param {any} record */
const version = (record) => `${record.generation}-${record.digest}`;
/** @param {any} choice */
const named = (choice) => (Object.keys(choice.params).length ? `${choice.policy} ${JSON.stringify(choice.params)}` : choice.policy);
/** @param {string} pool */
const recordOf = (pool) => state.pools.find((each) => each.name === pool);

export function draw() {
  const box = byId("policy-cards");
  for (const record of state.pools) {
    const card = cards.get(record.name) ?? made(record.name, box);
    drawRecord(card, record);
    refresh(card, record);
  }
}

/** @param {string} pool @param {Element} box @returns {Card} */
function made(pool, box) {
  const now = h("div", { class: "record" }), trial = h("div", { class: "trial" }), history = h("ol", { class: "history" });
  const card = h("article", { class: "card", "data-pool": pool }, now, trial, h("details", { open: true }, h("summary", {}, "History"), history));
  box.append(card);
  const entry = { card, now, trial, history, shown: "", asked: 0, generation: null, report: null };
  cards.set(pool, entry);
  return entry;
}

/** @param {Card} card @param {any} record */
function drawRecord(card, record) {
  const shown = JSON.stringify([record.generation, record.digest, record.local, record.taken_out, record.waits_for, record.shadow, record.canary, mayChange()]);
  if (card.shown === shown) return;
  card.shown = shown;
  const pool = record.name, held = card.now.contains(document.activeElement) ? /** @type {any} */ (document.activeElement).dataset.act : "";
  const params = Object.entries(record.params);
  const button = act(pool);
  fill(card.now,
    h("div", { class: "who" }, h("h2", {}, pool), h("p", { class: "policy" }, h("b", {}, record.policy), ...params.map(([name, value]) => h("code", {}, `${name}=${JSON.stringify(value)}`))),
      h("p", { class: "lead" }, `generation ${record.generation}`, record.by ? ` · by ${record.by}` : "", record.at ? ` · ${new Date(record.at * 1000).toLocaleString()}` : "", record.note ? ` · ${record.note}` : "")),
    h("div", { class: "buttons" },
      button("change", "Change policy", "primary", () => changeDialog(pool)),
      record.canary && button("promote", "Promote canary", "", () => confirmed(pool, "Promote the canary", `${named(record.canary)} decides every request of ${pool}.`, "POST", "promote", { force: true })),
      record.canary && button("end-canary", "End canary", "", () => confirmed(pool, "End the canary", `${record.policy} decides every request again.`, "DELETE", "canary")),
      record.shadow && button("end-shadow", "End shadow", "", () => confirmed(pool, "End the shadow", `${named(record.shadow)} is not asked any more.`, "DELETE", "shadow")),
      button("rollback", "Roll back", "", () => confirmed(pool, "Roll back", "The policy before this one returns; shadow and canary end.", "POST", "rollback", { body: {} }), !record.generation)),
    record.taken_out && h("p", { class: "banner" }, `Taken out: ${record.taken_out}. The safe policy decides until one is set.`),
    record.local && h("p", { class: "banner" }, "On this replica alone, while the shared state is away."),
    record.waits_for && h("p", { class: "banner" }, `A newer record waits: ${record.waits_for}`));
  if (held) card.now.querySelector(`[data-act="${held}"]`)?.focus();
}

/** @param {string} pool */
const act = (pool) => (/** @type {string} */ name, /** @type {string} */ label, /** @type {string} */ tone, /** @type {() => void} */ press, off = false) =>
  h("button", { type: "button", class: tone || "quiet", "data-act": name, "aria-label": `${label}, pool ${pool}`, disabled: off || !mayChange(), onclick: press }, label);

/** Ask for what frames do not have: the history after a change, the trial's figures while one runs. @param {Card} card @param {any} record */
async function refresh(card, record) {
  const changed = card.generation !== record.generation, tried = record.shadow || record.canary;
  if (!changed && (!tried || Date.now() - card.asked < TRIAL_EVERY_MS)) return;
  card.asked = Date.now();
  card.generation = record.generation;
  await attempt(async () => {
    const [report, history] = await Promise.all([ask("GET", pathOf(record.name, "trial")), changed ? ask("GET", pathOf(record.name, "history")) : null]);
    drawTrial(card, report);
    if (history) drawHistory(card, record.name, history);
  });
}

const GUARDS = /** @type {Record<string, [string, (v: any) => string]>} */ ({
  error_rate: ["Failed requests, above the baseline", (v) => percent(v, 2)],
  ttft_p50_ratio: ["TTFT p50 over the baseline's", (v) => `${number(v, 2)} ×`],
  ttft_p95_ratio: ["TTFT p95 over the baseline's", (v) => `${number(v, 2)} ×`],
  e2e_p95_ratio: ["Whole answer p95 over the baseline's", (v) => `${number(v, 2)} ×`],
  tpot_p50_ratio: ["Time per token p50 over the baseline's", (v) => `${number(v, 2)} ×`],
  pool_p95_ratio: ["The pool's TTFT p95 over what it was", (v) => `${number(v, 2)} ×`],
  policy_failures: ["Requests at which it failed itself", (v) => percent(v, 2)],
});

/** @param {Card} card @param {any} report */
function drawTrial(card, report) {
  const { canary, shadow, last } = report;
  const ended = !canary && !shadow && last?.canary;
  const scroll = card.trial.querySelector("details")?.open;
  fill(card.trial, canary && canaryPart(canary, false), shadow && shadowPart(shadow), ended && canaryPart(last.canary, true, last.ended));
  const words = card.trial.querySelector("details");
  if (words && scroll) words.open = true;
}

/** @param {any} canary @param {boolean} ended @param {string} [why] */
function canaryPart(canary, ended, why = "") {
  const tone = /** @type {Record<string, string>} */ ({ broken: "bad", within: "good" })[canary.state] ?? "";
  const { baseline, canary: arm } = canary.arms;
  const rows = Object.entries(canary.comparisons).map(([guard, each]) => comparison(guard, each));
  return h("section", { class: ended ? "part old" : "part" },
    h("h3", {}, ended ? "Last canary: " : "Canary: ", named(canary), h("span", { class: `pill ${tone}` }, ended ? "ended" : canary.state)),
    h("p", { class: "lead" }, ended ? why || canary.verdict : `${number(canary.percent, 2)} % of ${canary.switchback_s ? "spans" : "sessions"} · ${canary.verdict}`),
    h("div", { class: "two" }, figures(["", "Baseline", "Canary"], [
      ["Requests", number(baseline.requests), number(arm.requests)], ["Failed", number(baseline.failures), number(arm.failures)],
      ["TTFT p50", bounds(baseline.ttft_s.p50, duration), bounds(arm.ttft_s.p50, duration)], ["TTFT p95", bounds(baseline.ttft_s.p95, duration), bounds(arm.ttft_s.p95, duration)],
      ["Time per token p50", bounds(baseline.tpot_s.p50, duration), bounds(arm.tpot_s.p50, duration)],
      ["Prefix hits", bounds(baseline.hit_rate, percent), bounds(arm.hit_rate, percent)]]),
    rows.length ? h("div", { class: "comparisons" }, h("h4", {}, `Compared, at ${percent(canary.guard.confidence, 1)} confidence`), ...rows) : null),
    h("details", {}, h("summary", {}, "In words"), ...canary.words.map((/** @type {string} */ each) => h("p", {}, each))));
}

/** @param {any} shadow */
function shadowPart(shadow) {
  const { live, shadow: other } = shadow;
  return h("section", { class: "part" },
    h("h3", {}, "Shadow: ", named(shadow), h("span", { class: shadow.off ? "pill bad" : "pill" }, shadow.off ? "off" : "watching")),
    h("p", { class: "lead" }, shadow.off || `${number(shadow.compared)} requests compared · same pod ${bounds(shadow.agreement, percent)}`),
    figures(["", "Decides", "Shadow"], [
      ["Predicted TTFT", duration(live.predicted_ttft_s), duration(other.predicted_ttft_s)], ["Predicted hits", percent(live.predicted_hit_rate), percent(other.predicted_hit_rate)],
      ["Imbalance", number(live.imbalance, 2), number(other.imbalance, 2)], ["Pick p50", `${number(live.pick_us.p50, 1)} µs`, `${number(other.pick_us.p50, 1)} µs`]]));
}

/** @param {any} interval @param {(v: any) => string} write */
const bounds = (interval, write) => (interval ? `${write(interval.value)} (${write(interval.low)} to ${interval.high === null ? "?" : write(interval.high)})` : NONE);

/** @param {string[]} heads @param {any[][]} rows */
function figures(heads, rows) {
  return h("div", { class: "scroll", tabIndex: 0, role: "group", "aria-label": "Figures" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...heads.map((each) => (each ? h("th", { scope: "col" }, each) : h("td", {}))))),
    h("tbody", {}, ...rows.map(([name, ...cells]) => h("tr", {}, h("th", { scope: "row" }, name), ...cells.map((each) => h("td", {}, each)))))));
}

/** An estimate with its bounds beside its limit, as a line and in words. @param {string} guard @param {any} of */
function comparison(guard, of) {
  const [label, write] = GUARDS[guard] ?? [guard, (/** @type {any} */ v) => number(v, 3)];
  const known = of.value !== undefined && of.value !== null;
  const most = Math.max(of.limit ?? 0, known ? Math.min(of.high ?? of.value * 2, of.value * 3) : 0, 1e-9) * 1.2;
  /** @param {number} value */
  const place = (value) => `${Math.min(100, Math.max(0, (value / most) * 100))}%`;
  const range = h("i", { class: "range" }), point = h("i", { class: "point" }), limit = h("i", { class: "limit" });
  if (known) {
    range.style.left = place(of.low ?? 0);
    range.style.right = `calc(100% - ${place(of.high ?? most)})`;
    point.style.left = place(of.value);
  }
  if (of.limit) limit.style.left = place(of.limit);
  const tone = of.broken ? "bad" : of.within ? "good" : "";
  const more = of.more_requests ? `, about ${number(of.more_requests)} more requests` : "";
  return h("div", { class: `comparison ${tone}` }, h("span", {}, label), h("span", { class: "interval", "aria-hidden": "true" }, known && range, known && point, of.limit && limit),
    h("span", { class: "words" }, `${bounds(known ? of : null, write)}${of.limit ? ` · limit ${write(of.limit)}` : ""} · ${of.broken ? "over" : of.within ? "below" : `undecided${more}`}`));
}

/** @param {Card} card @param {string} pool @param {any[]} records */
function drawHistory(card, pool, records) {
  fill(card.history, ...records.map((each, at) => h("li", {}, h("span", { class: "gen" }, `#${each.generation}`),
    h("span", { class: "grow" }, h("b", {}, named(each)), each.shadow ? ` + shadow ${each.shadow.policy}` : "", each.canary ? ` + canary ${each.canary.policy} ${each.canary.percent} %` : "",
      h("small", {}, [each.by && `by ${each.by}`, each.at && new Date(each.at * 1000).toLocaleString(), each.restores !== null && `restores #${each.restores}`, each.note].filter(Boolean).join(" · ") || "the settings")),
    at > 0 && h("button", { type: "button", class: "quiet", disabled: !mayChange(), "aria-label": `Restore generation ${each.generation} of ${pool}`,
      onclick: () => confirmed(pool, `Restore generation ${each.generation}`, `${named(each)} decides every request of ${pool}; shadow and canary end.`, "POST", "rollback", { body: { to: each.generation } }) }, "Restore"))));
}

/** A change that needs no more than a yes. @param {string} pool @param {string} title @param {string} words @param {string} method @param {string} rest @param {{body?: any, force?: boolean}} [how] */
function confirmed(pool, title, words, method, rest, { body, force = false } = {}) {
  const match = version(recordOf(pool));
  const note = h("input", { id: "f-note", maxLength: 500, autocomplete: "off" });
  const against = force && h("label", { class: "check" }, h("input", { type: "checkbox", id: "f-force" }), " also against what the trial found");
  const go = () => attempt(async () => {
    const query = { note: note.value, ...(force && byId("f-force").checked ? { force: "true" } : {}) };
    done(pool, await ask(method, pathOf(pool, rest), { match, body, query }));
  });
  open(`${title}: ${pool}`, h("p", {}, words), h("label", { class: "field" }, "Note for the history", note), against,
    [h("button", { type: "button", class: "primary", onclick: go }, title)]);
}

/** @param {string} pool @param {any} record */
function done(pool, record) {
  close();
  toast(`${pool}: generation ${record.generation}, ${record.policy}${record.shadow ? `, shadow ${record.shadow.policy}` : ""}${record.canary ? `, canary ${record.canary.policy}` : ""}`);
}

const KINDS = /** @type {[string, string, string][]} */ ([
  ["policy", "Replace", "decides every request from the next one on"],
  ["canary", "Canary", "decides a share of the sessions, under a guard"],
  ["shadow", "Shadow", "is asked beside the policy and decides nothing"],
]);

/** @param {string} pool */
function changeDialog(pool) {
  const record = recordOf(pool), match = version(record);
  const names = h("select", { id: "f-policy" }, ...state.policyNames.map((each) => h("option", { value: each, selected: each === record.policy }, each)));
  const params = h("textarea", { id: "f-params", rows: 3, spellcheck: false, value: "{}" });
  const share = h("input", { id: "f-percent", type: "number", min: "0.1", max: "99", step: "any", value: "10" });
  const shareField = h("label", { class: "field", hidden: true }, "Share of sessions, %", share);
  const note = h("input", { id: "f-note", maxLength: 500, autocomplete: "off" });
  const outcome = h("p", { class: "lead", role: "status" });
  const kinds = h("fieldset", { class: "kinds" }, h("legend", {}, "How"), ...KINDS.map(([value, label, words], at) =>
    h("label", {}, h("input", { type: "radio", name: "kind", value, checked: at === 0, onchange: () => { shareField.hidden = value !== "canary"; } }), h("b", {}, label), h("small", {}, words))));
  const put = async (/** @type {boolean} */ dry) => {
    outcome.textContent = "";
    const kind = kinds.querySelector("input:checked").value;
    const body = { policy: names.value, params: parsed(params.value), ...(kind === "canary" ? { percent: Number(share.value) } : {}) };
    const record = await ask("PUT", pathOf(pool, kind), { match, body, query: { note: note.value, ...(dry ? { dry_run: "true" } : {}) } });
    if (dry) say(outcome, `It would be generation ${record.generation}. Nothing is changed yet.`);
    else done(pool, record);
  };
  const form = h("form", { id: "change", onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); attempt(() => put(false)); } },
    kinds, h("label", { class: "field" }, "Policy", names), shareField, h("label", { class: "field" }, "Parameters, as JSON", params), h("label", { class: "field" }, "Note for the history", note), outcome);
  open(`Change policy: ${pool}`, form, [h("button", { type: "button", class: "quiet", onclick: () => attempt(() => put(true)) }, "Check"), h("button", { type: "submit", class: "primary", "data-go": "" }, "Apply")]);
  byId("dialog").querySelector("[data-go]").setAttribute("form", "change");
  kinds.querySelector("input").focus();
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text || "{}");
  } catch {
    throw new Error('parameters are a JSON object, such as {"k": 3}');
  }
}
