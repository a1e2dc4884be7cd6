// Where regions lie on a picture: by longitude and latitude where every name is known, by round trips otherwise.

// Longitude, latitude of what region names of clouds begin with.
const KNOWN = {
  "us-east": [-77, 38], "us-west": [-121, 42], "us-central": [-96, 41], "us-south": [-98, 31], us: [-96, 39],
  "ca-central": [-73, 46], "ca-west": [-114, 51], canada: [-79, 44], "mx-central": [-100, 21],
  "sa-east": [-47, -23], "southamerica-east": [-47, -23], "southamerica-west": [-70, -33],
  "northamerica-northeast": [-73, 46], sa: [-47, -23],
  "eu-west": [-7, 53], "eu-central": [9, 50], "eu-north": [18, 59], "eu-south": [9, 45], eu: [8, 50],
  "europe-west": [4, 51], "europe-central": [21, 52], "europe-north": [27, 61], "europe-southwest": [-4, 40],
  uk: [-1, 52], "me-south": [51, 26], "me-central": [55, 25], "me-west": [35, 32], "il-central": [35, 32],
  "af-south": [18, -34], "africa-south": [28, -26], af: [18, -34],
  "ap-northeast": [139, 36], "ap-southeast": [104, 1], "ap-south": [73, 19], "ap-east": [114, 22], ap: [120, 20],
  "asia-northeast": [139, 36], "asia-southeast": [104, 1], "asia-south": [73, 19], "asia-east": [121, 24], asia: [110, 25],
  "australia-southeast": [151, -34], au: [151, -34],
};

// The longest of these names that is the region's, numbers and letters of zones apart: us-east-1, europe-west4-b.
const known = (name) => {
  const plain = name.toLowerCase().replaceAll("_", "-");
  const isOf = (one) => plain.startsWith(one) && /^(-?\d.*)?$/.test(plain.slice(one.length));
  const longest = Object.keys(KNOWN).filter(isOf).sort((a, b) => b.length - a.length)[0];
  return longest ? KNOWN[longest] : null;
};

// Stress majorisation (de Leeuw's SMACOF) from a circle: distances on the picture come as close to the round trips as
// two dimensions allow. Without any difference between them the circle stays.
const byRoundTrips = (rtt) => {
  const size = rtt.length;
  let places = rtt.map((_, place) => {
    const angle = (2 * Math.PI * place) / size - (size === 2 ? Math.PI : Math.PI / 2);
    return [Math.cos(angle), Math.sin(angle)];
  });
  const mean = rtt.flat().reduce((sum, one) => sum + one, 0) / Math.max(1, size * (size - 1)) || 1;
  for (let round = 0; round < 120; round += 1) {
    places = places.map((here, a) => {
      const moved = [0, 0];
      places.forEach((there, b) => {
        if (a === b) return;
        const [dx, dy] = [here[0] - there[0], here[1] - there[1]];
        const pull = rtt[a][b] / mean / Math.max(1e-6, Math.hypot(dx, dy));
        moved[0] += pull * dx;
        moved[1] += pull * dy;
      });
      return [moved[0] / size, moved[1] / size];
    });
  }
  return places;
};

// Stretches places into the box, and keeps any two at least `apart`.
const fit = (places, width, height, edge, apart) => {
  const spread = (axis, size) => {
    const values = places.map((place) => place[axis]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return (value) => (high - low < 1e-9 ? size / 2 : edge + ((value - low) / (high - low)) * (size - 2 * edge));
  };
  const [x, y] = [spread(0, width), spread(1, height)];
  const fitted = places.map((place) => [x(place[0]), y(place[1])]);
  const inside = (value, size) => Math.min(size - edge, Math.max(edge, value));
  for (let round = 0; round < 60; round += 1) {
    for (let a = 0; a < fitted.length; a += 1) {
      for (let b = a + 1; b < fitted.length; b += 1) {
        const [dx, dy] = [fitted[b][0] - fitted[a][0] || 1e-3, fitted[b][1] - fitted[a][1] || 1e-3];
        const distance = Math.hypot(dx, dy);
        if (distance >= apart) continue;
        const push = (apart - distance) / 2 / distance;
        fitted[a] = [inside(fitted[a][0] - dx * push, width), inside(fitted[a][1] - dy * push, height)];
        fitted[b] = [inside(fitted[b][0] + dx * push, width), inside(fitted[b][1] + dy * push, height)];
      }
    }
  }
  return fitted;
};

// Where each region is drawn, and in words how that was decided.
export const layOut = (names, rtt, width, height, edge, apart) => {
  const map = names.map(known);
  if (names.length > 1 && map.every(Boolean)) {
    return { how: "Laid out by longitude and latitude.", places: fit(map.map(([x, y]) => [x, -y]), width, height, edge, apart) };
  }
  const trips = rtt.flatMap((row, a) => row.slice(a + 1));
  const isEven = trips.every((one) => Math.abs(one - trips[0]) < 1e-9);
  const how = isEven ? "" : "Laid out by round trips: near is fast.";
  return { how, isEven, places: fit(byRoundTrips(rtt), width, height, edge, apart) };
};
