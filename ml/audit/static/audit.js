// Shows one suspect at a time, and sends each decision to the server before it goes on to the next.

const MANY = 9; // classes that have a key of their own
const REASONS = {
  label: "The label is probably wrong.",
  disagreement: "The label may be wrong.",
  outlier: "It is among the photos that look least like the classes.",
  contradiction: "Equal or nearly equal photos have different labels, so prepare drops some of them.",
};

const $ = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

let classes = [];
let suspects = [];
let current = -1;
let busy = false;
const history = []; // decisions of this visit, as the number of the suspect and the decision before

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function question({ labels }) {
  const names = [...new Set(labels)].map((name) => `“${name}”`);
  return names.length > 1 ? `Which is right: ${names.join(" or ")}?` : `Is the label ${names[0]} right?`;
}

const shown = () => suspects.flatMap(({ kind }, number) => ([kind, ""].includes($("kind").value) ? [number] : []));

/** The classes that have a button: all, in their order, or the likeliest of many. */
function offered({ probabilities }) {
  return classes.length > MANY ? probabilities.slice(0, MANY).map(([name]) => name) : classes;
}

function inWords({ labels, decision }) {
  if (!decision) return "";
  if (decision.action === "relabel") return `Relabelled: ${decision.label}`;
  return decision.action === "drop" ? "Dropped" : `Kept: ${[...new Set(labels)].join(", ")}`;
}

function classButton(suspect, name, place) {
  const { labels, probabilities, decision } = suspect;
  const share = new Map(probabilities).get(name) ?? 0;
  const only = labels.every((label) => label === name);
  const chosen = decision?.action === "relabel" ? decision.label === name : decision?.action === "keep" && only;
  const button = element("button", { type: "button" });
  const bar = element("span", { className: "bar" });
  bar.style.inlineSize = `${100 * share}%`;
  button.setAttribute("aria-pressed", chosen);
  button.setAttribute("aria-keyshortcuts", place + 1);
  button.append(
    bar,
    element("kbd", { textContent: place + 1 }),
    element("span", { className: "name", textContent: name }),
    ...(labels.includes(name) ? [element("span", { className: "tag", textContent: "label" })] : []),
    element("span", { className: "share", textContent: percent.format(share) }),
  );
  button.addEventListener("click", () => choose(name));
  return element("li", {}, button);
}

function showPhotos({ paths, hashes, labels }) {
  const several = paths.length > 1;
  const frames = hashes.map((hash, number) => {
    const image = element("img", { src: `photos/${hash}`, alt: `Photo ${paths[number]}` });
    image.addEventListener("error", () => (image.alt = `${paths[number]} cannot be shown`));
    return element("div", {}, image, ...(several ? [element("span", { textContent: labels[number] })] : []));
  });
  $("photos").replaceChildren(...frames);
  return Promise.allSettled(frames.map((frame) => frame.firstChild.decode()));
}

async function show(number, spoken = "") {
  current = number;
  const suspect = suspects[number];
  const list = shown();
  const done = list.filter((each) => suspects[each].decision).length;
  $("progress").max = list.length || 1;
  $("progress").value = done;
  $("count").textContent = `${done} of ${list.length} decided`;
  $("suspect").hidden = !suspect;
  $("empty").hidden = Boolean(suspect);
  if (!suspect) {
    $("empty").textContent = "There is nothing to decide here.";
    $("main").dataset.state = "ready";
    return;
  }
  const [likeliest, share] = suspect.probabilities[0];
  $("question").textContent = question(suspect);
  $("reason").textContent = `${REASONS[suspect.kind]} The prediction is “${likeliest}”, ${percent.format(share)}.`;
  $("decision").textContent = inWords(suspect);
  $("caption").textContent = `${list.indexOf(number) + 1} of ${list.length}: ${suspect.paths.join(", ")}`;
  $("classes").replaceChildren(...offered(suspect).map((name, place) => classButton(suspect, name, place)));
  for (const action of ["keep", "drop"]) $(action).setAttribute("aria-pressed", suspect.decision?.action === action);
  $("main").dataset.state = "loading";
  $("spoken").textContent = [spoken, $("question").textContent, $("reason").textContent].join(" ");
  const finished = done === list.length ? " All are decided: end the command with Ctrl-C, then run dvc repro." : "";
  $("decision").append(finished);
  await showPhotos(suspect);
  if (current === number) $("main").dataset.state = "ready";
  for (const each of list.slice(list.indexOf(number) + 1).slice(0, 3)) {
    for (const hash of suspects[each].hashes) new Image().src = `photos/${hash}`; // so that it is there when it is shown
  }
}

