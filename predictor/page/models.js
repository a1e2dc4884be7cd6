// The registry's versions, and which is in force.

import { byId, count, el, moment, scroller, table } from "./dom.js";

export const drawModels = (page) => {
  const { registry, status } = page;
  const said = [];
  const inForce = status.model?.version;
  said.push(el("p", {}, inForce
    ? [el("strong", {}, inForce), ` is in force since ${moment(status.model.since)}.`]
    : "No trained version is in force: the predictor learns online only."));
  if (status.model_refused) {
    said.push(el("p", { class: "warning" }, `! ${status.model_refused.version} could not be loaded: ${status.model_refused.reason}`));
  }
  if (!registry) {
    said.push(el("p", { class: "note" }, ["The predictor has no registry; ", el("code", {}, "registry"), " in its configuration names one."]));
  } else {
    if (registry.error) said.push(el("p", { class: "warning" }, `! The registry could not be listed: ${registry.error}`));
    const rows = registry.versions.map((version) => [
      version.version,
      version.version === inForce ? el("strong", {}, "● in force") : "",
      version.aliases.join(", ") || "–", moment(version.created_at), count(version.training_requests),
      `${moment(version.training_first_at)} to ${moment(version.training_last_at)}`,
    ]);
    const heads = ["Version", "State", "Aliases", "Made", "Requests trained on", "Of the time"];
    if (rows.length > 0) {
      said.push(scroller("Model versions",
        table(`The latest ${rows.length} of ${registry.versions_count} versions in the registry`, heads, rows)));
    } else if (!registry.error) said.push(el("p", { class: "note" }, "The registry holds no version yet."));
  }
  byId("model-list").replaceChildren(...said);
};
