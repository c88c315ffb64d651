// The page put together: chat, list of conversations, settings and gauges, and what lies open on a small screen.

import { ask } from "./api.js";
import { Chat } from "./chat.js";
import { byId } from "./dom.js";
import { Gauges } from "./gauges.js";
import { History } from "./history.js";
import { translate } from "./labels.js";
import { parameters, Settings } from "./settings.js";
import { key } from "./storage.js";

let model = null; // the name under which it is served, once the server told it
let told = null; // the name in the last ledger: another one means another server
let history = null;
let gauges = null;

translate(document);

const settings = new Settings(({ keyChanged }) => {
  if (!keyChanged) return;
  chat.retryRefused();
  gauges.refresh();
  learnModel();
});
const enterKey = () => {
  openDrawer(null);
  settings.open({ toKey: true, wrong: key.get() !== "" });
};
const chat = new Chat({
  model: () => model,
  parameters,
  enterKey,
  changed: () => history?.show(),
  answered: () => gauges.refresh(),
});
history = new History(chat, () => openDrawer(null));
history.show();
gauges = new Gauges({ enterKey, told: (ledger) => {
  showModel(model ?? ledger.model, ledger.plan_line);
  if (told !== null && told !== ledger.model) learnModel();
  told = ledger.model;
} });

document.addEventListener("languagechanged", () => {
  chat.render();
  history.show();
  gauges.render();
});

// --- what lies open: on a small screen the list and the figures are drawers, on a wide one they stand beside the chat

for (const [button, drawer] of [["open-history", "history"], ["open-gauges", "gauges"]]) {
  byId(button).addEventListener("click", () => openDrawer(document.body.dataset.open === drawer ? null : drawer));
}
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => openDrawer(null, button.dataset.close));
}
byId("scrim").addEventListener("click", () => openDrawer(null));

function openDrawer(name, focused = null) {
  if (name) document.body.dataset.open = name;
  else delete document.body.dataset.open;
  for (const drawer of ["history", "gauges"]) {
    byId(`open-${drawer}`).setAttribute("aria-expanded", String(drawer === name));
  }
  document.querySelector("main").inert = name !== null && hasDrawers(); // what lies below it can't be reached
  if (name) byId(name).querySelector("button").focus();
  else if (focused) byId(focused).focus();
}

const hasDrawers = () => getComputedStyle(byId("scrim")).display !== "none";

addEventListener("resize", () => {
  if (document.body.dataset.open && !hasDrawers()) openDrawer(null);
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing || byId("settings").open) return;
  if (document.body.dataset.open) openDrawer(null, `open-${document.body.dataset.open}`);
  else chat.stop();
});

// --- which model

async function learnModel() {
  try {
    const { data } = await ask("v1/models");
    model = data[0].id;
    showModel(model);
    if (!byId("greeting").hidden) chat.render(); // what to try depends on it
  } catch (error) {
    if (error.status === 401) enterKey();
    else setTimeout(learnModel, 5000);
  }
}

function showModel(name, plan = null) {
  byId("model").textContent = name;
  if (plan) byId("model").title = plan;
  byId("plan").textContent = plan ?? byId("plan").textContent;
  document.title = `${name} · Farthing`;
}

learnModel();
byId("prompt").focus({ preventScroll: true });
