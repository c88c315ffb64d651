// Figures as people read them, in the language of the page. Knows no labels and no nodes.

import { language } from "./labels.js";

const formats = new Map();

function format(value, options) {
  const key = language() + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(language(), options));
  return formats.get(key).format(value);
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** 1234 as "1,234"; "–" for what is unknown. */
export const count = (value) => (isNumber(value) ? format(value, { maximumFractionDigits: 0 }) : "–");

/** Three digits, and a letter for thousands and millions. */
export function short(value) {
  if (!isNumber(value)) return "–";
  if (Math.abs(value) < 10) return format(value, { maximumFractionDigits: value === 0 ? 0 : 1 });
  if (Math.abs(value) < 10_000) return count(value);
  const [divisor, letter] = Math.abs(value) < 1e6 ? [1e3, "k"] : Math.abs(value) < 1e9 ? [1e6, "M"] : [1e9, "G"];
  return `${format(value / divisor, { maximumSignificantDigits: 3 })} ${letter}`;
}

/** 0.344 as "34 %"; one digit more where it is little. */
export function percent(ratio) {
  if (!isNumber(ratio)) return "–";
  const value = ratio * 100;
  return `${format(value, { maximumFractionDigits: value !== 0 && value < 9.95 ? 1 : 0 })} %`;
}

/** "1.7 s", "24 ms", "3 min 20 s". */
export function seconds(value) {
  if (!isNumber(value)) return "–";
  if (value < 0.9995) return `${format(value * 1000, { maximumSignificantDigits: value < 0.1 ? 2 : 3 })} ms`;
  if (value < 99.95) return `${format(value, { maximumFractionDigits: value < 10 ? 2 : 1 })} s`;
  return span(value);
}

/** A long time in its two largest units. */
function span(value) {
  const units = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => value >= size);
  const [name, size] = units[first];
  const [below, part] = units[Math.min(first + 1, 3)];
  const whole = Math.floor(value / size);
  const rest = Math.floor((value - whole * size) / part);
  return rest && below !== name ? `${whole} ${name} ${rest} ${below}` : `${whole} ${name}`;
}

/** Two digits of small sums, cents of large ones. */
export function dollars(value) {
  if (!isNumber(value)) return "–";
  if (value === 0) return "$0";
  if (Math.abs(value) >= 1) return `$${format(value, { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  return `$${format(value, { maximumSignificantDigits: 2, maximumFractionDigits: 12 })}`;
}

/** "×1.7" */
export function times(value) {
  if (!isNumber(value)) return "–";
  return `×${format(value, { maximumSignificantDigits: value < 2 || value > 10 ? 3 : 2 })}`;
}

/** A moment of today as a time, of another day as a date. */
export function moment(milliseconds) {
  const date = new Date(milliseconds);
  const isToday = date.toDateString() === new Date().toDateString();
  const options = isToday
    ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }
    : { day: "numeric", month: "short" };
  return new Intl.DateTimeFormat(language(), options).format(date);
}
