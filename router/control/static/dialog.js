// @ts-check
/** The one dialog, and what is done about a refused request. */
import { byId, fill, h, toast } from "./dom.js";
import { mayChange } from "./state.js";

/**
 * Open it. The last argument may be a list of buttons.
 * @param {string} title @param {...any} parts
 */
export function open(title, ...parts) {
  const dialog = byId("dialog");
  const buttons = Array.isArray(parts.at(-1)) ? parts.pop() : [];
  const note = buttons.length && !mayChange() && dialog.dataset.kind !== "token" ? h("p", { class: "lead" }, "This token may read only; changes need the role operate.") : null;
  const cancel = h("button", { type: "button", class: "quiet", onclick: close }, buttons.length ? "Cancel" : "Close");
  fill(dialog, h("h2", { id: "dialog-title" }, title), ...parts, h("p", { id: "dialog-problem", class: "problem", role: "alert" }), note, h("div", { class: "buttons" }, cancel, ...buttons));
  if (!dialog.open) dialog.showModal();
}

export const close = () => byId("dialog").close();

/** Do it; a refusal is shown in the open dialog, or at the corner. @param {() => Promise<any>} work @returns {Promise<any>} */
export async function attempt(work) {
  const problem = byId("dialog").open ? byId("dialog-problem") : null;
  try {
    if (problem) problem.textContent = "";
    return await work();
  } catch (error) {
    const words = /** @type {Error} */ (error).message;
    if (problem && byId("dialog").open) byId("dialog-problem").textContent = words;
    else toast(words, true);
    return undefined;
  }
}
