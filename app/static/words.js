// Sentences on the page, made from the model's classes and from the position of the evidence.

const LISTED = 3; // a sentence names at most so many classes

/** "a table", "an oven"; plural names, which are common for folders, stay as they are. */
export const indefinite = (name) =>
  /[^ius]s$/i.test(name) ? name : `${/^[aeiou]/i.test(name) ? "an" : "a"} ${name}`;

/** Describes a photo that shows none of the classes. */
export function neither(classes) {
  if (classes.length > LISTED) return `This seems to show none of the ${classes.length} classes of the model.`;
  const [last, ...rest] = classes.map(indefinite).reverse();
  return `This seems to show neither ${rest.reverse().join(", ")} nor ${last}.`;
}

/** The same, to complete "It is …". */
export const noneOf = (classes) => (classes.length === 2 ? "neither" : "none of them");

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

/** Where in the photo the values of a grid are large; the grid covers the box (left, top, right, bottom). */
export function place(grid, [left, top, right, bottom]) {
  const across = thirds(grid[0].map((_, column) => total(grid.map((row) => row[column]))), left, right);
  const down = thirds(grid.map(total), top, bottom);
  const side = { 100: "left", 110: "left", "001": "right", "011": "right" }[across];
  const height = { 100: "upper", 110: "upper", "001": "lower", "011": "lower" }[down];
  if (across === "000") return "nowhere in particular";
  if (side && height) return `in the ${height} ${side}`;
  if (side) return `on the ${side}`;
  if (height) return `in the ${height} part`;
  if (across === "101") return "on both sides";
  if (down === "101") return "at the top and the bottom";
  return across === "010" || down === "010" ? "in the middle" : "all over the photo";
}
