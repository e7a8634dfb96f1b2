// @ts-check
/** Elements and the words for numbers. Knows no state and no API. */

/**
 * An element. Properties that begin with `on` are listeners, `class` and names with a dash are attributes.
 * @param {string} tag
 * @param {Record<string, any> | null} props
 * @param {...(Node | string | number | null | undefined | false)} children
 * @returns {any}
 */
export function h(tag, props, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class" || name === "role" || name === "for" || name.includes("-")) made.setAttribute(name, value);
    else /** @type {any} */ (made)[name] = value;
  }
  made.append(...keep(children));
  return made;
}

/** @param {any[]} children */
const keep = (children) => children.filter((each) => each !== null && each !== undefined && each !== false).map((each) => (each instanceof Node ? each : String(each)));

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** Write a text only where it differs, so that a second without changes costs no layout. @param {Node} node @param {string} text */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Replace the children of an element. @param {Element} parent @param {...any} children */
export const fill = (parent, ...children) => parent.replaceChildren(...keep(children));

/** The variable of a colour, as it is now. @param {string} name */
export function colour(name) {
  const probe = byId("colour-probe") ?? document.body.appendChild(h("i", { id: "colour-probe", hidden: true }));
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

export const NONE = "–";

/** @param {number | null | undefined} value */
const known = (value) => typeof value === "number" && Number.isFinite(value);

/** @param {number | null | undefined} value @param {number} [digits] */
export function number(value, digits = 0) {
  if (!known(value)) return NONE;
  const size = Math.abs(/** @type {number} */ (value));
  if (size >= 1e9) return `${(value / 1e9).toFixed(1)} G`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(size >= 1e5 ? 0 : 1)} k`;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  const size = Math.abs(/** @type {number} */ (seconds));
  if (size === 0) return "0";
  if (size < 1e-3) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (size < 0.9995) return `${(seconds * 1e3).toFixed(size < 0.01 ? 1 : 0)} ms`;
  if (size < 100) return `${seconds.toFixed(size < 10 ? 2 : 1)} s`;
  if (size < 7200) return `${Math.round(seconds / 60)} min`;
  if (size < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** @param {number | null | undefined} share @param {number} [digits] */
export const percent = (share, digits = 0) => (known(share) ? `${(share * 100).toFixed(digits)} %` : NONE);

/** A name from the right end, where names of pods differ. @param {string} name @param {number} most */
export const tail = (name, most) => (name.length > most ? `…${name.slice(1 - most)}` : name);

/** A share as a bar with its number beside it. @param {number} share @param {string} text @param {string} [tone] */
export function meter(share, text, tone = "") {
  const inner = h("i", { class: tone });
  inner.style.width = `${Math.min(100, Math.max(0, share * 100))}%`;
  return h("span", { class: "meter" }, h("span", { class: "track", "aria-hidden": "true" }, inner), h("span", {}, text));
}

/** A short message at the corner. @param {string} text @param {boolean} [bad] */
export function toast(text, bad = false) {
  const made = h("div", { class: bad ? "toast bad" : "toast" }, text);
  byId("toasts").append(made);
  setTimeout(() => made.remove(), 8000);
}
