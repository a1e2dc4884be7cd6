// Experiments: where they are, what their intervals say, and how those narrowed over time.

import { ask, change, tell } from "./actions.js";
import { Chart, ticks } from "./chart.js";
import { byId, el, moment, number, scroller, svg, table } from "./dom.js";

const MARKS = { PASS: "✓", FAIL: "✕", INCONCLUSIVE: "…", INVALID: "!" };
const FINDINGS = {
  good: "✓ holds", breached: "✕ breached: roll back", worse: "✕ worse", futile: "✕ out of reach", open: "… not known yet",
};

const role = (metric) => {
  const given = metric.role;
  if (typeof given === "string") return { word: given, margin: null };
  if (given.goal) return { word: "goal", margin: given.goal.least * metric.scale || null };
  const { absolute, relative } = given.guardrail;
  const size = absolute == null ? relative * Math.abs(metric.control) : absolute * metric.scale;
  return { word: "guardrail", margin: size == null ? null : -size };
};

// A margin is told on the side of what is better; on the axis of the effect its sign depends on which way that is.
const onAxis = (metric) => {
  const { margin } = role(metric);
  return margin == null ? null : metric.better === "lower" ? -margin : margin;
};

const interval = ({ effect, unit }) =>
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
  const rows = experiment.metrics.map((metric) => [
    metric.name, role(metric).word, `${metric.better} is better`, `${number(metric.control)} ${metric.unit === "points" ? "%" : metric.unit}`,
    interval(metric), drawInterval(metric), FINDINGS[metric.finding] ?? metric.finding,
  ]);
  if (rows.length === 0) return [];
  const heads = ["Metric", "Role", "Direction", "Control", "Effect (interval)", "Against zero and margin", "Finding"];
  return scroller(`Metrics of ${experiment.name}`,
    table("Treated less control; intervals are valid at every look", heads, rows));
};

const overTime = (metric, looks) => {
  const frame = el("div", {});
  const chart = new Chart(frame, { label: `${metric.name}, effect over time`, format: number, zero: true });
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
  const rows = experiment.changes.map((one) => [one.number, moment(one.at_micros / 1000), one.action, one.who, one.why]);
  return rows.length === 0 ? [] : el("details", {}, el("summary", {}, "What was changed, by whom and why"),
    scroller(`Changes of ${experiment.name}`,
      table("Changes", ["No.", "When", "What", "Who", "Why"], rows)));
};

const actions = (experiment, path) => {
  if (!path || experiment.actions.length === 0) return [];
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

// Only of the goal are all looks kept.
const goal = ({ design, looks, metrics: all }) => {
  const metric = all.find((one) => one.name === design.goal);
  if (metric == null || looks.length < 2) return [];
  const at = (block) => Date.parse(design.start) + (block + 1) * design.block_seconds * 1000;
  const points = looks.map(({ block, effect }) => {
    const { estimate, low, high } = times(effect, metric.scale);
    return [at(block), estimate, low, high];
  });
  return overTime(metric, points);
};

const show = (experiment, path) => el("article", { class: "experiment" },
  el("h3", {}, experiment.name, " ",
    el("span", { class: `badge verdict-${experiment.verdict.toLowerCase()}` }, `${MARKS[experiment.verdict]} ${experiment.verdict}`)),
  el("p", {}, `${experiment.arm} against the champion ${experiment.control_version}`.trim(), "; stage ",
    el("strong", {}, experiment.stage), experiment.is_paused ? ", paused" : "", `, blocks from ${moment(experiment.design.start)}.`),
  experiment.flaws.map((flaw) => el("p", { class: "warning" }, `! ${flaw}`)),
  metrics(experiment),
  el("div", { class: "columns" }, goal(experiment)),
  changes(experiment), actions(experiment, path));

let shown = null;

// Shares are read as percent, and differences of them as points. A bound that is not known is null.
const scaled = (metric) => {
  const isShare = metric.name.endsWith("_ratio");
  const scale = isShare ? 100 : 1;
  return {
    ...metric, scale, unit: isShare ? "points" : "ms", control: metric.control * scale, effect: times(metric.effect, scale),
  };
};

const times = ({ estimate, low, high }, scale) => {
  const scaledBy = (value) => value == null ? null : value * scale;
  return { estimate: scaledBy(estimate), low: scaledBy(low), high: scaledBy(high) };
};

// Where there are none: in a fleet they are told where they are conducted.
const nothing = ({ fleet }) => {
  if (fleet?.conducts_experiments && fleet.conducts_experiments !== fleet.name) {
    return el("p", {}, "Experiments are conducted by predictor ", el("strong", {}, fleet.conducts_experiments), ": its page shows them.");
  }
  return el("p", {}, "No experiment is running. The arm in force is held against ", el("em", {}, "none"), " all the time, above.");
};

export const drawExperiments = ({ controls, experiments: reports, status }) => {
  const place = byId("experiment-list");
  const experiments = reports.map((report) => ({ ...report, metrics: report.metrics.map(scaled) }));
  const now = JSON.stringify([experiments, controls.experiment, status.fleet?.conducts_experiments]);
  // What somebody is using is not taken from under them.
  if (now === shown || (shown != null && place.contains(document.activeElement))) return;
  shown = now;
  place.replaceChildren(...(experiments.length === 0 ? [nothing(status)] : experiments.map((experiment) => show(experiment, controls.experiment))));
};
