// Says in words where in a photo the evidence is.

import { text } from "./texts.js";

/** Which thirds of a photo's side contain most of the values, which cover the part from..to of it; "100": the first. */
function thirds(values, from, to) {
  const step = (to - from) / values.length;
  const masses = [0, 1, 2].map((third) =>
    values.reduce((sum, value, at) => {
      const start = from + at * step;
      return sum + value * Math.max(0, Math.min(start + step, (third + 1) / 3) - Math.max(start, third / 3));
    }, 0),
  );
  return masses.map((mass) => Number(mass > 0 && mass >= 0.6 * Math.max(...masses))).join("");
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);

function key(across, down) {
  const side = { 100: "left", 110: "left", "001": "right", "011": "right" }[across];
  const height = { 100: "upper", 110: "upper", "001": "lower", "011": "lower" }[down];
  if (across === "000") return "nowhere";
  if (side && height) return `${height}_${side}`;
  if (side || height) return side ?? height;
  if (across === "101") return "sides";
  if (down === "101") return "top_and_bottom";
  return across === "010" || down === "010" ? "middle" : "all";
}

/** Where in the photo the values of a grid are large; the grid covers the box (left, top, right, bottom). */
export function place(grid, [left, top, right, bottom]) {
  const across = thirds(grid[0].map((_, column) => total(grid.map((row) => row[column]))), left, right);
  const down = thirds(grid.map(total), top, bottom);
  return text(`place_${key(across, down)}`);
}
