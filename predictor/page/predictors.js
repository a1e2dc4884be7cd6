// Several predictors that share one cluster: who has how much of the work, and what keeps one from its part.

import { byId, count, el, scroller, table } from "./dom.js";

const whatLacks = (arms = {}) => Object.entries(arms).map(([arm, why]) => `${arm}: ${why}`).join("; ");

export const drawPredictors = ({ status }) => {
  const { fleet } = status;
  byId("predictors").hidden = !fleet;
  if (!fleet) return;
  const duties = (name) => [
    fleet.places_keys === name ? "places keys" : null,
    fleet.conducts_experiments === name ? "conducts experiments" : null,
  ].filter(Boolean).join(", ");
  const rows = Object.entries(fleet.members).map(([name, partitions]) => [
    name === fleet.name ? el("strong", {}, `${name} (this one)`) : name,
    count(partitions), duties(name) || "–", whatLacks(fleet.arms_lacking[name]) || "–",
  ]);
  const said = [];
  if (!(fleet.name in fleet.members)) {
    said.push(el("p", { class: "warning" }, "! This predictor takes no part: the bus is away, or has not answered yet."));
  }
  if (fleet.experiments_trouble) {
    said.push(el("p", { class: "warning" }, `! Experiments cannot be conducted here: ${fleet.experiments_trouble}`));
  }
  if (Object.keys(fleet.arms_lacking).length > 0) {
    said.push(el("p", { class: "warning" }, "! A challenger is not at every predictor: no block of its experiment counts."));
  }
  const heads = ["Predictor", "Partitions", "Does for all", "Lacks of challengers"];
  said.push(scroller("Predictors",
    table("Clients are shared out by partition; figures of this page are of this predictor’s share", heads, rows)));
  const place = byId("predictor-list");
  // What somebody scrolls is not taken from under them.
  if (place.textContent !== said.map((node) => node.textContent).join("")) place.replaceChildren(...said);
};
