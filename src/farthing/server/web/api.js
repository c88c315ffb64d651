// What the page asks of the server it came from, over the same routes as every client. Knows no nodes.

import { events } from "./events.js";
import { key } from "./storage.js";

const PLAIN_TOKENS = 256; // without a chat template there is no end of an answer

/** What the server said, or that it said nothing: then `status` is 0. */
export class ServerError extends Error {
  constructor(status, message, { retrySeconds = null } = {}) {
    super(message);
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

/** The parsed answer of a GET. */
export async function ask(path, signal) {
  const response = await exchange(path, { signal });
  return response.json();
}

/** The content of a GET as a file. */
export async function file(path) {
  const response = await exchange(path, {});
  return response.blob();
}

/**
 * The pieces of an answer: {content}, {reasoning}, {finish}, {usage}, as they come. `plain` continues the text of the
 * conversation, for a model without a chat template.
 */
export async function* answer({ model, messages, parameters, plain, signal }) {
  const { system, ...sampling } = parameters;
  const spoken = system ? [{ role: "system", content: system }, ...messages] : messages;
  const shared = { ...(model ? { model } : {}), ...sampling, stream: true, stream_options: { include_usage: true } };
  const body = plain
    ? { max_tokens: PLAIN_TOKENS, ...shared, prompt: asText(spoken) }
    : { ...shared, messages: spoken };
  const response = await exchange(plain ? "v1/completions" : "v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  yield* pieces(response, signal);
}

/** Whether a refusal means that this model only continues text. */
export const needsPlain = (error) => error.status === 400 && /has no chat template/.test(error.message);

async function* pieces(response, signal) {
  let ended = false;
  try {
    for await (const data of events(response)) {
      if (data === "[DONE]") {
        ended = true;
        continue;
      }
      const event = JSON.parse(data);
      if (event.error) throw new ServerError(event.error.status ?? 500, event.error.message);
      const [choice] = event.choices ?? [];
      if (choice?.delta?.reasoning_content) yield { reasoning: choice.delta.reasoning_content };
      const content = choice?.delta?.content ?? choice?.text;
      if (content) yield { content };
      if (choice?.finish_reason) yield { finish: choice.finish_reason };
      if (event.usage) yield { usage: event.usage };
    }
  } catch (error) {
    throw error instanceof ServerError || signal?.aborted ? error : new ServerError(0, String(error.message));
  }
  if (!ended) throw new ServerError(0, "");
}

async function exchange(path, options) {
  const headers = { ...options.headers };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ServerError(0, "");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const retrySeconds = Number(response.headers.get("retry-after")) || null;
  return new ServerError(response.status, body?.error?.message ?? response.statusText, { retrySeconds });
}

function asText(messages) {
  return messages.map(({ role, content }) => (role === "user" ? content : `${content}\n\n`)).join("").trimEnd();
}