function step(by) {
  const list = shown();
  const place = list.indexOf(current) + by;
  if (list[place] !== undefined) show(list[place]);
}

/** Save a decision; undefined if it was saved, else the reason why not. */
async function save(number, decision) {
  try {
    const response = await fetch("decisions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ suspect: number, action: null, ...decision }),
    });
    if (response.ok) return void (suspects[number].decision = decision);
    return (await response.json()).error;
  } catch {
    return "the server does not answer; is `python -m ml audit` still running?";
  }
}

/** Run one change at a time, and none before the photo is there. */
async function once(change) {
  if (busy || current < 0 || $("main").dataset.state !== "ready") return;
  busy = true;
  const reason = await change();
  busy = false;
  $("error").hidden = !reason;
  $("error").textContent = reason ? `The decision was not saved: ${reason}` : "";
}

const decide = (decision) =>
  once(async () => {
    const [number, before] = [current, suspects[current].decision];
    const reason = await save(number, decision);
    if (reason) return reason;
    history.push([number, before]);
    const list = shown();
    const rest = [...list.slice(list.indexOf(number) + 1), ...list.slice(0, list.indexOf(number))];
    show(rest.find((each) => !suspects[each].decision) ?? number, `${inWords(suspects[number])}.`);
  });

function choose(name) {
  const { labels } = suspects[current];
  decide(labels.every((label) => label === name) ? { action: "keep" } : { action: "relabel", label: name });
}

const undo = () =>
  once(async () => {
    const [number, before] = history.at(-1) ?? [current, null];
    const reason = await save(number, before);
    if (reason) return reason;
    history.pop();
    if (!shown().includes(number)) $("kind").value = "";
    show(number, "Undone.");
  });

const KEYS = {
  k: () => decide({ action: "keep" }),
  d: () => decide({ action: "drop" }),
  u: undo,
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  "/": () => $("name").focus(),
};

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "Escape" && target === $("name")) return target.blur();
  if (target.closest("input, select")) return;
  const name = current >= 0 && /^[1-9]$/.test(key) && offered(suspects[current])[key - 1];
  const action = name ? () => choose(name) : KEYS[key.length === 1 ? key.toLowerCase() : key];
  if (!action) return;
  event.preventDefault();
  // A key that is held down must not decide about photo after photo.
  if (!event.repeat || key.startsWith("Arrow")) action();
});

for (const [id, key] of Object.entries({ keep: "k", drop: "d", undo: "u", back: "ArrowLeft", next: "ArrowRight" })) {
  $(id).addEventListener("click", KEYS[key]);
}
$("kind").addEventListener("change", () => {
  $("kind").blur();
  const list = shown();
  show(list.find((each) => !suspects[each].decision) ?? list[0] ?? -1);
});
$("other").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = $("name").value.trim().toLowerCase();
  const matching = classes.filter((name) => name.toLowerCase().startsWith(wanted));
  const name = classes.find((each) => each.toLowerCase() === wanted) ?? (matching.length === 1 ? matching[0] : undefined);
  $("name").setCustomValidity(wanted && !name ? "There is no such class, or several begin like this." : "");
  if (!wanted || !$("name").reportValidity()) return;
  $("name").value = "";
  $("name").blur();
  choose(name);
});
$("name").addEventListener("input", () => $("name").setCustomValidity(""));

const response = await fetch("suspects");
const content = await response.json();
if (response.ok) {
  ({ classes, suspects } = content);
  $("other").hidden = classes.length <= MANY;
  $("names").replaceChildren(...classes.map((value) => element("option", { value })));
  const undecided = suspects.findIndex(({ decision }) => !decision);
  show(undecided >= 0 ? undecided : suspects.length - 1);
} else {
  $("error").hidden = false;
  $("error").textContent = content.error;
}
