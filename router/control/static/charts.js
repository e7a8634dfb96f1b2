// @ts-check
/** Lines over the last minutes, drawn by uPlot. Knows which figures there are and how each is written. */
import { colour, duration, h, NONE, number, percent, say } from "./dom.js";

/** @typedef {{field: string, label: string, tone: string, write: (value: any) => string}} Series */
/** @type {{title: string, series: Series[]}[]} */
const CHARTS = [
  { title: "Requests a second", series: [
    { field: "rate", label: "ended", tone: "--accent", write: (v) => number(v, 1) },
    { field: "failed", label: "failed or refused", tone: "--bad", write: (v) => number(v, 1) }] },
  { title: "Time to first token", series: [
    { field: "p50", label: "p50", tone: "--accent", write: duration },
    { field: "p95", label: "p95", tone: "--warn", write: duration }] },
  { title: "Prefix hit rate", series: [{ field: "hit_rate", label: "of prompt tokens", tone: "--good", write: (v) => percent(v) }] },
  { title: "In flight", series: [{ field: "inflight", label: "requests", tone: "--accent", write: (v) => number(v) }] },
];

export class Charts {
  /** @param {HTMLElement} box */
  constructor(box) {
    this.parts = CHARTS.map(({ title, series }) => {
      const legend = series.map((each) => {
        const mark = h("i", { class: "mark", "aria-hidden": "true" }), value = h("b", {}, NONE);
        mark.style.background = `var(${each.tone})`;
        return { value, node: h("span", {}, mark, `${each.label} `, value) };
      });
      const plot = h("div", { class: "plot", "aria-hidden": "true" });
      box.append(h("figure", { class: "card chart" }, h("figcaption", {}, h("h2", {}, title), h("div", { class: "legend" }, ...legend.map((each) => each.node))), plot));
      /** @type {any} */
      return { series, legend, plot, chart: null };
    });
    new ResizeObserver(() => this.resize()).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.restyle());
  }

  /** @param {any[]} history */
  draw(history) {
    for (const part of this.parts) {
      const rows = [history.map((each) => each.time), ...part.series.map((/** @type {Series} */ s) => history.map((each) => each[s.field]))];
      if (!part.chart) part.chart = this.make(part, rows);
      else part.chart.setData(rows);
      if (part.chart.cursor.idx == null) this.say(part, history.length - 1);
    }
  }

  /** @param {any} part @param {number | null} at */
  say(part, at) {
    part.series.forEach((/** @type {Series} */ each, /** @type {number} */ n) => say(part.legend[n].value, at === null || at < 0 ? NONE : each.write(part.chart.data[n + 1][at])));
  }

  /** @param {any} part @param {any[]} rows */
  make(part, rows) {
    const line = colour("--line"), ink = colour("--muted"), font = "11px system-ui, sans-serif";
    const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const write = part.series[0].write;
    // @ts-ignore uPlot is a script of its own.
    return new uPlot({
      width: part.plot.clientWidth || 300, height: 120, legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { y: { range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => [0, (high || 1) * 1.15] } },
      axes: [
        { ...axis, size: 24, space: 70, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300], values: (/** @type {any} */ _, /** @type {number[]} */ at) => at.map((each) => new Date(each * 1000).toTimeString().slice(0, 8)) },
        { ...axis, size: 52, space: 32, values: (/** @type {any} */ _, /** @type {number[]} */ at) => at.map((each) => write(each)) },
      ],
      series: [{}, ...part.series.map((/** @type {Series} */ each, /** @type {number} */ n) => ({
        stroke: colour(each.tone), width: 1.75, points: { show: false }, spanGaps: true,
        fill: n === 0 ? colour(each.tone).replace("rgb(", "rgba(").replace(")", ", .1)") : undefined }))],
      hooks: { setCursor: [(/** @type {any} */ chart) => part.chart && this.say(part, chart.cursor.idx ?? chart.data[0].length - 1)] },
    }, rows, part.plot);
  }

  resize() {
    for (const { chart, plot } of this.parts) if (chart && plot.clientWidth) chart.setSize({ width: plot.clientWidth, height: 120 });
  }

  /** Draw in the colours of another scheme. */
  restyle() {
    for (const part of this.parts) {
      const rows = part.chart?.data;
      part.chart?.destroy();
      part.chart = rows ? this.make(part, rows) : null;
    }
  }
}
