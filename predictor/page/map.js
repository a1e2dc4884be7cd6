// Regions and their nodes as a picture and as a table.

import { byId, bytes, count, el, milliseconds, percent, svg, table } from "./dom.js";
import { layOut } from "./places.js";

const DISC = 19;
const TURN = 2 * Math.PI * DISC;
const NODES_DRAWN_MAX = 200;
const LINKS_TOLD_MAX = 6;

const ratio = (tally) => (tally && tally.requests > 0 ? tally.hits / tally.requests : null);
const mean = (tally) => (tally && tally.requests > 0 ? (1000 * tally.latency_seconds) / tally.requests : null);
const clip = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

const disc = (node, tally, x, y) => {
  const share = ratio(tally);
  const told = node.alive ? `hit ratio ${percent(share)}` : "down";
  return svg("g", { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, class: node.alive ? "node" : "node dead" },
    svg("title", {}, `${node.name} in ${node.region}: ${told}`),
    svg("circle", { r: DISC, class: "rim" }),
    node.alive && share != null
      ? svg("circle", { r: DISC, class: "share", "stroke-dasharray": `${(share * TURN).toFixed(2)} ${TURN.toFixed(2)}`, transform: "rotate(-90)" })
      : null,
    svg("text", { y: 4.5, "text-anchor": "middle" }, node.alive ? (share == null ? "–" : Math.round(share * 100)) : "✕"));
};

// The offsets of a region's nodes around its place.
const around = (size) => {
  if (size === 1) return [[0, 0]];
  const radius = Math.max(DISC * 1.25, (size * DISC * 2.3) / (2 * Math.PI));
  return Array.from({ length: size }, (_, place) => {
    const angle = (2 * Math.PI * place) / size - Math.PI / 2;
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
};

const links = (regions, places, isEven) => {
  const { names, rtt_ms: rtt } = regions;
  const pairs = names.flatMap((_, a) => names.slice(a + 1).map((_, place) => [a, a + 1 + place]));
  const isFew = pairs.length <= LINKS_TOLD_MAX;
  const nearest = names.map((_, a) => rtt[a].reduce((best, one, b) => (b !== a && (best < 0 || one < rtt[a][best]) ? b : best), -1));
  return pairs.map(([a, b]) => {
    const isTold = isFew || (!isEven && (nearest[a] === b || nearest[b] === a));
    const [[x1, y1], [x2, y2]] = [places[a], places[b]];
    return [
      svg("path", { d: `M${x1.toFixed(1)} ${y1.toFixed(1)}L${x2.toFixed(1)} ${y2.toFixed(1)}`, class: isTold && !isEven ? "link near" : "link" }),
      isTold && Math.hypot(x2 - x1, y2 - y1) > 110
        ? svg("text", { x: (x1 + x2) / 2, y: (y1 + y2) / 2 - 4, "text-anchor": "middle", class: "trip" }, milliseconds(rtt[a][b]))
        : null,
    ];
  });
};

const picture = (page, width) => {
  const { status, nodes, regions } = page;
  const tallies = new Map(nodes.map((tally) => [tally.name, tally]));
  const drawn = status.nodes.slice(0, NODES_DRAWN_MAX);
  const height = Math.max(240, Math.min(420, width * 0.45));
  const { how, isEven, places } = layOut(regions.names, regions.rtt_ms, width, height - 12, 56, 92);
  const groups = regions.names.map((name, place) => {
    const here = drawn.filter((node) => node.region === name);
    const offsets = around(here.length);
    const below = Math.max(...offsets.map(([, y]) => y), 0) + DISC + 17;
    return svg("g", {},
      here.map((node, which) => disc(node, tallies.get(node.name), places[place][0] + offsets[which][0], places[place][1] + offsets[which][1])),
      svg("text", { x: places[place][0], y: places[place][1] + below, "text-anchor": "middle", class: "region" }, clip(name, 18)));
  });
  const alive = status.nodes.filter((node) => node.alive).length;
  const label = `Map of ${regions.names.length} regions; ${alive} of ${status.nodes.length} nodes are up. The table below says the same.`;
  return { how, isEven, drawing: svg("svg", { role: "img", "aria-label": label, width, height, viewBox: `0 0 ${width} ${height}` }, links(regions, places, isEven), groups) };
};

const note = (page, how, isEven) => {
  const { regions, status } = page;
  const alive = status.nodes.filter((node) => node.alive).length;
  const said = [`${alive} of ${status.nodes.length} nodes are up. A ring shows the share of a node’s requests that were hits, in percent; ✕ is a node that is down.`];
  if (isEven && regions.names.length > 1) said.push(`All regions are ${milliseconds(regions.rtt_ms[0][1])} apart.`);
  if (how) said.push(how);
  if (regions.regions_count > regions.names.length) said.push(`Drawn are the first ${regions.names.length} of ${regions.regions_count} regions.`);
  return said.join(" ");
};

export const drawMap = (page) => {
  const tallies = new Map(page.nodes.map((tally) => [tally.name, tally]));
  const frame = byId("map-picture");
  if (page.status.nodes.length === 0) {
    byId("map-note").textContent = "No node has joined yet.";
    frame.replaceChildren();
    byId("nodes").replaceChildren();
    byId("nodes").hidden = true;
    return;
  }
  byId("nodes").hidden = false;
  const { how, isEven, drawing } = picture(page, Math.max(280, frame.clientWidth));
  byId("map-note").textContent = note(page, how, isEven);
  frame.replaceChildren(drawing);
  const trips = new Map(page.regions.names.map((name, place) => [name, page.regions.origin_rtt_ms[place]]));
  const rows = page.status.nodes.map((node) => {
    const tally = tallies.get(node.name);
    return [
      node.name, node.region,
      el("span", { class: node.alive ? "up" : "down" }, node.alive ? "● up" : "✕ down"),
      count(tally?.requests ?? 0),
      el("span", { "data-node": node.name, "data-value": ratio(tally) ?? "" }, percent(ratio(tally))),
      count(tally?.prefetched ?? 0), count(tally?.peer ?? 0), count(tally?.origin ?? 0), count(tally?.errors ?? 0),
      milliseconds(mean(tally)), milliseconds(trips.get(node.region)), bytes(node.capacity_bytes),
    ];
  });
  const heads = ["Node", "Region", "State", "Requests", "Hit ratio", "First uses of prefetches", "From peers", "From origin", "Errors", "Mean latency", "Origin round trip", "Capacity"];
  byId("nodes").replaceChildren(table("Nodes, since the predictor started", heads, rows, { unseen: true }));
};
