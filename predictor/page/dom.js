// Elements, and numbers as text. Text only ever becomes text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

const fill = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, String(value));
  }
  node.append(...children.flat(2).filter((child) => child != null));
  return node;
};

export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

// A table with a caption, from column heads and rows of cells; a cell is text or nodes.
export const table = (caption, heads, rows, { unseen = false } = {}) =>
  el("table", {},
    el("caption", unseen ? { class: "unseen" } : {}, caption),
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, place) =>
      place === 0 ? el("th", { scope: "row" }, cell) : el("td", {}, cell))))));

// What is too wide scrolls by itself, also with the keyboard.
export const scroller = (label, ...children) =>
  el("div", { class: "scroll", role: "region", "aria-label": `${label}, table`, tabindex: 0 }, children);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (value) => whole.format(value);
export const percent = (share, digits = 1) => (share == null ? "–" : `${(share * 100).toFixed(digits)} %`);
export const points = (share) => `${share < 0 ? "−" : "+"}${Math.abs(share * 100).toFixed(1)} points`;
export const number = (value) => (value == null ? "–" : short.format(value));
export const milliseconds = (value) =>
  value == null ? "–" : value >= 10_000 ? `${short.format(value / 1000)} s` : `${short.format(value)} ms`;
export const seconds = (value) => {
  const size = Math.abs(value);
  if (size >= 7200) return `${short.format(value / 3600)} h`;
  return size >= 120 ? `${short.format(value / 60)} min` : `${short.format(value)} s`;
};

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
export const bytes = (value) => {
  if (value == null) return "–";
  const step = Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(1, Math.abs(value))) / 10));
  return `${short.format(value / 1024 ** step)} ${UNITS[step]}`;
};

const two = (value) => String(value).padStart(2, "0");
export const clock = (ms, withSeconds = false) => {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}${withSeconds ? `:${two(at.getSeconds())}` : ""}`;
};
export const moment = (text) => {
  const at = text ? new Date(text) : null;
  if (!at || Number.isNaN(at.getTime())) return "–";
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(at, true)}`;
};
