// Keeps the answers of this tab, so that they survive a reload and the way back to the page.

const KEY = "answers";
const MOST = 50; // answers
const CHARACTERS = 2_000_000; // browsers allow a page about 5 million

export function kept() {
  try {
    const records = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(records) ? records : [];
  } catch {
    return []; // the browser denies storage, or another version of the page wrote something else
  }
}

/** Keep the latest answers, as many as fit; `records` begins with the latest. */
export function keep(records) {
  const texts = records.slice(0, MOST).map((record) => JSON.stringify(record));
  let length = 0;
  const fits = texts.filter((text) => (length += text.length + 1) < CHARACTERS);
  for (; ; fits.length = Math.floor(fits.length / 2)) {
    try {
      if (fits.length) sessionStorage.setItem(KEY, `[${fits}]`);
      else sessionStorage.removeItem(KEY);
      return;
    } catch {
      if (!fits.length) return;
    }
  }
}
