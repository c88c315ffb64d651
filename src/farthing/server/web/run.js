// One answer on its way: what has come of it, when, and how it ended. Knows no nodes.

import { ServerError } from "./api.js";
import { keep } from "./archive.js";
import { key } from "./storage.js";

const KEEP_EVERY_MS = 1000;

export class Run {
  #controller = new AbortController();
  message = { role: "assistant", content: "" };
  #begun = performance.now();
  #kept = 0;

  constructor(conversation) {
    this.conversation = conversation;
  }

  get signal() {
    return this.#controller.signal;
  }

  stop() {
    this.#controller.abort();
  }

  /** The page goes away. */
  leave() {
    this.message.finish = "interrupted";
    keep(this.conversation);
    this.stop();
  }

  take({ content, reasoning, finish, usage }) {
    const seconds = (performance.now() - this.#begun) / 1000;
    const { message } = this;
    if (content || reasoning) message.firstSeconds ??= seconds;
    if (content) message.content += content;
    if (reasoning) {
      message.reasoning = (message.reasoning ?? "") + reasoning;
      message.thoughtSeconds = seconds;
    }
    if (finish) message.finish = finish;
    if (usage) message.usage = usage;
  }

  /** It ended with this error: the person's will, or one to show. A mistake of our own is thrown again. */
  fail(error) {
    if (this.signal.aborted) {
      this.message.finish ??= "stopped";
      return;
    }
    if (!(error instanceof ServerError)) throw error;
    const broke = error.status === 0 && this.message.firstSeconds !== undefined;
    this.message.error = { status: error.status, retrySeconds: error.retrySeconds,
      message: broke ? "broken" : error.message, hadKey: key.get() !== "" };
  }

  /** Once in a while, so that a page that goes away loses little. */
  isToBeKept() {
    const now = performance.now();
    const is = now - this.#kept > KEEP_EVERY_MS;
    if (is) this.#kept = now;
    return is;
  }
}

/** Calls `draw` at most once a frame. */
export class Drawing {
  #draw;
  #frame = 0;

  constructor(draw) {
    this.#draw = draw;
  }

  soon() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  end() {
    cancelAnimationFrame(this.#frame);
  }
}
