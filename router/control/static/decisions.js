// @ts-check
/** Sampled decisions: why a request went to its pod. */
import { byId, duration, fill, h, NONE, number, percent, tail } from "./dom.js";
import { state } from "./state.js";

const SHOWN = 12;
let paused = false;
let newest = 0;

export function begin() {
  const button = byId("decisions-pause");
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Resume" : "Pause";
    draw();
  });
}

export function draw() {
  const box = byId("decision-list"), first = state.decisions[0]?.number ?? 0;
  if (paused || (first === newest && box.childElementCount)) return;
  newest = first;
  if (!state.decisions.length) fill(box, h("p", { class: "empty" }, "No request since this page was opened."));
  else fill(box, ...state.decisions.slice(0, SHOWN).map(part));
}

/** Policies whose score is seconds, or a cost; others have a higher one for a better pod. */
const SECONDS = new Set(["prefix_aware", "slo_goodput"]);

/** @param {any} of */
function part(of) {
  const most = Math.max(...of.candidates.map((/** @type {any} */ each) => Math.abs(each.score ?? 0)), 1e-12);
  const scored = of.candidates.some((/** @type {any} */ each) => each.score);
  const write = (/** @type {any} */ score) => (!scored || score === null ? NONE : SECONDS.has(of.policy) ? duration(score) : number(score, 3));
  const heads = ["Pod", SECONDS.has(of.policy) ? "Cost" : "Score", "Cached", "Wait", "In flight", "KV", "Why"];
  const rows = of.candidates.map((/** @type {any} */ each, /** @type {number} */ at) => {
    const bar = h("i", {});
    bar.style.width = `${scored ? (Math.abs(each.score ?? 0) / most) * 100 : 0}%`;
    return h("tr", { class: at ? "" : "taken" }, h("th", { scope: "row", title: each.pod }, at ? "" : h("span", { class: "sr" }, "taken: "), tail(each.pod, 30)),
      h("td", {}, h("span", { class: "meter" }, scored && h("span", { class: "track", "aria-hidden": "true" }, bar), h("span", {}, write(each.score)))),
      h("td", {}, `${number(each.cached_tokens)} (${percent(each.cached_tokens / Math.max(1, of.prompt_tokens))})`), h("td", {}, duration(each.wait_s)),
      h("td", {}, number(each.inflight)), h("td", {}, percent(each.kv_usage)), h("td", { class: "why" }, each.reason || NONE));
  });
  return h("article", { class: "card decision" },
    h("h2", {}, of.rejected ? `Rejected: ${of.rejected}` : tail(of.candidates[0]?.pod ?? NONE, 40), h("span", { class: "pill" }, of.policy || "none")),
    h("p", { class: "lead" }, `${of.pool} · ${of.model || "no model"} · ${number(of.prompt_tokens)} prompt tokens${of.max_tokens ? `, at most ${number(of.max_tokens)} more` : ""} · ${number(of.routable)} pods, ${number(of.holders)} hold a prefix${of.attempt > 1 ? ` · attempt ${of.attempt}` : ""} · `, h("code", {}, tail(of.request_id, 16))),
    rows.length ? h("div", { class: "scroll", tabIndex: 0, role: "group", "aria-label": "Candidates" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...heads.map((each) => h("th", { scope: "col" }, each)))), h("tbody", {}, ...rows))) : null);
}
