// From sums since the predictor's start to what happened between two samples.

const POINTS_MAX = 120;

// Samples far enough apart that a chart has at most POINTS_MAX points, always the same ones while it moves on.
export const thin = (samples) => {
  const step = Math.max(1, Math.ceil(samples.length / POINTS_MAX));
  const last = samples.length - 1;
  return samples.filter((sample, place) => sample.number % step === 0 || place === last || place === 0);
};

const arm = (sample, name) => sample.arms.find((one) => one.name === name);

// The names of all arms that appear, those that nodes served first and none last.
export const armNames = (samples) => {
  const names = new Set(samples.flatMap((sample) => sample.arms.map((one) => one.name)));
  return [...names].filter((name) => name !== "none").sort().concat(names.has("none") ? ["none"] : []);
};

// For each pair of successive samples, `of` of the differences; null where nothing happened or a sum fell.
const between = (samples, name, of) =>
  samples.slice(1).map((sample, place) => {
    const [before, now] = [arm(samples[place], name), arm(sample, name)];
    const zero = { requests: 0, hits: 0, latency_seconds: 0 };
    const from = before ?? zero;
    const requests = now ? now.requests - from.requests : 0;
    return [sample.at_ms, requests > 0 ? of(now, from, requests) : null];
  });

export const hitRatio = (samples, name) =>
  between(samples, name, (now, before, requests) => Math.min(1, Math.max(0, (now.hits - before.hits) / requests)));

export const latency = (samples, name) =>
  between(samples, name, (now, before, requests) =>
    Math.max(0, (1000 * (now.latency_seconds - before.latency_seconds)) / requests));

export const sums = (samples, of) => samples.map((sample) => [sample.at_ms, of(sample)]);

// Outcomes by stretch of time, at most `most` of them.
export const outcomeBars = (samples, most) => {
  const step = Math.max(1, Math.ceil((samples.length - 1) / most));
  const ends = samples.filter((sample, place) => place === 0 || sample.number % step === 0 || place === samples.length - 1);
  return ends.slice(1).map((sample, place) => {
    const before = ends[place];
    const parts = {};
    for (const [name, value] of Object.entries(sample.outcomes)) parts[name] = Math.max(0, value - before.outcomes[name]);
    return { from: before.at_ms, to: sample.at_ms, parts };
  });
};

// Requests a second over about the last half minute.
export const rate = (samples) => {
  const last = samples.at(-1);
  const first = samples.find((sample) => sample.at_ms >= last.at_ms - 30_000) ?? samples[0];
  const all = (sample) => arm(sample, "none")?.requests ?? 0;
  const apart = (last.at_ms - first.at_ms) / 1000;
  return apart > 0 ? Math.max(0, all(last) - all(first)) / apart : null;
};

export const latest = (samples, name) => {
  const last = samples.at(-1);
  return last ? arm(last, name) : undefined;
};
