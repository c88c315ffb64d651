// Before anything is drawn: the theme and the language that were chosen, so that nothing flashes.
// The one classic script; labels.js and settings.js own both choices from then on. Knows nothing else.
"use strict";

{
  const chosen = (name) => {
    try {
      return localStorage.getItem(`farthing.${name}`);
    } catch {
      return null; // storage is blocked
    }
  };
  const theme = chosen("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  const language = chosen("language") ?? navigator.language;
  document.documentElement.lang = language.toLowerCase().startsWith("zh") ? "zh-CN" : "en";
}
