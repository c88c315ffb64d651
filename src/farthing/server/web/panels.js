// The panels beside the chat: what each shows of a ledger document. Knows farthing.ledger/1, not where it is from.
//
// A panel is a node and `show(ledger)`, which changes texts and paths in place: nothing flickers or loses focus.

import { file } from "./api.js";
import { h, notify } from "./dom.js";
import { count, dollars, percent, seconds, short, times } from "./format.js";
import { has, language, say } from "./labels.js";
import { Bar, Lines, Rows } from "./plots.js";

const MAX_FINDINGS = 5;
const BUCKET_SECONDS = 2; // between two points of the history
const SPANS = [1, 2, 5]; // minutes; the ledger has five
const SHARES = [0.05, 0.1, 0.25, 0.5, 1]; // where a plot of shares may end
const LEAST_PART = 0.005; // of the time; less is left out of the legend

class Panel {
  #value = h("strong");
  #unit = h("span", { class: "unit" });

  constructor(name, ...parts) {
    const head = h("h3", {}, say(name));
    this.node = h("section", { class: `panel panel-${name}` }, h("div", { class: "head" }, head,
      h("span", { class: "value" }, this.#value, " ", this.#unit)), ...parts.map((part) => part.node ?? part));
  }

  set(value, unit = "") {
    this.#value.textContent = value;
    this.#unit.textContent = unit;
  }
}

/** All of them, in their order. */
export const panels = () =>
  [speed(), limit(), why(), kv(), queue(), money(), latency(), plan(), gpus()];

function speed() {
  const lines = new Lines(["accent"]);
  const rows = new Rows();
  const panel = new Panel("speed", lines, rows);
  return { node: panel.node, show(ledger) {
    const { rates, tokens, recent } = ledger;
    panel.set(short(rates.output_tokens_per_second), say("tokensPerSecond"));
    draw(lines, ledger, ["output_tokens_per_second"], { name: "speed", tell: rate });
    rows.show([
      [say("decode"), rate(recent.decode.tokens_per_second)],
      [say("prefill"), rate(recent.prefill.tokens_per_second)],
      [say("outTokens"), short(tokens.output)],
      [say("inTokens"), short(tokens.prompt)],
    ]);
  } };
}

function limit() {
  const lines = new Lines(["accent"]);
  const rows = new Rows();
  const panel = new Panel("limit", lines, rows);
  panel.node.title = say("limitHint");
  return { node: panel.node, show(ledger) {
    const { decode, prefill } = ledger.recent;
    panel.set(percent(decode.share_of_limit ?? prefill.share_of_limit));
    draw(lines, ledger, ["share_of_limit"], { name: "limit", tell: percent, tops: SHARES, rests: null });
    const idle = !decode.steps && !prefill.steps;
    rows.show(idle ? [[say("idleNow"), ""]] : [
      [say("decode"), percent(decode.share_of_limit)],
      [say("prefill"), percent(prefill.share_of_limit)],
      [say("toForecast"), percent(decode.speed_to_forecast ?? prefill.speed_to_forecast)],
    ]);
  } };
}

function why() {
  const bar = new Bar();
  const legend = new Rows();
  const list = h("ol", { class: "findings" });
  const busy = h("span");
  const heading = h("h4", {}, h("span", {}, say("where")), busy);
  const panel = new Panel("why", list, heading, bar, legend);
  return { node: panel.node, show({ parts, why_slow: findings }) {
    list.replaceChildren(...(findings.length ? findings.slice(0, MAX_FINDINGS).map(finding)
      : [h("li", { class: "none" }, say("whyNothing"))]));
    const { idle, ...steps } = parts;
    const whole = Object.values(steps).reduce((sum, part) => sum + part, 0);
    const shares = Object.entries(steps).map(([name, part]) => [name, whole ? part / whole : 0])
      .sort(([, one], [, other]) => other - one);
    const told = shares.filter(([, share]) => share >= LEAST_PART);
    const window = whole + idle;
    busy.textContent = say("busy", { share: percent(whole / (window || 1)), time: seconds(Math.round(window)) });
    bar.show(shares, told.map(([name, share]) => `${nameOf(name)} ${percent(share)}`).join(", "));
    legend.show(told.map(([name, share]) => [nameOf(name), percent(share), { part: name }]));
  } };
}

/** Cause and remedy in the person's language where the page knows them; what was found, in the server's words. */
function finding({ cause, speeds, gain, what, remedy }) {
  const isOurs = has(`remedy_${cause}`);
  const advice = (isOurs ? say(`remedy_${cause}`) : remedy).split(/(--[a-z-]+)/)
    .map((part) => (part.startsWith("--") ? h("span", { class: "flag" }, part) : part));
  return h("li", {},
    h("div", { class: "cause" }, h("b", {}, nameOf(cause)), h("span", { class: "gain" }, times(gain))),
    h("p", { lang: isOurs ? null : "en" }, ...advice),
    h("small", {}, h("span", { lang: "en" }, what), " · ", say(speeds === "answers" ? "speedsAnswers" : "speedsThroughput")));
}

function nameOf(cause) {
  const label = [`cause_${cause}`, `part_${cause}`].find(has);
  return label ? say(label) : cause;
}

function kv() {
  const bar = new Bar();
  const rows = new Rows();
  const panel = new Panel("kv", bar, rows);
  return { node: panel.node, show({ kv: pool }) {
    panel.set(percent(pool.usage_ratio));
    const blocks = say("kvBlocks", { used: count(pool.used_blocks), all: count(pool.blocks) });
    const share = (part) => part / (pool.blocks || 1);
    bar.show([["accent", share(pool.used_blocks)], ["soft", share(pool.cached_blocks)]], blocks);
    rows.show([
      [say("kvUsed"), blocks, { part: "accent" }],
      [say("kvCached"), count(pool.cached_blocks), { part: "soft" }],
      [say("kvHits"), percent(pool.cache_hit_ratio)],
      [say("kvPreemptions"), count(pool.preemptions)],
    ]);
  } };
}

function queue() {
  const lines = new Lines(["accent", "waiting"]);
  const rows = new Rows();
  const panel = new Panel("queue", lines, rows);
  return { node: panel.node, show(ledger) {
    const { requests } = ledger;
    panel.set(count(requests.running + requests.waiting + requests.queued));
    draw(lines, ledger, ["running", "waiting"], { name: "queue", tell: count, tops: [2] });
    rows.show([
      [say("running"), count(requests.running), { part: "accent" }],
      [say("waitingCount"), count(requests.waiting + requests.queued), { part: "waiting" }],
      [say("ended"), count(requests.ended.stop)],
      [say("refused"), count(requests.refused)],
    ]);
  } };
}

function money() {
  const bar = new Bar();
  const rows = new Rows();
  const panel = new Panel("money", bar, rows);
  return { node: panel.node, show({ dollars: sums, price_dollars_per_hour: price, price_note: note }) {
    panel.set(sums ? dollars(sums.total) : "");
    bar.node.hidden = !sums;
    if (!sums) {
      rows.show([[say("noPrice"), ""]]);
      return;
    }
    const label = `${say("moneyRequests")} ${dollars(sums.requests)}, ${say("moneyIdle")} ${dollars(sums.idle)}`;
    bar.show([["accent", sums.requests / (sums.total || 1)], ["idle", sums.idle / (sums.total || 1)]], label);
    rows.show([
      [say("moneyRequests"), dollars(sums.requests), { part: "accent" }],
      [say("moneyIdle"), dollars(sums.idle), { part: "idle" }],
      [say("perMillion"), dollars(sums.per_million_output_tokens)],
      [say("perHour"), dollars(price), { hint: note }],
    ]);
  } };
}

function latency() {
  const body = h("tbody");
  const head = h("tr", {}, h("td"), h("th", { scope: "col" }, say("half")), h("th", { scope: "col" }, say("of99")));
  const panel = new Panel("latency", h("table", {}, h("thead", {}, head), body));
  return { node: panel.node, show({ latency: percentiles }) {
    const { ttft_seconds: ttft, itl_seconds: itl, request_seconds: requestTime } = percentiles;
    const of = { ttft, itl, requestTime };
    body.replaceChildren(...Object.entries(of).map(([name, values]) => h("tr", {}, h("th", { scope: "row" }, say(name)),
      h("td", {}, seconds(values?.p50)), h("td", {}, seconds(values?.p99)))));
  } };
}

/** What was planned, where a plan file is served: a page of its own, to keep. */
function plan() {
  const save = async () => {
    try {
      const url = URL.createObjectURL(await file(`farthing/report?lang=${language()}`));
      h("a", { href: url, download: "farthing-plan.html" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    } catch (error) {
      notify(error.message || say("state_lost"));
    }
  };
  const panel = new Panel("plan", h("button", { type: "button", class: "quiet", onclick: save }, say("planReport")));
  return { node: panel.node, show({ report }) {
    panel.node.hidden = !report?.length;
  } };
}

/** What the driver tells of each card; the panel is away where there is none. */
function gpus() {
  const rows = new Rows();
  const panel = new Panel("gpus", rows);
  return { node: panel.node, show({ gpus: cards }) {
    panel.node.hidden = !cards.length;
    rows.show(cards.map((card) => [card.name ?? say("gpu", { name: card.index }), gpuText(card)]));
  } };
}

function gpuText(card) {
  if (card.is_lost) return say("gpuLost");
  const isNarrow = card.link_width < card.link_width_max;
  return [
    known(card.power_watts) && `${count(card.power_watts)} / ${count(card.power_limit_watts)} W`,
    known(card.temperature_celsius) && `${count(card.temperature_celsius)} °C`,
    isNarrow && `PCIe ×${card.link_width} / ×${card.link_width_max}`,
    card.throttle_reasons.length > 0 && `${say("part_throttled")}: ${card.throttle_reasons.join(", ")}`,
  ].filter(Boolean).join(" · ");
}

const known = (value) => value !== null && value !== undefined;

const rate = (value) => (known(value) ? `${short(value)} ${say("tokensPerSecond")}` : "–");

/** The lines of some fields of the history, up to now. The ledger has no points for times at rest: there, `rests`. */
function draw(lines, { time, history, uptime_seconds: uptime }, fields, { name, tell, tops = [], rests = 0 }) {
  const atRest = (at) => ({ time: at, ...Object.fromEntries(fields.map((field) => [field, rests])) });
  const points = [...history];
  if (points.length) points.unshift(atRest(points[0].time - BUCKET_SECONDS));
  const end = points.at(-1)?.time ?? time;
  if (time - end > 2 * BUCKET_SECONDS) points.push(atRest(end + BUCKET_SECONDS), atRest(time));
  const series = fields.map((field) => points.map((point) => point[field]));
  const peak = Math.max(0, ...series.flat().filter(known));
  const minutes = SPANS.find((one) => one * 60 >= uptime) ?? SPANS.at(-1);
  const told = `${say("lastMinutes", { count: minutes })} · ≤ ${tell(peak)}`;
  lines.show(points.map((point) => time - point.time), series,
    { span: minutes * 60, most: tops.find((one) => one >= peak) ?? peak, peak: told, label: `${say(name)}, ${told}` });
}
