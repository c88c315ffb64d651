// The conversations, kept in this browser: one entry each, so that a long one does not slow the others.
//
// A conversation is {id, title, updated, messages}; a message {role, content} and, of an answer, what else is known of
// it: reasoning, thoughtSeconds, firstSeconds, usage, finish, error, plain. Knows no nodes and no server.

import { lasting, ofThisTab } from "./storage.js";

const START = "conversation.";
const MAX_TITLE = 60;

export function newConversation() {
  const random = crypto.getRandomValues(new Uint32Array(2));
  return { id: `${Date.now().toString(36)}-${Array.from(random, (part) => part.toString(36)).join("")}`, title: "",
    updated: Date.now(), messages: [] };
}

/** All of them, the latest first. */
export function conversations() {
  const found = lasting.names(START).map((name) => lasting.value(name, null)).filter(isConversation);
  return found.sort((a, b) => b.updated - a.updated);
}

/** One of them, or null. An answer without an end was being written when its page was left. */
export function conversation(id) {
  const found = lasting.value(START + id, null);
  if (!isConversation(found)) return null;
  const last = found.messages.at(-1);
  if (last?.role === "assistant" && !last.error) last.finish ??= "interrupted";
  return found;
}

export const isKept = (id) => lasting.get(START + id) !== null;

/** Whether there was room. One without messages is not kept. */
export function keep(conversation) {
  if (!conversation.messages.length) return true;
  conversation.title ||= titleOf(conversation.messages[0].content);
  return lasting.set(START + conversation.id, JSON.stringify(conversation));
}

export function rename(id, title) {
  const found = conversation(id);
  if (found && title.trim()) keep(Object.assign(found, { title: title.trim().slice(0, 200) }));
}

export const forget = (id) => lasting.remove(START + id);

/** The one that this tab shows, also after it is loaded anew. */
export const shown = {
  get: () => ofThisTab.get("shown"),
  set: (id) => ofThisTab.set("shown", id),
};

function titleOf(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > MAX_TITLE ? `${line.slice(0, MAX_TITLE - 1)}…` : line;
}

function isConversation(value) {
  return typeof value?.id === "string" && Array.isArray(value.messages)
    && value.messages.every((message) => typeof message?.content === "string");
}
