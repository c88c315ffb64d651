// The list of conversations: open, rename, delete and take back. Knows what is kept by archive.js, not what is said.

import { conversation, conversations, forget, keep, rename } from "./archive.js";
import { byId, h, iconButton, notify } from "./dom.js";
import { moment } from "./format.js";
import { say } from "./labels.js";

export class History {
  #chat;
  #opened;
  #renaming = null; // id of the one whose name is being written

  /** `opened` is called when one was chosen. */
  constructor(chat, opened) {
    this.#chat = chat;
    this.#opened = opened;
    byId("new-conversation").addEventListener("click", () => {
      chat.startNew();
      opened();
    });
    addEventListener("storage", () => this.show()); // another tab wrote
  }

  show() {
    if (this.#renaming !== null) return;
    const focused = document.activeElement?.closest("#conversations li")?.dataset.id;
    const all = conversations();
    byId("conversations").replaceChildren(...all.map((one) => this.#row(one)));
    byId("no-conversations").hidden = all.length > 0;
    if (focused) this.#focus(focused);
  }

  #row({ id, title, updated }) {
    const name = title || say("untitled");
    const open = h("button", {
      type: "button", class: "open", title: name, "aria-current": id === this.#chat.id && "true",
      onclick: () => this.#open(id),
    }, h("span", { class: "name" }, name), h("time", {}, moment(updated)));
    return h("li", { "data-id": id }, open,
      iconButton("pencil", say("rename", { title: name }), () => this.#rename(id, name)),
      iconButton("bin", say("remove", { title: name }), () => this.#remove(id)));
  }

  #open(id) {
    const found = conversation(id);
    if (!found) return this.show(); // deleted in another tab
    if (id !== this.#chat.id) this.#chat.open(found);
    this.#opened();
  }

  #rename(id, name) {
    this.#renaming = id;
    const field = h("input", { type: "text", value: name, "aria-label": say("newName"), maxlength: "200" });
    const end = (isWanted) => {
      if (this.#renaming !== id) return;
      this.#renaming = null;
      if (isWanted && field.value.trim()) {
        rename(id, field.value);
        this.#chat.renamed(id, field.value.trim());
      }
      this.show();
      this.#focus(id);
    };
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      event.stopPropagation();
      end(event.key === "Enter");
    });
    this.#item(id).replaceChildren(field);
    field.select();
  }

  #remove(id) {
    const removed = conversation(id);
    const next = this.#item(id).nextElementSibling ?? this.#item(id).previousElementSibling;
    forget(id);
    if (id === this.#chat.id) this.#chat.startNew();
    this.show();
    if (next) this.#focus(next.dataset.id);
    else byId("new-conversation").focus();
    const restore = () => {
      keep(removed);
      this.show();
    };
    if (removed) notify(say("removed"), { label: say("undo"), run: restore });
  }

  #item(id) {
    return byId("conversations").querySelector(`[data-id="${CSS.escape(id)}"]`);
  }

  #focus(id) {
    this.#item(id)?.querySelector(".open").focus();
  }
}
