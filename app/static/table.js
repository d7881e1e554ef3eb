// All answers as a file: CSV for spreadsheets, JSON for programs.

/** A cell that no spreadsheet takes for a formula (OWASP, "CSV Injection"). */
function cell(value) {
  const plain = typeof value === "number" ? String(value) : String(value ?? "").replace(/^[=+\-@\t\r\n|%＝＋－＠]/, "'$&");
  return /[",;\r\n\t]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

export function csv(records) {
  const classes = [...new Set(records.flatMap(({ answer }) => Object.keys(answer.probabilities)))];
  const rows = records.map(({ name, answer, actual }) => [
    name, answer.label, ...classes.map((one) => answer.probabilities[one]), answer.known, actual, answer.model.version,
    answer.request_id,
  ]); // prettier-ignore
  const head = ["photo", "label", ...classes.map((one) => `probability ${one}`), "known", "feedback", "model", "request_id"];
  // The byte order mark tells Excel that it is UTF-8.
  return `\ufeff${[head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

export function json(records) {
  const all = records.map(({ name, answer: { explanation, milliseconds, mayBeKept, ...answer }, actual }) => ({
    photo: name, ...answer, ...(actual && { feedback: actual }),
  })); // prettier-ignore
  return `${JSON.stringify(all, null, 2)}\n`;
}

export function download(content, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may read it later
}
