// Markdown as nodes: the blocks of a text that still grows. What the text says of HTML stays text (inline.js).
//
// Each block remembers its source, so that while an answer streams only its last block is made anew, and what a person
// has selected above stays selected. The common subset: fences, headings, lists, quotes, tables, rules, paragraphs.

import { copyButton, h } from "./dom.js";
import { inline } from "./inline.js";
import { say } from "./labels.js";

const MAX_DEPTH = 5;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: +|$)/;
const DELIMITERS = /^ *\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *$/;

/** Makes the container show the text. To be called again with a longer text. */
export function showMarkdown(container, text) {
  const found = blocks(text.split("\n"));
  found.forEach((block, number) => {
    const old = container.children[number];
    if (old?.source === block.source) return;
    if (old?.block?.type === "code" && block.type === "code" && old.block.name === block.name) {
      old.querySelector("code").textContent = block.text;
      Object.assign(old, { source: block.source, block });
      return;
    }
    const node = Object.assign(nodeOf(block, 0), { source: block.source, block });
    if (old) old.replaceWith(node);
    else container.append(node);
  });
  while (container.children.length > found.length) container.lastElementChild.remove();
}

function blocks(lines) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [block, end] = blockAt(lines, at);
    found.push({ ...block, source: lines.slice(at, end).join("\n") });
    at = end;
  }
  return found;
}

/** The block that begins at this line, and the line behind it. */
function blockAt(lines, at) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return codeAt(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    const text = line.slice(heading[0].length).trim().replace(/(?:^|[ \t])#+$/, "");
    return [{ type: "heading", level: heading[1].length, text }, at + 1];
  }
  if (RULE.test(line)) return [{ type: "rule" }, at + 1];
  if (QUOTE.test(line)) {
    const end = endOf(lines, at, (other) => QUOTE.test(other));
    return [{ type: "quote", lines: lines.slice(at, end).map((other) => other.replace(QUOTE, "")) }, end];
  }
  if (ITEM.test(line)) return listAt(lines, at);
  if (line.includes("|") && lines[at + 1]?.includes("-") && DELIMITERS.test(lines[at + 1])) return tableAt(lines, at);
  const end = endOf(lines, at, (other) => other.trim() && !interrupts(other));
  const text = lines.slice(at, end).map((other) => other.trimStart()).join("\n").trimEnd();
  return [{ type: "paragraph", text }, end];
}

const interrupts = (line) =>
  FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line) || ITEM.test(line);

function endOf(lines, at, belongs) {
  let end = at + 1;
  while (end < lines.length && belongs(lines[end])) end += 1;
  return end;
}

function codeAt(lines, at, [, mark, name]) {
  const closes = (line) => {
    const text = line.trim();
    return text.length >= mark.length && text === mark[0].repeat(text.length) && /^ {0,3}\S/.test(line);
  };
  const end = endOf(lines, at, (line) => !closes(line));
  const isClosed = end < lines.length;
  return [{ type: "code", name, text: lines.slice(at + 1, end).join("\n") }, isClosed ? end + 1 : end];
}

function listAt(lines, at) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const isOrdered = /\d/.test(mark);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    const isNext = item && Math.abs(item[1].length - indent.length) < 2 && /\d/.test(item[2]) === isOrdered;
    if (isNext && !RULE.test(lines[end])) {
      items.push({ width: item[0].length, lines: [lines[end].slice(item[0].length)] });
    } else if (!continues(lines, end, indent.length)) {
      break;
    } else {
      const { width, lines: inside } = items.at(-1);
      inside.push(lines[end].slice(Math.min(width, leading(lines[end]))));
    }
    end += 1;
  }
  const start = isOrdered ? Number.parseInt(mark, 10) : null;
  return [{ type: "list", start, items: items.map((item) => item.lines) }, end];
}

/** Whether the line belongs to the item above: further in, or the rest of its paragraph; an empty one if one does. */
function continues(lines, at, indent) {
  const line = lines[at];
  if (line.trim()) return leading(line) > indent + 1 || (lines[at - 1].trim() !== "" && !interrupts(line));
  const next = lines[at + 1] ?? "";
  return next.trim() !== "" && (leading(next) > indent + 1 || (ITEM.test(next) && leading(next) >= indent));
}

const leading = (line) => line.length - line.trimStart().length;

function tableAt(lines, at) {
  const end = endOf(lines, at + 1, (line) => line.includes("|") && line.trim());
  const sideOf = (cell) => (cell.startsWith(":") ? "center" : "right");
  const sides = cells(lines[at + 1]).map((cell) => (cell.endsWith(":") ? sideOf(cell) : null));
  return [{ type: "table", sides, head: cells(lines[at]), rows: lines.slice(at + 2, end).map(cells) }, end];
}

function cells(line) {
  const inside = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inside.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function nodeOf(block, depth) {
  switch (block.type) {
    case "code":
      return codeNode(block);
    case "heading":
      return h(`h${Math.min(6, block.level + 2)}`, {}, ...inline(block.text)); // the page itself has h1 and h2
    case "rule":
      return h("hr");
    case "quote":
      return h("blockquote", {}, ...inner(block.lines, depth));
    case "list":
      return h(block.start === null ? "ul" : "ol", { start: block.start !== 1 && block.start },
        ...block.items.map((lines) => h("li", {}, ...itemNodes(lines, depth))));
    case "table":
      return tableNode(block);
    default:
      return h("p", {}, ...inline(block.text));
  }
}

function inner(lines, depth) {
  if (depth >= MAX_DEPTH) return [h("p", {}, lines.join("\n"))];
  return blocks(lines).map((block) => nodeOf(block, depth + 1));
}

/** An item that is one paragraph, or begins with one, needs no paragraph. */
function itemNodes(lines, depth) {
  const nodes = inner(lines, depth);
  return nodes[0]?.tagName === "P" ? [...nodes[0].childNodes, ...nodes.slice(1)] : nodes;
}

function codeNode({ name, text }) {
  const code = h("code", {}, text);
  const copy = copyButton(say("copyCode"), say("copied"), () => code.textContent);
  return h("div", { class: "code" }, h("div", { class: "code-head" }, h("span", {}, name || say("code")), copy),
    h("pre", { tabindex: "0" }, code));
}

function tableNode({ sides, head, rows }) {
  const row = (tag, texts) => h("tr", {}, ...head.map((_, number) =>
    h(tag, { class: sides[number] && `to-${sides[number]}` }, ...inline(texts[number] ?? ""))));
  return h("div", { class: "table", tabindex: "0" },
    h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, ...rows.map((texts) => row("td", texts)))));
}
