// One key's story: who holds it, how often it was asked for, what was ordered and what came of it.

import { byId, bytes, count, el, moment, number, percent, scroller, table } from "./dom.js";

const OUTCOMES = { used: "used", late: "late", evicted_unused: "evicted unused", expired: "expired" };

const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));

const ended = (command) => {
  const said = Object.entries(OUTCOMES).filter(([name]) => command.outcomes[name] > 0)
    .map(([name, word]) => (command.segments > 1 ? `${command.outcomes[name]} ${word}` : word));
  if (said.length > 0) return said.join(", ");
  return command.status === "done" ? "stored, not asked for yet" : "–";
};

const holders = (story) => {
  if (story.holders.length === 0) return el("p", {}, "No node is known to hold it.");
  const rows = story.holders.map((holder) => [holder.node, holder.region, `${holder.segments_held} of ${holder.segments}`]);
  return scroller("Holders",
    table("Nodes that hold it", ["Node", "Region", "Segments"], rows));
};

const commands = (story) => {
  if (story.commands.length === 0) {
    const lost = story.commands_forgotten > 0 ? ` The oldest ${count(story.commands_forgotten)} commands about any key are no longer remembered.` : "";
    return el("p", {}, `No command about it is remembered.${lost}`);
  }
  const rows = story.commands.map((command) => [
    moment(command.issued_at), command.node, command.action, command.segments, percent(command.probability),
    `${number(1000 * command.expected_value_seconds)} ms`, command.arm, command.model_version || "–",
    command.status ?? "under way", bytes(command.transferred_bytes), ended(command),
  ]);
  const heads = ["Issued", "Node", "Action", "Segments", "P(use) claimed", "Value expected", "Arm", "Version", "Result", "Transferred", "Outcome"];
  return scroller("Commands",
    table("Commands about it, the latest first", heads, rows));
};

const show = (story) => {
  const parts = [el("h3", { class: "key-name" }, story.key)];
  if (!story.known) {
    parts.push(el("p", {}, "The predictor does not know this key: nobody has asked for it, or it was forgotten to make room. Keys are compared byte by byte."));
  } else {
    parts.push(el("dl", { class: "facts" },
      fact("Size", story.size_bytes == null ? "not known yet" : bytes(story.size_bytes)),
      fact("Requests", count(story.requests)),
      fact("First asked for", moment(story.first_at)), fact("Last asked for", moment(story.last_at))));
  }
  if (story.known) parts.push(holders(story));
  if (story.known || story.commands.length > 0) parts.push(commands(story));
  return parts;
};

export const watchKeyForm = () => {
  const place = byId("key-story");
  byId("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const key = byId("key-input").value;
    try {
      const answer = await fetch(`/api/key?key=${encodeURIComponent(key)}`);
      const story = await answer.json();
      place.replaceChildren(...(answer.ok ? show(story) : [el("p", { class: "warning" }, `! ${story.error}`)]));
    } catch (error) {
      place.replaceChildren(el("p", { class: "warning" }, `! The predictor does not answer: ${error.message}`));
    }
  });
};
