// The conversation that is shown: what is written goes out, the answer streams in, and it can be stopped, asked again,
// changed. Knows the server by api.js and keeps by archive.js; the settings and the list stand elsewhere.

import { answer, needsPlain } from "./api.js";
import { conversation, isKept, keep, newConversation, shown } from "./archive.js";
import { announce, byId, h, notify } from "./dom.js";
import { language, say } from "./labels.js";
import { MessageView } from "./message.js";
import { Drawing, Run } from "./run.js";
import { Spoken } from "./spoken.js";

const NEAR_END_PIXELS = 48;

export class Chat {
  #options;
  #conversation = newConversation();
  #views = [];
  #run = null; // the answer that streams
  #editing = null; // number of the message that is changed
  #plain = false;
  #follows = true; // whether the view keeps to the end

  /** `options`: {model(), parameters(), enterKey(), answered(), changed()}: the last when the list of them is another. */
  constructor(options) {
    this.#options = options;
    byId("composer").addEventListener("submit", (event) => (event.preventDefault(), this.#submit()));
    byId("prompt").addEventListener("keydown", (event) => this.#typed(event));
    byId("prompt").addEventListener("input", () => this.#fit());
    byId("stop").addEventListener("click", () => this.stop());
    byId("cancel-edit").addEventListener("click", () => this.#endEdit(""));
    byId("to-end").addEventListener("click", () => this.#toEnd());
    byId("scroller").addEventListener("scroll", () => this.#scrolled(), { passive: true });
    addEventListener("pagehide", () => this.#run?.leave());
    const last = shown.get();
    this.open((last && conversation(last)) || newConversation());
  }

  get id() {
    return this.#conversation.id;
  }

  get streams() {
    return this.#run !== null;
  }

  /** Shows another conversation. An answer that streams into this one is stopped, and kept as far as it came. */
  open(conversation) {
    this.stop();
    this.#run = null;
    this.#setBusy(false);
    this.#conversation = conversation;
    shown.set(conversation.id);
    this.#endEdit("");
    this.render();
    this.#options.changed();
  }

  startNew() {
    this.open(newConversation());
    byId("prompt").focus();
  }

  stop() {
    this.#run?.stop();
  }

  /** What was refused for want of a key, now that there is one. */
  retryRefused() {
    const { messages } = this.#conversation;
    if (messages.at(-1)?.error?.status === 401) this.#answerAgain(messages.length - 1);
  }

  /** The list gave a conversation another title. */
  renamed(id, title) {
    if (id === this.id) this.#conversation.title = title;
  }

  /** Everything anew: another conversation, or another language. */
  render() {
    const { messages } = this.#conversation;
    this.#views = messages.map((message, number) => this.#view(message, number));
    byId("messages").replaceChildren(...this.#views.map((view) => view.node));
    byId("greeting").hidden = messages.length > 0;
    this.#greet();
    this.#showAll();
    this.#toEnd();
  }

  #view(message, number) {
    return new MessageView(message, {
      edit: () => this.#edit(number),
      again: () => this.#answerAgain(number),
      retry: () => this.#answerAgain(number),
      enterKey: this.#options.enterKey,
    });
  }

  #showAll() {
    this.#views.forEach((_, number) => this.#show(number));
  }

  #show(number) {
    const isLast = number === this.#views.length - 1;
    this.#views[number].show({ busy: isLast && this.streams, isLast });
    if (this.#follows && isLast) byId("scroller").scrollTop = byId("scroller").scrollHeight;
  }

  #greet() {
    const kind = /(^|\/)bundled/.test(this.#options.model() ?? "") ? "tryBundled" : "try";
    const prompts = [1, 2, 3].map((number) => say(kind + number));
    byId("suggestions").replaceChildren(...prompts.map((text) =>
      h("button", { type: "button", class: "suggestion", onclick: () => this.send(text) }, text)));
  }

  #typed(event) {
    const isComposing = event.isComposing || event.keyCode === 229; // Enter there chooses a Chinese word
    if (event.key === "Enter" && !event.shiftKey && !isComposing) {
      event.preventDefault();
      this.#submit();
    }
  }

  #submit() {
    const text = byId("prompt").value;
    if (!text.trim() || this.streams) return;
    if (this.#editing !== null) this.#cutTo(this.#editing);
    this.#endEdit("");
    this.send(text);
  }

  send(text) {
    if (this.streams) return;
    this.#add({ role: "user", content: text.trim() });
    this.#answer();
  }

  #add(message) {
    this.#conversation.messages.push(message);
    this.#conversation.updated = Date.now();
    const view = this.#view(message, this.#views.length);
    this.#views.push(view);
    byId("messages").append(view.node);
    byId("greeting").hidden = true;
  }

  #cutTo(number) {
    this.#conversation.messages.length = number;
    for (const view of this.#views.splice(number)) view.node.remove();
  }

  #answerAgain(number) {
    if (this.streams) return;
    this.#cutTo(number);
    this.#answer();
  }

  async #answer() {
    const asked = spokenSoFar(this.#conversation.messages);
    const run = new Run(this.#conversation);
    this.#add(run.message);
    this.#run = run;
    this.#follows = true;
    this.#setBusy(true);
    this.#showAll();
    this.#keep();
    announce(say("answerBegins"));
    const spoken = new Spoken(announce, language());
    const drawing = new Drawing(() => this.#draw(run));
    try {
      for await (const piece of this.#pieces(asked, run)) {
        run.take(piece);
        if (piece.content) spoken.take(piece.content);
        drawing.soon();
      }
    } catch (error) {
      run.fail(error);
    }
    run.message.finish ??= "stop";
    drawing.end();
    spoken.end();
    this.#ended(run);
  }

  async *#pieces(messages, run) {
    const request = { model: this.#options.model(), messages, parameters: this.#options.parameters(),
      signal: run.signal };
    if (!this.#plain) {
      try {
        yield* answer({ ...request, plain: false });
        return;
      } catch (error) {
        if (!needsPlain(error)) throw error;
        this.#plain = true;
      }
    }
    run.message.plain = true;
    yield* answer({ ...request, plain: true });
  }

  #draw(run) {
    if (run.conversation !== this.#conversation) return;
    this.#show(this.#views.length - 1);
    if (run.isToBeKept()) this.#keep();
  }

  #ended(run) {
    const { message, conversation } = run;
    if (this.#run === run) {
      this.#run = null;
      this.#setBusy(false);
    }
    const isShown = conversation === this.#conversation;
    if ((isShown || isKept(conversation.id)) && !keep(conversation)) notify(say("storageFull")); // it may be deleted
    if (isShown) this.#showAll();
    this.#options.changed();
    this.#options.answered();
    if (!message.error) announce(say(message.finish === "stopped" ? "answerStopped" : "answerEnds"));
    if (message.error?.status === 401) this.#options.enterKey();
  }

  #keep() {
    if (!keep(this.#conversation)) notify(say("storageFull"));
    if (this.#conversation.messages.length === 2) this.#options.changed();
  }

  #setBusy(busy) {
    const hadFocus = document.activeElement === byId(busy ? "send" : "stop");
    byId("send").hidden = busy;
    byId("stop").hidden = !busy;
    if (hadFocus) byId("prompt").focus();
  }

  #edit(number) {
    if (this.streams) return;
    this.#editing = number;
    byId("editing").hidden = false;
    byId("prompt").value = this.#conversation.messages[number].content;
    this.#fit();
    byId("prompt").focus();
  }

  #endEdit(text) {
    this.#editing = null;
    byId("editing").hidden = true;
    byId("prompt").value = text;
    this.#fit();
  }

  #fit() {
    const prompt = byId("prompt");
    prompt.style.height = "auto";
    prompt.style.height = `${prompt.scrollHeight + 2}px`;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = byId("scroller");
    this.#follows = scrollHeight - scrollTop - clientHeight < NEAR_END_PIXELS;
    byId("to-end").hidden = this.#follows;
  }

  #toEnd() {
    byId("scroller").scrollTop = byId("scroller").scrollHeight;
    this.#follows = true;
  }
}

/** What the model is told: no thoughts of earlier turns, no answer without text, and one message a turn. */
function spokenSoFar(messages) {
  const spoken = [];
  for (const { role, content } of messages) {
    if (role === "assistant" && !content) continue;
    if (spoken.at(-1)?.role === role) spoken.at(-1).content += `\n\n${content}`;
    else spoken.push({ role, content });
  }
  return spoken;
}
