// The settings: how answers are drawn, the key, theme and language. Kept in the browser; knows no server.

import { byId, h } from "./dom.js";
import { language, say, setLanguage } from "./labels.js";
import { key, lasting } from "./storage.js";

// Fields of a request: as in index.html, with the bounds that the server has.
const NUMBERS = {
  temperature: { min: 0, max: 100, whole: false },
  top_p: { min: 0.000001, max: 1, whole: false },
  top_k: { min: 1, max: 2 ** 31 - 1, whole: true },
  max_tokens: { min: 1, max: 2 ** 31 - 1, whole: true },
  seed: { min: 0, max: Number.MAX_SAFE_INTEGER, whole: true },
};
const KEY = /^[!-9;-~]+$/;
const THEMES = ["system", "light", "dark"];

/** What was set for the next request; what was left empty is absent. */
export const parameters = () => lasting.value("parameters", {});

export class Settings {
  #saved;

  /** `saved({keyChanged})` is called when the dialog was confirmed. */
  constructor(saved) {
    this.#saved = saved;
    const dialog = byId("settings");
    byId("open-settings").addEventListener("click", () => this.open());
    byId("settings-form").addEventListener("submit", (event) => (event.preventDefault(), this.#save()));
    byId("close-settings").addEventListener("click", () => dialog.close());
    byId("reset").addEventListener("click", () => this.#fill({}));
    byId("show-key").addEventListener("change", (event) => {
      byId("key").type = event.target.checked ? "text" : "password";
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
    for (const id of ["language", "theme"]) byId(id).addEventListener("click", () => this.#switch(id));
    byId("theme-choice").addEventListener("change", (event) => setTheme(event.target.value));
    byId("language-choice").addEventListener("change", (event) => setLanguage(event.target.value));
  }

  /** `toKey`: a key is asked for. */
  open({ toKey = false, wrong = false } = {}) {
    this.#fill(parameters());
    byId("key").value = key.get();
    byId("remember-key").checked = key.isRemembered();
    byId("theme-choice").value = theme();
    byId("language-choice").value = language();
    byId("key-asked").hidden = !toKey;
    byId("key-asked").textContent = say(wrong ? "errorKeyWrong" : "errorKey");
    if (!byId("settings").open) byId("settings").showModal();
    if (toKey) {
      byId("key").focus();
      byId("key").select();
      byId("key-asked").scrollIntoView({ block: "center" });
    }
  }

  #switch(id) {
    if (id === "language") setLanguage(language() === "en" ? "zh-CN" : "en");
    else setTheme(isDark() ? "light" : "dark");
  }

  #fill(values) {
    for (const name of Object.keys(NUMBERS)) byId(name).value = values[name] ?? "";
    byId("system").value = values.system ?? "";
    byId("stop-texts").value = (values.stop ?? []).join("\n");
    for (const name of [...Object.keys(NUMBERS), "key"]) complain(name, null);
  }

  #save() {
    const values = {};
    let wrong = null;
    for (const [name, bounds] of Object.entries(NUMBERS)) {
      const { value, problem } = number(byId(name), bounds);
      complain(name, problem);
      if (problem) wrong ??= name;
      else if (value !== null) values[name] = value;
    }
    const secret = byId("key").value.trim();
    const isKey = !secret || KEY.test(secret);
    complain("key", isKey ? null : say("keyInvalid"));
    if (!isKey) wrong ??= "key";
    if (wrong) {
      byId(wrong).focus();
      return;
    }
    if (byId("system").value.trim()) values.system = byId("system").value.trim();
    const stop = byId("stop-texts").value.split("\n").filter(Boolean);
    if (stop.length) values.stop = stop;
    lasting.set("parameters", JSON.stringify(values));
    const keyChanged = secret !== key.get();
    key.set(secret, byId("remember-key").checked);
    byId("settings").close();
    this.#saved({ keyChanged });
  }
}

function number(field, { min, max, whole }) {
  const text = field.value.trim();
  if (!text && !field.validity.badInput) return { value: null, problem: null };
  const value = Number(text);
  const fits = text && Number.isFinite(value) && value >= min && value <= max && (!whole || Number.isInteger(value));
  return fits ? { value, problem: null } : { value: null, problem: say("rangeWrong", { min, max }) };
}

/** The problem under its field, or none. */
function complain(name, problem) {
  const field = byId(name);
  const old = byId(`${name}-problem`);
  old?.remove();
  if (problem) field.after(h("p", { class: "problem", id: `${name}-problem`, role: "alert" }, problem));
  if (problem) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

function theme() {
  const chosen = lasting.get("theme");
  return THEMES.includes(chosen) ? chosen : "system";
}

function isDark() {
  const chosen = theme();
  return chosen === "system" ? matchMedia("(prefers-color-scheme: dark)").matches : chosen === "dark";
}

function setTheme(name) {
  if (name === "system") {
    lasting.remove("theme");
    delete document.documentElement.dataset.theme;
  } else {
    lasting.set("theme", name);
    document.documentElement.dataset.theme = name;
  }
}
