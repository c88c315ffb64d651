// The inside of a line of Markdown: code, emphasis, links. Gives nodes; whatever else there is, HTML too, stays text.
//
// An answer is hostile input, so the work is linear in its length: a mark that was once not closed is not looked for
// again, and nesting has an end. Nothing is ever fetched: an image is a link to it.

import { h } from "./dom.js";

const MAX_DEPTH = 6;
const SPECIAL = /[\\`*_~[!<\n]|https?:\/\//g;
const LINK = /!?\[((?:[^[\]\\\n]|\\.)*)\]\(\s*<?([^\s()<>]*(?:\([^\s()]*\)[^\s()<>]*)*)>?(?:\s+"[^"\n]*")?\s*\)/y;
const BARE_URL = /https?:\/\/[^\s<>"'`]+/y;
const ANGLE_URL = /<(https?:\/\/[^\s<>]+|mailto:[^\s<>]+)>/y;
const ESCAPED = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}]/u;
const MARKS = [["***", ["strong", "em"]], ["**", ["strong"]], ["__", ["strong"]], ["~~", ["del"]], ["*", ["em"]],
  ["_", ["em"]]];

/** The nodes of a text. */
export function inline(text, depth = 0) {
  const nodes = [];
  const unclosed = new Set();
  let plain = "";
  let at = 0;
  const push = (node) => {
    if (plain) nodes.push(plain);
    plain = "";
    nodes.push(node);
  };
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const found = SPECIAL.exec(text);
    if (!found) break;
    plain += text.slice(at, found.index);
    const [node, end] = special(text, found.index, unclosed, depth);
    if (node === null) plain += text.slice(found.index, end);
    else push(node);
    at = end;
  }
  plain += text.slice(at);
  if (plain) nodes.push(plain);
  return nodes;
}

/** The node that begins here, or null for text, and where it ends. */
function special(text, at, unclosed, depth) {
  switch (text[at]) {
    case "\n":
      return [h("br"), at + 1];
    case "\\":
      if (text[at + 1] === "\n") return [h("br"), at + 2];
      return ESCAPED.test(text[at + 1] ?? "") ? [text[at + 1], at + 2] : [null, at + 1];
    case "`":
      return code(text, at, unclosed);
    case "h":
      return bareLink(text, at);
    case "<":
      return angleLink(text, at);
    case "!":
    case "[":
      return depth < MAX_DEPTH ? link(text, at, depth) : [null, at + 1];
    default:
      return depth < MAX_DEPTH ? emphasis(text, at, unclosed, depth) : [null, at + 1];
  }
}

function code(text, at, unclosed) {
  let end = at;
  while (text[end] === "`") end += 1;
  const mark = text.slice(at, end);
  let close = unclosed.has(mark) ? -1 : text.indexOf(mark, end);
  while (close >= 0 && (text[close + mark.length] === "`" || text[close - 1] === "`")) {
    let after = close;
    while (text[after] === "`") after += 1;
    close = text.indexOf(mark, after);
  }
  if (close < 0) {
    unclosed.add(mark);
    return [null, end];
  }
  const inside = text.slice(end, close).replaceAll("\n", " ");
  const isPadded = inside.startsWith(" ") && inside.endsWith(" ") && inside.trim() !== "";
  return [h("code", {}, isPadded ? inside.slice(1, -1) : inside), close + mark.length];
}

function emphasis(text, at, unclosed, depth) {
  for (const [mark, tags] of MARKS) {
    if (!text.startsWith(mark, at)) continue;
    if (unclosed.has(mark) || !opens(text, at, mark)) continue;
    const close = closing(text, at + mark.length, mark);
    if (close < 0) {
      unclosed.add(mark);
      continue;
    }
    const inside = inline(text.slice(at + mark.length, close), depth + 1);
    return [tags.reduceRight((children, tag) => [h(tag, {}, ...children)], inside)[0], close + mark.length];
  }
  let end = at;
  while (text[end] === text[at]) end += 1;
  return [null, end];
}

function opens(text, at, mark) {
  const next = text[at + mark.length];
  if (next === undefined || /\s/.test(next)) return false;
  return mark[0] !== "_" || !WORD.test(text[at - 1] ?? " ");
}

function closing(text, from, mark) {
  for (let at = text.indexOf(mark, from + 1); at >= 0; at = text.indexOf(mark, at + 1)) {
    const after = text[at + mark.length];
    if (/\s/.test(text[at - 1])) continue;
    if (mark.length === 1 && (after === mark || text[at - 1] === mark)) continue; // a part of a longer mark
    if (mark[0] === "_" && WORD.test(after ?? " ")) continue;
    return at;
  }
  return -1;
}

function link(text, at, depth) {
  LINK.lastIndex = at;
  const found = LINK.exec(text);
  if (!found) return [null, at + 1];
  const [whole, label, address] = found;
  const node = anchor(address, inline(label || address, depth + 1));
  return node ? [node, at + whole.length] : [null, at + 1];
}

function angleLink(text, at) {
  ANGLE_URL.lastIndex = at;
  const found = ANGLE_URL.exec(text);
  return found ? [anchor(found[1], [found[1]]), at + found[0].length] : [null, at + 1];
}

function bareLink(text, at) {
  BARE_URL.lastIndex = at;
  const found = WORD.test(text[at - 1] ?? " ") ? null : BARE_URL.exec(text);
  if (!found) return [null, at + 4];
  const address = withoutEnd(found[0]);
  return [anchor(address, [address]) ?? address, at + address.length];
}

/** The punctuation behind an address belongs to the sentence. */
function withoutEnd(address) {
  const marks = /[([]/.test(address) ? ".,:;!?*_~|" : ".,:;!?*_~|)]";
  let end = address.length;
  while (marks.includes(address[end - 1])) end -= 1;
  return address.slice(0, end);
}

/** Only to where a click does no harm, and telling nothing of this page. */
function anchor(address, children) {
  if (!/^(https?:\/\/|mailto:)/i.test(address)) return null;
  return h("a", { href: address, title: address, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);
}
