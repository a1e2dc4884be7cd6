// Experiments: where they are, what their intervals say, and how those narrowed over time.

import { ask, change, tell } from "./actions.js";
import { Chart, ticks } from "./chart.js";
import { byId, el, moment, number, svg, table } from "./dom.js";

const MARKS = { PASS: "✓", FAIL: "✕", INCONCLUSIVE: "…", INVALID: "!" };
const FINDINGS = {
  good: "✓ holds", breached: "✕ breached: roll back", worse: "✕ worse", futile: "✕ out of reach", open: "… not known yet",
};

const role = (metric) => {
  const given = metric.role;
  if (typeof given === "string") return { word: given, margin: null };
  if (given?.goal) return { word: "goal", margin: given.goal.least || null };
  const margin = given?.guardrail ?? {};
  const size = margin.absolute ?? (margin.relative == null ? null : margin.relative * Math.abs(metric.control));
  return { word: "guardrail", margin: size == null ? null : -size };
};

// A margin is told on the side of what is better; on the axis of the effect its sign depends on which way that is.
const onAxis = (metric) => {
  const { margin } = role(metric);
  return margin == null ? null : metric.better === "lower" ? -margin : margin;
};

const interval = ({ effect, unit = "" }) =>
  `${number(effect.estimate)} (${effect.low == null ? "−∞" : number(effect.low)} to ${effect.high == null ? "∞" : number(effect.high)}) ${unit}`.trim();

// One interval against zero and its margin.
const drawInterval = (metric) => {
  const [width, height, edge] = [220, 40, 8];
  const { low, high, estimate } = metric.effect;
  const margin = onAxis(metric);
  const marks = [0, low, high, estimate, margin].filter(Number.isFinite);
  const [least, most] = [Math.min(...marks), Math.max(...marks)];
  const room = (most - least || 1) * 0.1;
  const x = (value) => edge + ((value - least + room) / (most - least + 2 * room)) * (width - 2 * edge);
  const label = `${metric.name}: treated less control ${interval(metric)}${margin == null ? "" : `, margin ${number(margin)}`}`;
  return svg("svg", { role: "img", "aria-label": label, width, height, viewBox: `0 0 ${width} ${height}`, class: "forest" },
    ticks(least - room, most + room, 3).map((value) => svg("text", { x: x(value), y: height - 2, "text-anchor": "middle" }, number(value))),
    svg("path", { d: `M${x(0)} 2V26`, class: "grid zero" }),
    margin == null ? null : svg("path", { d: `M${x(margin)} 2V26`, class: "margin" }),
    svg("path", { d: `M${low == null ? 0 : x(low)} 14H${high == null ? width : x(high)}`, class: "whisker" }),
    estimate == null ? null : svg("circle", { cx: x(estimate), cy: 14, r: 5, class: "estimate" }));
};

const metrics = (experiment) => {
  const rows = (experiment.metrics ?? []).map((metric) => [
    metric.name, role(metric).word, `${metric.better} is better`, `${number(metric.control)} ${metric.unit ?? ""}`,
    interval(metric), drawInterval(metric), FINDINGS[metric.finding] ?? metric.finding ?? "–",
  ]);
  if (rows.length === 0) return [];
  const heads = ["Metric", "Role", "Direction", "Control", "Effect (interval)", "Against zero and margin", "Finding"];
  return el("div", { class: "scroll", role: "region", "aria-label": `Metrics of ${experiment.name}, table`, tabindex: 0 },
    table("Treated less control; intervals are valid at every look", heads, rows));
};

const overTime = (metric) => {
  const frame = el("div", {});
  const chart = new Chart(frame, { label: `${metric.name}, effect over time`, format: number, zero: true });
  const looks = metric.looks ?? [];
  const margin = onAxis(metric);
  const series = [{
    name: "effect", tone: "tone-1", points: looks.map(([at, estimate]) => [at, estimate]),
    band: looks.map(([at, , low, high]) => [at, low, high]),
  }];
  if (margin != null && looks.length > 1) series.push({ name: "margin", tone: "tone-2", dashed: true, points: looks.map(([at]) => [at, margin]) });
  requestAnimationFrame(() => chart.update({ series }));
  return el("section", {}, el("h4", {}, `${metric.name} over time`), frame);
};

