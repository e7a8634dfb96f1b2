// @ts-check
/** Tenants with their limits, and replicas with the age of their view. */
import { ask } from "./api.js";
import { attempt, close, open } from "./dialog.js";
import { byId, duration, fill, h, meter, NONE, number, toast } from "./dom.js";
import { mayChange, state } from "./state.js";

const KINDS = /** @type {Record<string, string>} */ ({ requests: "requests a minute", tokens: "tokens a minute", slots: "at a time" });

export function drawTenants() {
  const box = byId("tenant-list");
  if (!state.tenants.length) return fill(box, h("p", { class: "empty" }, "No tenants: ", h("code", {}, "auth"), " and ", h("code", {}, "tenants"), " are not configured."));
  const heads = ["Tenant", "Requests", "Failed", "Refused", "Tokens", "Weight", "Priority", "Limits in use"];
  const rows = state.tenants.map((of) => h("tr", {}, h("th", { scope: "row" }, of.name), ...[of.requests, of.failed, of.refused, of.tokens, of.weight, of.priority].map((each) => h("td", {}, number(each, 1))),
    h("td", { class: "limits" }, ...(of.limits.length ? of.limits.map(limit) : ["none"]))));
  fill(box, h("div", { class: "card scroll", tabIndex: 0, role: "group", "aria-label": "Tenants" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ...heads.map((each) => h("th", { scope: "col" }, each)))), h("tbody", {}, ...rows))),
    h("p", { class: "lead" }, "Counts are this replica's since its start; limits are its share of them where several replicas serve a tenant."));
}

/** @param {any} of */
function limit(of) {
  const used = Math.max(0, of.most - of.left), share = used / of.most;
  return meter(share, `${number(used)} of ${number(of.most)} ${KINDS[of.kind] ?? of.kind}`, share > 0.95 ? "bad" : share > 0.8 ? "warn" : "");
}

let shown = "";

export function drawReplicas() {
  const of = state.replica;
  if (!of) return;
  const box = byId("replica-list"), link = of.state;
  if (shown !== of.replica) {
    shown = of.replica;
    const drain = () => open(`Drain ${of.replica}`, h("p", {}, "It leaves service as on SIGTERM: it accepts no more, finishes what is in flight, and ends."),
      [h("button", { type: "button", class: "danger", onclick: () => attempt(async () => { await ask("POST", "/admin/drain"); close(); toast("The replica drains"); }) }, "Drain this replica")]);
    fill(box, h("article", { class: "card" }, h("div", { class: "record" }, h("div", { class: "who" }, h("h2", {}, of.replica), h("p", { class: "lead" }, `version ${of.version}, this replica`)), h("div", { class: "buttons" }, h("button", { type: "button", class: "danger", id: "drain-replica", onclick: drain }, "Drain"))), h("dl", { class: "details", id: "replica-facts" })), h("div", { id: "replica-table" }));
  }
  byId("drain-replica").disabled = !mayChange() || of.phase !== "ready";
  const rows = [
    ["Phase", `${of.phase}${of.cold ? ", cold" : ""}, for ${duration(of.phases[of.phase])}`], ["In flight", `${number(of.inflight)} at pods, ${number(of.active)} not ended, ${number(of.waiting)} waiting`],
    ["Client connections", number(of.connections)], ["Age of its view", duration(of.view_age_s)], ["Engines it reads for all", number(of.pods_scraped)],
    ["Shared state", link.connected ? `connected, ${number(link.round_trips)} round trips, ${number(link.reconnects)} reconnects` : `away: ${link.error}`],
    ["Waits for", of.waits_for.join(", ") || NONE],
  ];
  fill(byId("replica-facts"), ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  fill(byId("replica-table"), h("div", { class: "card scroll", tabIndex: 0, role: "group", "aria-label": "Replicas" }, h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, ...["Replica", "Age of what is known of it", "Lease left"].map((each) => h("th", { scope: "col" }, each)))),
    h("tbody", {}, ...of.replicas.map((/** @type {any} */ each) => h("tr", {}, h("th", { scope: "row" }, each.id), h("td", {}, each.id === of.replica ? "this one" : duration(each.age_s)), h("td", {}, duration(each.lease_left_s))))))));
}
