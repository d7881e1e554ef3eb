// The page's texts in its language, with numbers and lists as that language writes them.

export const language = document.documentElement.lang;
const entries = JSON.parse(document.getElementById("texts").textContent);
const plural = new Intl.PluralRules(language);
const number = new Intl.NumberFormat(language);
const share = new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const megabyte = new Intl.NumberFormat(language, { style: "unit", unit: "megabyte", maximumFractionDigits: 1 });
const either = new Intl.ListFormat(language, { type: "disjunction" });

export const has = (key) => key in entries;

/** The text for a key, with the values for its {names}. `count` chooses between singular and plural. */
export function text(key, values = {}) {
  const entry = entries[key];
  const chosen = typeof entry === "string" ? entry : (entry[plural.select(values.count)] ?? entry.other);
  const shown = (value) => (typeof value === "number" ? number.format(value) : value);
  return chosen.replace(/\{(\w+)\}/g, (_, name) => shown(values[name]));
}

/** A share. Rounding must not suggest certainty. */
export const percent = (value) =>
  value < 1 && value >= 0.9995
    ? `>${share.format(0.999)}`
    : value > 0 && value < 0.0005
      ? `<${share.format(0.001)}`
      : share.format(value);

/** A probability as the service gives it: rounded, so that 1 is not certain and 0 not impossible. */
export const chance = (value) => percent(Math.min(Math.max(value, 1e-6), 1 - 1e-6));

export const megabytes = (bytes) => megabyte.format(bytes / 1048576);

export const duration = (milliseconds) =>
  milliseconds < 1000
    ? `${number.format(Math.round(milliseconds))} ms`
    : `${number.format(Math.round(milliseconds / 100) / 10)} s`;

/** "red or blue" */
export const listed = (names) => either.format(names);

export const capitalized = (words) => words.charAt(0).toLocaleUpperCase(language) + words.slice(1);
