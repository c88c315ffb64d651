// The live figures: asks for the ledger every two seconds while the page is seen, and hands it to the panels.
// Knows how the server stands (ready, gone, without figures, closed to us); the figures are panels.js's.

import { ask, ServerError } from "./api.js";
import { byId, h } from "./dom.js";
import { seconds, short } from "./format.js";
import { has, say } from "./labels.js";
import { panels } from "./panels.js";

const EVERY_MS = 2000;
const AFTER_FAILURES_MS = 10_000;
const PATH = "farthing/ledger";

export class Gauges {
  #options;
  #ledger = null;
  #problem = null; // the last ServerError
  #failures = 0;
  #timer = 0;
  #asking = null;
  #panels = [];

  /** `options`: {enterKey(), told(ledger)}. */
  constructor(options) {
    this.#options = options;
    document.addEventListener("visibilitychange", () => this.#seenOrNot());
    this.render();
    this.#seenOrNot();
  }

  /** In the language of now. */
  render() {
    this.#panels = panels();
    byId("panels").replaceChildren(...this.#panels.map((panel) => panel.node));
    this.#show();
  }

  /** Now, and not only in two seconds: there is a key, or an answer began. */
  refresh() {
    this.#failures = 0;
    if (!document.hidden) this.#poll();
  }

  #seenOrNot() {
    clearTimeout(this.#timer);
    if (document.hidden) this.#asking?.abort();
    else this.#poll();
  }

  async #poll() {
    clearTimeout(this.#timer);
    this.#asking?.abort();
    const asking = new AbortController();
    this.#asking = asking;
    const problem = await this.#problemOf(asking);
    if (asking.signal.aborted) return;
    this.#problem = problem;
    this.#failures = this.#problem === null ? 0 : this.#failures + 1;
    const wait = this.#failures > 2 ? AFTER_FAILURES_MS : EVERY_MS;
    this.#timer = setTimeout(() => this.#poll(), wait);
    if (this.#problem === null) this.#options.told(this.#ledger);
    this.#show();
  }

  /** Takes the ledger; null if that went well. */
  async #problemOf(asking) {
    try {
      this.#ledger = await ask(PATH, AbortSignal.any([asking.signal, AbortSignal.timeout(AFTER_FAILURES_MS)]));
      return null;
    } catch (error) {
      return error instanceof ServerError ? error : new ServerError(0, String(error.message)); // too slow, or no JSON
    }
  }

  #show() {
    const ledger = this.#ledger;
    byId("panels").hidden = ledger === null;
    byId("panels").classList.toggle("stale", this.#problem !== null);
    byId("gauge-rate").textContent = ledger ? short(ledger.rates.output_tokens_per_second) : "–";
    byId("open-gauges").setAttribute("aria-label", say("openFigures", { rate: byId("gauge-rate").textContent }));
    this.#showState();
    this.#showProblem();
    if (ledger) for (const panel of this.#panels) panel.show(ledger);
  }

  #showState() {
    const { state, stalled, uptime_seconds: uptime, num_restarts: restarts } = this.#ledger ?? {};
    const lost = this.#problem && (this.#problem.status === 0 || this.#problem.status >= 500);
    const name = lost ? "lost" : state ?? (this.#problem ? "ok" : "waiting");
    const word = stalled && !lost ? say("stalled") : has(`state_${name}`) ? say(`state_${name}`) : name;
    const kind = stalled || ["lost", "failed"].includes(name) ? "bad" : name === "ok" ? "good" : "warn";
    byId("state-dot").className = `dot ${kind}`;
    byId("state").textContent = word;
    const rest = [uptime !== undefined && say("up", { time: seconds(Math.floor(uptime)) }),
      restarts > 0 && say("restarts", { count: restarts })].filter(Boolean).join(" · ");
    byId("uptime").textContent = rest;
  }

  #showProblem() {
    const status = this.#problem?.status;
    const note = byId("gauges-note");
    note.hidden = this.#problem === null;
    if (status === undefined && this.#problem === null) return;
    const nothingYet = h("b", {}, say("noFiguresYet"));
    if (status === 401) {
      const enter = h("button", { type: "button", class: "primary", onclick: this.#options.enterKey }, say("enterKey"));
      note.replaceChildren(h("p", {}, say("figuresKey")), enter);
    } else if (this.#ledger) note.replaceChildren(h("p", {}, say("figuresLost")));
    else if (status === 404) note.replaceChildren(nothingYet, h("p", {}, say("noFiguresHint")));
    else note.replaceChildren(nothingYet, h("p", {}, say("errorUnreachable")));
  }
}
