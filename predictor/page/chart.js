// Lines, bands and stacked bars over time, as SVG with a legend, a reading line and a table.

import { clock, el, scroller, svg, table } from "./dom.js";

const HEIGHT = 220;
const MARGIN = { top: 10, right: 12, bottom: 24, left: 58 };
const TABLE_ROWS = 30;

// About `wanted` round numbers from low to high.
export const ticks = (low, high, wanted) => {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / wanted));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => span / one <= wanted) ?? power * 10;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
};

const timeTicks = (from, to, wanted) => {
  const steps = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200].map((seconds) => seconds * 1000);
  const step = steps.find((one) => (to - from) / one <= wanted) ?? 14_400_000;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return { at: found, step };
};

// A path that is interrupted where a value is missing; a value alone is a dot.
const linePath = (points, x, y) => {
  let path = "";
  let pen = false;
  points.forEach(([at, value], place) => {
    if (value == null) {
      pen = false;
      return;
    }
    path += `${pen ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    if (!pen && points[place + 1]?.[1] == null) path += "h0.1";
    pen = true;
  });
  return path;
};

const bandPath = (band, x, y) => {
  const known = band.filter(([, low, high]) => low != null && high != null);
  if (known.length === 0) return "";
  const up = known.map(([at, , high]) => `${x(at).toFixed(1)} ${y(high).toFixed(1)}`);
  const down = known.map(([at, low]) => `${x(at).toFixed(1)} ${y(low).toFixed(1)}`).reverse();
  return `M${up.concat(down).join("L")}Z`;
};

export class Chart {
  // `kind` is "lines" or "bars"; `format` turns values into text.
  // `axis` does for the axis, where given; `base` is what round numbers are multiples of powers of.
  constructor(container, { label, kind = "lines", format, axis = format, base = 1, floor = null, ceiling = null, zero = false }) {
    Object.assign(this, { label, kind, format, axis, base, floor, ceiling, zero, reading: null, series: [], bars: [] });
    this.legend = el("ul", { class: "legend" });
    this.picture = svg("svg", {
      class: "chart", role: "slider", tabindex: 0, height: HEIGHT, "aria-label": `${label}; arrow keys read it`,
      "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0,
    });
    this.readout = el("p", { class: "readout" });
    this.rows = scroller(label);
    this.details = el("details", {}, el("summary", {}, "As a table"), this.rows);
    this.details.addEventListener("toggle", () => this.drawTable());
    this.picture.addEventListener("keydown", (event) => this.handleKey(event));
    this.picture.addEventListener("pointermove", (event) => this.handlePointer(event));
    this.picture.addEventListener("pointerleave", () => this.read(null));
    this.picture.addEventListener("blur", () => this.read(null));
    container.replaceChildren(this.legend, this.picture, this.readout, this.details);
    new ResizeObserver(() => this.draw()).observe(this.picture);
  }

  // Lines are `{name, tone, dashed, points: [[ms, value]], band: [[ms, low, high]]}`; bars `{from, to, parts}` with
  // `series` as `{name, tone, part}` from the bottom up.
  update({ series, bars = [] }) {
    this.series = series;
    this.bars = bars;
    this.draw();
    if (this.details.open) this.drawTable();
  }

  times() {
    if (this.kind === "bars") return this.bars.map((bar) => bar.to);
    return this.series[0]?.points.map(([at]) => at) ?? [];
  }

  range() {
    const values = this.kind === "bars"
      ? this.bars.map((bar) => this.series.reduce((sum, one) => sum + (bar.parts[one.part] ?? 0), 0))
      : this.series.flatMap((one) => one.points.map(([, value]) => value).concat(...(one.band ?? []).map(([, low, high]) => [low, high])));
    const known = values.filter((value) => Number.isFinite(value));
    if (known.length === 0) return [0, 1];
    let [low, high] = [Math.min(...known), Math.max(...known)];
    if (this.zero) [low, high] = [Math.min(0, low), Math.max(0, high)];
    const room = (high - low || Math.abs(high) || 1) * 0.08;
    low = this.zero && low === 0 ? 0 : low - room;
    high += room;
    if (this.floor != null) low = Math.max(this.floor, low);
    if (this.ceiling != null) high = Math.min(this.ceiling, high);
    return [low, high > low ? high : low + 1];
  }

  draw() {
    const width = Math.max(240, this.picture.clientWidth || 600);
    const times = this.times();
    this.picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.legend.replaceChildren(...this.series.map((one) => el("li", {},
      svg("svg", { width: 26, height: 12, "aria-hidden": "true" }, this.kind === "bars"
        ? svg("rect", { width: 16, height: 12, x: 5, class: `fill ${one.tone}` })
        : svg("path", { d: "M1 6H25", class: `line ${one.tone}${one.dashed ? " dashed" : ""}` })),
      ` ${one.name}`)));
    if (times.length < (this.kind === "bars" ? 1 : 2)) {
      this.picture.replaceChildren(svg("text", { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "Nothing yet"));
      return;
    }
    const from = this.kind === "bars" ? this.bars[0].from : times[0];
    const to = times.at(-1);
    const [low, high] = this.range();
    this.x = (at) => MARGIN.left + ((at - from) / (to - from || 1)) * (width - MARGIN.left - MARGIN.right);
    this.y = (value) => HEIGHT - MARGIN.bottom - ((value - low) / (high - low)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
    this.cursor = svg("g", {});
    this.picture.replaceChildren(this.axes(width, from, to, low, high), this.kind === "bars" ? this.drawBars() : this.drawLines(), this.cursor);
    this.read(this.reading == null ? null : Math.min(this.reading, times.length - 1));
  }

  axes(width, from, to, low, high) {
    const { at, step } = timeTicks(from, to, width / 90);
    return svg("g", { class: "axes" },
      this.roundValues(low, high).map((value) => [
        svg("path", { d: `M${MARGIN.left} ${this.y(value).toFixed(1)}H${width - MARGIN.right}`, class: Math.abs(value) < 1e-12 ? "grid zero" : "grid" }),
        svg("text", { x: MARGIN.left - 6, y: this.y(value) + 4, "text-anchor": "end" }, this.axis(value)),
      ]),
      at.filter((one) => this.x(one) > MARGIN.left + 8 && this.x(one) < width - 24).map((one) =>
        svg("text", { x: this.x(one), y: HEIGHT - 6, "text-anchor": "middle" }, clock(one, step < 60_000))));
  }

  roundValues(low, high) {
    const size = Math.max(Math.abs(low), Math.abs(high), 1);
    const unit = this.base > 1 ? this.base ** Math.floor(Math.log(size) / Math.log(this.base)) : 1;
    return ticks(low / unit, high / unit, 5).map((value) => value * unit);
  }

  drawLines() {
    return svg("g", {},
      this.series.filter((one) => one.band).map((one) => svg("path", { d: bandPath(one.band, this.x, this.y), class: `band ${one.tone}` })),
      this.series.map((one) => svg("path", { d: linePath(one.points, this.x, this.y), class: `line ${one.tone}${one.dashed ? " dashed" : ""}` })));
  }

  drawBars() {
    return svg("g", {}, this.bars.map((bar) => {
      let below = 0;
      const [left, right] = [this.x(bar.from), this.x(bar.to)];
      return this.series.map((one) => {
        const value = bar.parts[one.part] ?? 0;
        const [bottom, top] = [this.y(below), this.y(below + value)];
        below += value;
        const gap = Math.min(2, (right - left) / 5);
        return value > 0 ? svg("rect", { x: left + gap / 2, y: top, width: Math.max(0.5, right - left - gap), height: bottom - top, class: `fill ${one.tone}` }) : null;
      });
    }));
  }

  valuesAt(place) {
    return this.series.map((one) => (this.kind === "bars" ? this.bars[place].parts[one.part] ?? 0 : one.points[place]?.[1]));
  }

  // Shows the values at a point, or the latest ones.
  read(place) {
    this.reading = place;
    const times = this.times();
    if (times.length === 0 || !this.cursor) return;
    const shown = place ?? times.length - 1;
    const values = this.valuesAt(shown);
    const said = this.series.map((one, which) => `${one.name} ${values[which] == null ? "–" : this.format(values[which])}`).join(", ");
    const text = `${clock(times[shown], true)}: ${said}`;
    this.readout.textContent = place == null ? `Latest, ${text}` : text;
    this.picture.setAttribute("aria-valuemax", times.length - 1);
    this.picture.setAttribute("aria-valuenow", shown);
    this.picture.setAttribute("aria-valuetext", text);
    this.cursor.replaceChildren(...(place == null ? [] : [
      svg("path", { d: `M${this.x(times[shown]).toFixed(1)} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}`, class: "cursor" }),
      ...(this.kind === "bars" ? [] : this.series.map((one, which) => (values[which] == null ? null
        : svg("circle", { cx: this.x(times[shown]), cy: this.y(values[which]), r: 4, class: `fill ${one.tone}` }))).filter(Boolean)),
    ]));
  }

  handleKey(event) {
    const last = this.times().length - 1;
    const now = this.reading ?? last;
    const places = { ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now + 10, PageDown: now - 10, Home: 0, End: last };
    if (event.key === "Escape") this.read(null);
    if (!(event.key in places) || last < 0) return;
    event.preventDefault();
    this.read(Math.min(last, Math.max(0, places[event.key])));
  }

  handlePointer(event) {
    const times = this.times();
    if (times.length < 2 || !this.x) return;
    const box = this.picture.getBoundingClientRect();
    const at = event.clientX - box.left;
    let nearest = 0;
    times.forEach((time, place) => {
      if (Math.abs(this.x(time) - at) < Math.abs(this.x(times[nearest]) - at)) nearest = place;
    });
    this.read(nearest);
  }

  drawTable() {
    if (!this.details.open) return;
    const times = this.times();
    const rows = times.map((at, place) => [clock(at, true), ...this.valuesAt(place).map((value) => (value == null ? "–" : this.format(value)))]);
    const caption = `${this.label}, the latest ${Math.min(rows.length, TABLE_ROWS)} of ${rows.length} points`;
    this.rows.replaceChildren(table(caption, ["Time", ...this.series.map((one) => one.name)], rows.slice(-TABLE_ROWS).reverse()));
  }
}