const changes = (experiment) => {
  const rows = (experiment.changes ?? []).map((one) => [one.number, moment(one.at_micros / 1000), one.action, one.who, one.why]);
  return rows.length === 0 ? [] : el("details", {}, el("summary", {}, "What was changed, by whom and why"),
    el("div", { class: "scroll", role: "region", "aria-label": `Changes of ${experiment.name}, table`, tabindex: 0 },
      table("Changes", ["No.", "When", "What", "Who", "Why"], rows)));
};

const actions = (experiment, path) => {
  if (!path || !(experiment.actions?.length > 0)) return [];
  const act = async (action) => {
    const why = await ask(`${action} ${experiment.name}?`, { wantsReason: true });
    if (why == null) return;
    try {
      await change(path, { name: experiment.name, action, why });
      tell(`✓ ${action} ${experiment.name}: accepted.`);
    } catch (error) {
      tell(`! ${action} ${experiment.name}: ${error.message}`, true);
    }
  };
  return el("div", { class: "row" }, experiment.actions.map((action) =>
    el("button", { type: "button", class: action === "promote" ? "" : "quiet", onclick: () => act(action) }, action)));
};

const show = (experiment, path) => el("article", { class: "experiment" },
  el("h3", {}, experiment.name, " ",
    el("span", { class: `badge verdict-${String(experiment.verdict).toLowerCase()}` }, `${MARKS[experiment.verdict] ?? ""} ${experiment.verdict ?? "no verdict yet"}`)),
  el("p", {}, `${experiment.treated ?? "treated"} against ${experiment.control ?? "control"}; stage `,
    el("strong", {}, experiment.stage ?? "–"), experiment.paused ? ", paused" : "",
    experiment.started_at ? `, since ${moment(experiment.started_at)}` : "", "."),
  (experiment.flaws ?? []).map((flaw) => el("p", { class: "warning" }, `! ${flaw}`)),
  metrics(experiment),
  el("div", { class: "columns" }, (experiment.metrics ?? []).filter((metric) => metric.looks?.length > 1).map(overTime)),
  changes(experiment), actions(experiment, path));

let shown = null;

// As the predictor reports them, in the words that are shown.
const told = (experiment) => {
  const { design } = experiment;
  const at = (block) => Date.parse(design.start) + (block + 1) * design.block_seconds * 1000;
  const looks = (experiment.looks ?? []).slice(-200).map(({ block, effect }) => [at(block), effect.estimate, effect.low, effect.high]);
  return {
    ...experiment,
    treated: experiment.treated ?? experiment.arm,
    control: experiment.control ?? `the champion ${experiment.control_version ?? ""}`.trim(),
    paused: experiment.paused ?? experiment.is_paused,
    started_at: experiment.started_at ?? design?.start,
    metrics: (experiment.metrics ?? []).map((metric) => metric.name === design?.goal ? { looks, ...metric } : metric),
  };
};

export const drawExperiments = ({ status, controls, experiments: reports }) => {
  const place = byId("experiment-list");
  const experiments = (reports?.length ? reports : status.experiments ?? []).map(told);
  const now = JSON.stringify([experiments, controls.experiment]);
  // What somebody is using is not taken from under them.
  if (now === shown || (shown != null && place.contains(document.activeElement))) return;
  shown = now;
  const none = el("p", {}, "No experiment is running. The arm in force is held against ", el("em", {}, "none"), " all the time, above.");
  place.replaceChildren(...(experiments.length === 0 ? [none] : experiments.map((experiment) => show(experiment, controls.experiment))));
};
