// Nodes: made from names, attributes and text, never from markup. Knows no part of the page but its icons and notices.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. Attributes: null and false are left out, `on…` are listeners, `class` and the rest as in HTML. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** One of the symbols in index.html. */
export function icon(name) {
  return s("svg", { class: "icon", "aria-hidden": "true" }, s("use", { href: `#icon-${name}` }));
}

/** A button with an icon; its label is for screen readers and shown while one points at it. */
export function iconButton(name, label, onclick, attributes = {}) {
  const named = { type: "button", class: "icon-button", "aria-label": label, title: label };
  return h("button", { ...named, onclick, ...attributes }, icon(name));
}

/** A button that copies `text()` and shows for a moment that it did. */
export function copyButton(label, done, text) {
  const button = iconButton("copy", label, async () => {
    if (!(await copied(text()))) return;
    button.replaceChildren(icon("done"));
    announce(done);
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedBySelection(text); // there is no clipboard where the page came over plain HTTP from elsewhere
  }
}

function copiedBySelection(text) {
  const area = h("textarea", { class: "unseen", "aria-hidden": "true" });
  const focused = document.activeElement;
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}

/** Read out by screen readers, seen by nobody. */
export function announce(text) {
  const line = h("p", {}, text);
  byId("announcer").append(line);
  setTimeout(() => line.remove(), 30_000);
}

let hiding = 0;

/** A line at the foot of the page for a few seconds, with at most one thing to do about it. */
export function notify(text, action = null) {
  const notice = byId("notice");
  const hide = () => notice.replaceChildren();
  const button = action && h("button", { type: "button", class: "quiet", onclick: () => (hide(), action.run()) },
    action.label);
  notice.replaceChildren(h("span", {}, text), button ?? "");
  clearTimeout(hiding);
  hiding = setTimeout(hide, action ? 8000 : 4000);
}
