// @ts-check
/**
 * A table of many rows, of which only those in sight are elements. Rows keep their order while the pointer or the focus is
 * inside, so that none moves away under a click. Knows no pod.
 */
import { h, say } from "./dom.js";

/** @typedef {{key: string, label: string, title?: string, hint?: string, rank: number, sort: (item: any) => number | string, make: () => {node: Node, set: (item: any) => void}}} Column */

const ROW = 38;
const BEYOND = 6;

/** A column of plain text. @param {(item: any) => string} text @returns {() => {node: Node, set: (item: any) => void}} */
export const textCell = (text) => () => {
  const node = document.createTextNode("");
  return { node, set: (item) => say(node, text(item)) };
};

export class Table {
  /** @param {HTMLElement} box @param {Column[]} columns @param {{label: string, sortBy: string}} options */
  constructor(box, columns, { label, sortBy }) {
    this.box = box;
    this.columns = columns;
    this.sortBy = sortBy;
    this.down = false;
    /** @type {any[]} */
    this.items = [];
    /** @type {Map<number, any>} Row elements by index. */
    this.rows = new Map();
    /** @type {any[]} */
    this.spare = [];
    this.above = h("tr", { class: "gap", "aria-hidden": "true" }, h("td", { colSpan: columns.length }));
    this.below = h("tr", { class: "gap", "aria-hidden": "true" }, h("td", { colSpan: columns.length }));
    this.body = h("tbody", {}, this.above, this.below);
    this.heads = columns.map((each) => this.head(each));
    this.table = h("table", { "aria-label": label }, h("thead", {}, h("tr", { "aria-rowindex": "1" }, ...this.heads)), this.body);
    this.empty = h("p", { class: "empty", hidden: true });
    box.replaceChildren(this.table, this.empty);
    box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(box);
  }

  /** @param {Column} column */
  head(column) {
    const press = () => {
      this.down = this.sortBy === column.key ? !this.down : column.key !== "id";
      this.sortBy = column.key;
      this.show(this.items, true);
    };
    return h("th", { scope: "col", class: `r${column.rank}` }, h("button", { type: "button", title: column.hint, onclick: press }, column.label));
  }

  /** Show these items. @param {any[]} items @param {boolean} [again] Sort although the pointer is inside. */
  show(items, again = false) {
    const sort = this.columns.find((each) => each.key === this.sortBy)?.sort ?? (() => 0);
    if (!again && this.box.matches(":hover, :focus-within") && this.items.length) {
      const present = new Map(items.map((each) => [each.id, each]));
      const kept = this.items.map((each) => present.get(each.id)).filter(Boolean);
      const known = new Set(kept);
      this.items = [...kept, ...items.filter((each) => !known.has(each))];
    } else {
      const sign = this.down ? -1 : 1;
      const by = items.map((each) => /** @type {[any, any]} */ ([sort(each), each]));
      by.sort(([a, one], [b, other]) => (a < b ? -sign : a > b ? sign : one.id < other.id ? -1 : 1));
      this.items = by.map(([, each]) => each);
    }
    this.columns.forEach((each, at) => {
      const state = each.key === this.sortBy ? (this.down ? "descending" : "ascending") : "none";
      if (this.heads[at].getAttribute("aria-sort") !== state) this.heads[at].setAttribute("aria-sort", state);
    });
    this.table.setAttribute("aria-rowcount", String(this.items.length + 1));
    this.draw();
  }

  draw() {
    const count = this.items.length, height = this.box.clientHeight || 600;
    const first = Math.max(0, Math.min(count, Math.floor(this.box.scrollTop / ROW) - BEYOND));
    const last = Math.min(count, first + Math.ceil(height / ROW) + 2 * BEYOND);
    for (const [at, row] of this.rows) {
      if (at >= first && at < last) continue;
      if (row.element.contains(document.activeElement)) this.box.focus({ preventScroll: true });
      row.element.remove();
      this.rows.delete(at);
      this.spare.push(row);
    }
    for (let at = last - 1, next = this.below; at >= first; at -= 1) {
      let row = this.rows.get(at);
      if (!row) {
        row = this.spare.pop() ?? this.row();
        row.element.setAttribute("aria-rowindex", String(at + 2));
        this.rows.set(at, row);
        this.body.insertBefore(row.element, next);
      }
      for (const cell of row.cells) cell.set(this.items[at]);
      next = row.element;
    }
    this.above.firstChild.style.height = `${first * ROW}px`;
    this.below.firstChild.style.height = `${(count - last) * ROW}px`;
  }

  row() {
    const cells = this.columns.map((each) => each.make());
    return { cells, element: h("tr", {}, ...cells.map((each, at) => h("td", { class: `r${this.columns[at].rank}` }, each.node))) };
  }
}
