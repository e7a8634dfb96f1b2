// @ts-check
/** Starts the console: follows the live state, shows one view at a time, keeps the token and the colour scheme. */
import { follow, token } from "./api.js";
import * as decisions from "./decisions.js";
import { close, open } from "./dialog.js";
import { byId, h, say } from "./dom.js";
import * as fleet from "./fleet.js";
import { drawReplicas, drawTenants } from "./people.js";
import * as policies from "./policies.js";
import { apply, state } from "./state.js";

const VIEWS = /** @type {Record<string, () => void>} */ ({ fleet: fleet.draw, policies: policies.draw, decisions: decisions.draw, tenants: drawTenants, replicas: drawReplicas });
const THEMES = ["system", "light", "dark"];

let following = new AbortController();
let due = false;
let first = 0;

const current = () => (location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "fleet");

function show() {
  for (const name of Object.keys(VIEWS)) byId(`view-${name}`).hidden = name !== current();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${current()}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  draw();
}

function draw() {
  if (!state.replica) return;
  VIEWS[current()]();
  if (first) performance.measure("console-draw", { start: first, end: performance.now() });
  first = 0;
  if (current() === "fleet") requestAnimationFrame(fleet.drawCharts);
}

/** @param {string} event @param {any} data */
function take(event, data) {
  if (event === "caller") {
    Object.assign(state, { role: data.role, caller: data.name });
    say(byId("token-button"), data.name || "Token");
    return;
  }
  if (data.fields) first = performance.now();
  apply(data);
  document.title = `${state.replica.replica} · Turnout console`;
  if (due) return;
  due = true;
  // A page in the background draws nothing, and keeps up all the same.
  requestAnimationFrame(() => { due = false; draw(); });
}

/** @param {"live" | "lost" | "token"} how @param {string} why */
function status(how, why) {
  const pill = byId("link"), banner = byId("banner");
  const phase = state.replica?.phase;
  const words = how === "live" ? (phase === "ready" || !phase ? "live" : phase) : how === "lost" ? "reconnecting" : "token needed";
  say(pill, words);
  pill.className = `pill ${how === "live" ? (words === "live" ? "good" : "warn") : "bad"}`;
  banner.hidden = how !== "lost";
  if (how === "lost") say(banner, `The figures below are old: ${why}. Trying again.`);
  if (how === "token") askToken(token.get() ? why : "");
}

function restart() {
  following.abort();
  following = new AbortController();
  follow(take, status, following.signal);
}

/** @param {string} problem */
function askToken(problem) {
  byId("dialog").dataset.kind = "token";
  const field = h("input", { id: "f-token", type: "password", autocomplete: "off", required: true, value: token.get() });
  const save = (/** @type {Event} */ event) => { event.preventDefault(); token.set(field.value.trim()); close(); restart(); };
  open("Token of the control port", h("form", { id: "token-form", onsubmit: save }, h("p", { class: "lead" }, "It is kept in this tab until the tab is closed."), h("label", { class: "field" }, "Token", field)),
    [h("button", { type: "button", class: "quiet", onclick: () => { token.set(""); close(); restart(); } }, "Forget"), h("button", { type: "submit", class: "primary", "data-go": "" }, "Use it")]);
  byId("dialog").querySelector("[data-go]").setAttribute("form", "token-form");
  say(byId("dialog-problem"), problem);
  field.focus();
}

/** @param {string} name */
function theme(name) {
  if (name === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = name;
  localStorage.setItem("turnout-theme", name);
  const button = byId("theme");
  button.setAttribute("aria-label", `Colour scheme: ${name === "system" ? "as the system" : name}`);
  say(button, { system: "◐", light: "☀", dark: "☾" }[name] ?? "◐");
}

theme(THEMES.includes(localStorage.getItem("turnout-theme") ?? "") ? /** @type {string} */ (localStorage.getItem("turnout-theme")) : "system");
byId("theme").addEventListener("click", () => {
  theme(THEMES[(THEMES.indexOf(localStorage.getItem("turnout-theme") ?? "system") + 1) % THEMES.length]);
  fleet.restyle();
  draw();
});
byId("token-button").addEventListener("click", () => askToken(""));
byId("dialog").addEventListener("close", () => { delete byId("dialog").dataset.kind; });
addEventListener("hashchange", () => { show(); byId("main").focus({ preventScroll: true }); scrollTo(0, 0); });
addEventListener("resize", () => draw());
fleet.begin();
decisions.begin();
say(byId("link"), "connecting");
show();
restart();
