// The words of the page in the language of the person: which one, and a text by its name. Knows no part of the page.
//
// In index.html, data-label names the text of an element, data-label-title (and -aria, -placeholder) that attribute.

import { EN } from "./words.en.js";
import { ZH } from "./words.zh.js";
import { lasting } from "./storage.js";

const WORDS = { en: EN, "zh-CN": ZH };
const ATTRIBUTES = { labelTitle: "title", labelAria: "aria-label", labelPlaceholder: "placeholder" };

/** "en" or "zh-CN"; early.js has set it before anything was drawn. */
export const language = () => document.documentElement.lang;

export function setLanguage(name) {
  document.documentElement.lang = name;
  lasting.set("language", name);
  translate(document);
  document.dispatchEvent(new Event("languagechanged"));
}

/** Whether there is a text of this name: what the server calls its causes may be new to the page. */
export const has = (name) => Object.hasOwn(WORDS[language()], name);

/** The text, with each {name} in it replaced. */
export function say(name, values = {}) {
  const text = WORDS[language()][name] ?? EN[name];
  return text.replace(/\{(\w+)\}/g, (whole, key) => (Object.hasOwn(values, key) ? String(values[key]) : whole));
}

/** Every labelled element below the root. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-label]")) element.textContent = say(element.dataset.label);
  for (const [key, attribute] of Object.entries(ATTRIBUTES)) {
    const selector = `[data-${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}]`;
    for (const element of root.querySelectorAll(selector)) element.setAttribute(attribute, say(element.dataset[key]));
  }
}
