// One message of a conversation as a node that can be shown again while it grows. Knows no server and no history.

import { copyButton, h, icon, iconButton } from "./dom.js";
import { count, dollars, percent, seconds } from "./format.js";
import { say } from "./labels.js";
import { showMarkdown } from "./markdown.js";

/** `actions`: {edit, again, retry, enterKey}, each called without arguments. */
export class MessageView {
  #message;
  #actions;
  #body = h("div", { class: "body" });
  #thoughts = null;
  #foot = h("div", { class: "foot" });

  constructor(message, actions) {
    this.#message = message;
    this.#actions = actions;
    const isAnswer = message.role === "assistant";
    const who = h("h2", { class: "who" }, say(isAnswer ? "model" : "you"));
    this.node = h("article", { class: `message of-${message.role}` }, who, this.#body, this.#foot);
  }

  /** `busy`: the answer is being written. `isLast`: the actions of the last message. */
  show({ busy, isLast }) {
    const { role, content, reasoning } = this.#message;
    this.node.setAttribute("aria-busy", String(busy));
    this.node.classList.toggle("last", isLast);
    if (role === "user") this.#body.textContent = content;
    else showMarkdown(this.#body, content);
    if (reasoning) this.#showThoughts(busy);
    this.node.classList.toggle("waiting", busy && !content);
    this.#foot.replaceChildren(...(busy ? [this.#progress()] : this.#whenDone(isLast)).filter(Boolean));
  }

  #showThoughts(busy) {
    const { content, reasoning, thoughtSeconds } = this.#message;
    if (!this.#thoughts) {
      this.#thoughts = h("details", { class: "thoughts" }, h("summary"), h("div", { class: "thought" }));
      this.#body.before(this.#thoughts);
    }
    const [summary, text] = this.#thoughts.children;
    const time = thoughtSeconds === undefined ? null : seconds(thoughtSeconds);
    summary.textContent = busy && !content ? say("thinking") : time ? say("thoughtFor", { time }) : say("thought");
    text.textContent = reasoning;
  }

  #progress() {
    const { content, reasoning } = this.#message;
    if (content || reasoning) return null;
    return h("span", { class: "pulse" }, h("span", { class: "unseen" }, say("waiting")), h("i"), h("i"), h("i"));
  }

  #whenDone(isLast) {
    const { role, error } = this.#message;
    const buttons = h("span", { class: "actions" });
    if (this.#message.content) buttons.append(copyButton(say("copy"), say("copied"), () => this.#message.content));
    if (role === "user") buttons.append(iconButton("pencil", say("edit"), this.#actions.edit));
    else if (isLast && !error) buttons.append(iconButton("again", say("again"), this.#actions.again));
    if (role === "user") return [buttons];
    return [error ? this.#error(isLast) : null, this.#facts(), buttons];
  }

  #error(isLast) {
    const { error } = this.#message;
    const retry = h("button", { type: "button", class: "quiet", onclick: this.#actions.retry }, say("retry"));
    const enter = h("button", { type: "button", class: "primary", onclick: this.#actions.enterKey }, say("enterKey"));
    return h("div", { class: "error", role: "alert" }, icon("warning"),
      h("p", {}, ...errorText(error)),
      isLast ? h("span", { class: "choices" }, error.status === 401 ? enter : null, retry) : null);
  }

  #facts() {
    const { usage, finish, firstSeconds, plain } = this.#message;
    const bill = usage?.farthing;
    const facts = [
      plain && say("plainNotice"),
      finish === "length" && say("cut"),
      finish === "stopped" && say("stopped"),
      finish === "interrupted" && say("interrupted"),
      usage && say("usageTokens", { count: count(usage.completion_tokens) }),
      firstSeconds !== undefined && say("usageFirst", { time: seconds(firstSeconds) }),
      known(bill?.seconds) && say("usageSeconds", { time: seconds(bill.seconds) }),
      known(bill?.dollars) && dollars(bill.dollars),
      known(bill?.share_of_limit) && say("usageShare", { share: percent(bill.share_of_limit) }),
      bill?.cached_tokens > 0 && say("usageCached", { count: count(bill.cached_tokens) }),
    ].filter(Boolean);
    if (!facts.length) return null;
    return h("span", { class: "facts", title: bill ? say("usageHint") : null }, facts.join(" · "));
  }
}

const known = (value) => value !== null && value !== undefined;

/** What happened, in the words of the page; then those of the server. */
function errorText({ status, message, retrySeconds, hadKey }) {
  const ours = status === 0 ? say(message === "broken" ? "errorBroken" : "errorUnreachable")
    : status === 401 ? say(hadKey ? "errorKeyWrong" : "errorKey")
    : say(status < 500 ? "errorStatus" : "errorFailed", { status });
  const parts = [h("strong", {}, ours)];
  if (status !== 0 && status !== 401 && message) parts.push(" ", h("span", { lang: "en" }, message));
  if (retrySeconds) parts.push(" ", say("errorRetryIn", { time: seconds(retrySeconds) }));
  return parts;
}
