// The page: reads what the predictor says every few seconds, and draws it.

import { drawChange, watchChangeForm } from "./actions.js";
import { Chart } from "./chart.js";
import { byId, bytes, clock, count, el, milliseconds, number, percent, points, seconds } from "./dom.js";
import { drawExperiments } from "./experiments.js";
import { watchKeyForm } from "./key.js";
import { drawMap } from "./map.js";
import { drawModels } from "./models.js";
import { drawPredictors } from "./predictors.js";
import { armNames, hitRatio, latency, latest, outcomeBars, rate, sums, thin } from "./series.js";

const PAUSE_MS = 2_000;
const PAUSE_MS_MAX = 15_000;

const state = { page: null, samples: [], generation: null, failures: 0, failedSince: null, timer: null };

const charts = {
  hits: new Chart(byId("hits"), { label: "Hit ratio", format: percent, axis: (value) => percent(value, 0), floor: 0, ceiling: 1 }),
  latency: new Chart(byId("latency"), { label: "Mean latency", format: milliseconds, floor: 0 }),
  spent: new Chart(byId("spent"), { label: "Bytes spent and earned", format: bytes, base: 1024, zero: true }),
  outcomes: new Chart(byId("outcomes"), { label: "Outcomes", kind: "bars", format: count, zero: true }),
};

const tone = (name, place) => (name === "none" ? { tone: "tone-none", dashed: true } : { tone: `tone-${(place % 4) + 1}` });

const drawCharts = (samples) => {
  const some = thin(samples);
  const arms = armNames(samples);
  const lines = (of) => arms.map((name, place) => ({ name, ...tone(name, place), points: of(some, name) }));
  charts.hits.update({ series: lines(hitRatio) });
  charts.latency.update({ series: lines(latency) });
  charts.spent.update({
    series: [
      { name: "spent", tone: "tone-2", points: sums(some, (sample) => sample.bytes.spent) },
      { name: "earned", tone: "tone-3", points: sums(some, (sample) => sample.bytes.earned) },
      { name: "wasted", tone: "tone-4", dashed: true, points: sums(some, (sample) => sample.bytes.wasted) },
    ],
  });
  charts.outcomes.update({
    series: [
      { name: "used", tone: "tone-3", part: "used" },
      { name: "late", tone: "tone-late", part: "late" },
      { name: "evicted unused", tone: "tone-2", part: "evicted_unused" },
      { name: "expired", tone: "tone-none", part: "expired" },
    ],
    bars: outcomeBars(samples, 40),
  });
};

const tile = (name, field, value, text, more) =>
  el("div", { class: "tile" }, el("dt", {}, name), el("dd", { "data-field": field, "data-value": value ?? "" }, text), el("dd", { class: "more" }, more));

const drawTiles = ({ status, nodes }, samples) => {
  const { account } = status;
  const all = nodes.reduce((sum, node) => ({
    requests: sum.requests + node.requests, hits: sum.hits + node.hits, latency: sum.latency + node.latency_seconds, errors: sum.errors + node.errors,
  }), { requests: 0, hits: 0, latency: 0, errors: 0 });
  const ratio = all.requests > 0 ? all.hits / all.requests : null;
  const mean = all.requests > 0 ? (1000 * all.latency) / all.requests : null;
  const none = samples.length > 0 ? latest(samples, "none") : null;
  const gain = all.requests > 0 ? account.saved_requests / all.requests : 0;
  const perSecond = samples.length > 1 ? rate(samples) : null;
  const earned = account.budget.baseline_bytes - account.demand_bytes;
  const spent = account.budget.extra_bytes + earned;
  byId("tiles").replaceChildren(
    tile("Hit ratio", "hit_ratio", ratio, percent(ratio), ratio == null ? "no request yet" : `${points(gain)} against none`),
    tile("Mean latency", "latency_ms", mean, milliseconds(mean), none && none.requests > 0 ? `none: ${milliseconds((1000 * none.latency_seconds) / none.requests)}` : "–"),
    tile("Requests", "requests", all.requests, count(all.requests), perSecond == null ? `${count(all.errors)} errors` : `${number(perSecond)} a second, ${count(all.errors)} errors`),
    tile("Latency saved", "saved_seconds", account.saved_seconds, seconds(account.saved_seconds), `${count(account.saved_requests)} more hits`),
    tile("Prefetches", "issued", account.issued, count(account.issued), `${count(account.used)} used, ${count(account.late)} late, ${count(account.unused)} unused`),
    tile("Bytes spent", "spent_bytes", spent, bytes(spent), `${bytes(earned)} earned; ${bytes(account.budget.balance_bytes)} left to spend`),
  );
};

const draw = () => {
  const { page, samples } = state;
  byId("arm").textContent = `Arm in force: ${page.status.arm}`;
  byId("model").textContent = page.status.model ? `Model ${page.status.model.version}` : "No model";
  byId("version").textContent = `nearcast ${page.status.code_version}.`;
  drawTiles(page, samples);
  drawMap(page);
  drawCharts(samples);
  drawPredictors(page);
  drawExperiments(page);
  drawModels(page);
  drawChange(page);
};

const tellState = () => {
  const place = byId("state");
  const text = state.failures > 0 ? `✕ No answer since ${clock(state.failedSince, true)}` : state.page ? "● Live" : "Loading…";
  if (place.textContent !== text) place.textContent = text;
  place.className = state.failures > 0 ? "state down" : "state up";
};

const take = (page) => {
  // The upper half of the epoch counts the predictor's starts; after one, samples are numbered anew.
  const generation = Math.floor(page.status.epoch / 2 ** 32);
  const isNew = state.generation != null && generation !== state.generation;
  state.samples = (isNew ? [] : state.samples).concat(page.series.samples).slice(-page.series.samples_max);
  state.generation = generation;
  state.page = page;
  return isNew;
};

const refresh = async () => {
  clearTimeout(state.timer);
  try {
    const after = state.samples.at(-1)?.number ?? 0;
    const answer = await fetch(`/api/status?after=${after}`);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const isNew = take(await answer.json());
    state.failures = 0;
    draw();
    if (isNew) {
      state.samples = [];
      state.timer = setTimeout(refresh, 0);
      return;
    }
  } catch (error) {
    if (state.failures === 0) state.failedSince = Date.now();
    state.failures += 1;
    console.debug("no answer", error);
  }
  tellState();
  const pause = Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** Math.min(3, state.failures));
  if (!document.hidden) state.timer = setTimeout(refresh, pause);
};

const THEMES = ["system", "light", "dark"];

const setTheme = (theme) => {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
};

const watchTheme = () => {
  let theme = "system";
  try {
    theme = localStorage.getItem("theme") ?? theme;
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  setTheme(THEMES.includes(theme) ? theme : "system");
  byId("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    setTheme(theme);
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // As above.
    }
  });
};

watchTheme();
watchKeyForm();
watchChangeForm(refresh);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
new ResizeObserver(() => state.page && drawMap(state.page)).observe(byId("map-picture"));
refresh();
