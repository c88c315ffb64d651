// Small plots in SVG: a line over time, a divided bar, and rows of figures below. Knows numbers and no ledger.

import { h, s } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 44;
const TOP = 3; // room for half a stroke

/** Lines over the last minutes. `show` takes as many series as there are names; null is a gap. */
export class Lines {
  #areas;
  #lines;
  #peak = h("span", { class: "peak", "aria-hidden": "true" });
  #svg;

  constructor(names) {
    this.#areas = names.map((name) => s("path", { class: `area is-${name}` }));
    this.#lines = names.map((name) => s("path", { class: `line is-${name}`, "vector-effect": "non-scaling-stroke" }));
    const base = s("path", { class: "base", d: `M0 ${HEIGHT}H${WIDTH}`, "vector-effect": "non-scaling-stroke" });
    this.#svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      base, ...this.#areas, ...this.#lines);
    this.node = h("div", { class: "plot" }, this.#svg, this.#peak);
  }

  /**
   * `ages` in seconds, the oldest first, of which those up to `span` are drawn; `most` is the top of the plot; `label`
   * says in words what is to be seen.
   */
  show(ages, series, { span, most, peak, label }) {
    const x = ages.map((age) => WIDTH * (1 - age / span));
    series.forEach((values, number) => {
      const runs = runsOf(values, x, most || 1);
      this.#lines[number].setAttribute("d", runs.map((points) => `M${points.join("L")}`).join(""));
      this.#areas[number].setAttribute("d", runs.map(areaOf).join(""));
    });
    this.#peak.textContent = peak;
    this.#svg.setAttribute("aria-label", label);
  }
}

function runsOf(values, x, most) {
  const runs = [[]];
  values.forEach((value, number) => {
    if (value === null || value === undefined || x[number] < 0) {
      if (runs.at(-1).length) runs.push([]);
      return;
    }
    const y = HEIGHT - Math.min(1, Math.max(0, value / most)) * (HEIGHT - TOP);
    runs.at(-1).push(`${x[number].toFixed(1)} ${y.toFixed(1)}`);
  });
  const drawn = runs.filter((points) => points.length);
  return drawn.map((points) => (points.length === 1 ? [...points, points[0]] : points)); // a point is a line to itself
}

const areaOf = (points) =>
  `M${points.join("L")}L${points.at(-1).split(" ")[0]} ${HEIGHT}L${points[0].split(" ")[0]} ${HEIGHT}Z`;

/** A bar of parts, each a share of the whole; what is left over stays empty. */
export class Bar {
  #svg = s("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", role: "img" });

  constructor() {
    this.node = h("div", { class: "meter" }, this.#svg);
  }

  /** `parts`: [name, share]; the name chooses the colour in style.css. */
  show(parts, label) {
    let at = 0;
    const rects = parts.filter(([, share]) => share > 0).map(([name, share]) => {
      const width = Math.min(100 - at, share * 100);
      const place = { x: at.toFixed(3), y: 0, width: Math.max(0, width).toFixed(3), height: 1 };
      at += width;
      return s("rect", { class: `is-${name}`, ...place });
    });
    this.#svg.replaceChildren(...rects);
    this.#svg.setAttribute("aria-label", label);
  }
}

/** Figures with their names. A row is [label, value], and a hint where there is more to say, and a colour of a part. */
export class Rows {
  node = h("dl", { class: "rows" });

  show(rows) {
    while (this.node.children.length > rows.length) this.node.lastElementChild.remove();
    rows.forEach(([label, value, { hint = null, part = null } = {}], number) => {
      const row = this.node.children[number] ?? this.node.appendChild(h("div", {}, h("dt"), h("dd")));
      const key = part && h("i", { class: `key is-${part}` });
      row.firstChild.replaceChildren(...[key, label].filter(Boolean));
      row.lastChild.textContent = value;
      if (hint) row.title = hint;
      else row.removeAttribute("title");
    });
  }
}
