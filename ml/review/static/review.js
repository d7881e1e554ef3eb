// Shows one item at a time, and sends each decision to the server before it goes on to the next.

const RESERVED = "dekun"; // keys of actions; the other letters are left for classes
const KEYS_OF_CLASSES = [..."123456789", ..."abcdefghijklmnopqrstuvwxyz"].filter((key) => !RESERVED.includes(key));
const LIKELIEST = 9; // classes with a key if there are more classes than keys

const $ = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

// A tab is a person: it keeps its name over a reload, and another tab has another one.
const session = sessionStorage.getItem("session") ?? crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.setItem("session", session);

let queue; // title, classes, kinds and actions
let item = null; // what is shown
let busy = false;
let seen = []; // ids of the items that were shown, the present one last
let keys = new Map(); // key to what it does
let evidenceOn = false;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Ask the server; throw its reason if it refuses. */
async function ask(path, body) {
  let response;
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ session, ...body }) };
  try {
    response = await fetch(path, body && post);
  } catch {
    throw new Refused("the server does not answer; is the command still running?", 0);
  }
  const content = await response.json();
  if (!response.ok) throw new Refused(content.error, response.status);
  return content;
}

const query = (values) => new URLSearchParams({ session, kind: $("kind").value, ...values });
const following = () => ask(`next?${query({ after: item?.id ?? seen.at(-1) ?? "" })}`);

/** The classes that have a button: all, in their order, or the likeliest of many. */
function offered({ probabilities }) {
  if (queue.classes.length <= KEYS_OF_CLASSES.length) return queue.classes;
  return probabilities.slice(0, LIKELIEST).map(([name]) => name);
}

/** A button with a key, which the keyboard handler finds in `keys`. */
function keyButton(key, text, pressed, action) {
  const button = element("button", { type: "button" }, ...text);
  button.setAttribute("aria-keyshortcuts", key.toUpperCase());
  button.setAttribute("aria-pressed", pressed);
  button.addEventListener("click", action);
  keys.set(key, action);
  return button;
}

function classButton({ labels, probabilities, decision }, name, key) {
  const share = new Map(probabilities).get(name);
  const bar = element("span", { className: "bar" });
  bar.style.inlineSize = `${100 * (share ?? 0)}%`;
  const text = [
    bar,
    element("kbd", { textContent: key.toUpperCase() }),
    element("span", { className: "name", textContent: name }),
    ...(labels.includes(name) ? [element("span", { className: "tag", textContent: "label" })] : []),
    ...(share === undefined ? [] : [element("span", { className: "share", textContent: percent.format(share) })]),
  ];
  return element("li", {}, keyButton(key, text, decision?.label === name, () => decide("label", name)));
}

function showButtons() {
  keys = new Map();
  const actions = queue.actions.map(([name, text, key, primary]) => {
    const label = [`${text} `, element("kbd", { textContent: key.toUpperCase() })];
    const button = keyButton(key, label, item?.decision?.action === name, () => decide(name));
    button.classList.toggle("primary", primary);
    return button;
  });
  actions.push(keyButton("u", ["Undo ", element("kbd", { textContent: "U" })], false, undo));
  actions.at(-1).removeAttribute("aria-pressed");
  if (item?.evidence) {
    const label = ["Evidence ", element("kbd", { textContent: "E" })];
    actions.push(keyButton("e", label, evidenceOn, toggleEvidence));
  }
  $("actions").replaceChildren(...actions);
  $("classes").replaceChildren(...(item ? offered(item).map((name, place) => classButton(item, name, KEYS_OF_CLASSES[place])) : []));
}

function showPhotos({ photos }) {
  const frames = photos.map(({ id, name, tag }) => {
    const image = element("img", { src: `photos/${id}`, alt: `Photo ${name}` });
    image.addEventListener("error", () => (image.alt = `${name} cannot be shown`));
    const frame = element("div", {}, image, ...(tag ? [element("span", { textContent: tag })] : []));
    frame.dataset.id = id;
    return frame;
  });
  $("photos").replaceChildren(...frames);
  $("photos").dataset.count = photos.length;
  return Promise.allSettled(frames.map((frame) => frame.firstChild.decode()));
}

/** Lay each photo's evidence over the part of it that the model sees. */
async function showEvidence() {
  for (const frame of $("photos").children) {
    frame.querySelector(".evidence")?.remove();
    const image = frame.querySelector("img");
    if (!evidenceOn || !item?.evidence || !image.naturalWidth) continue;
    const { evidence } = await ask(`photos/${frame.dataset.id}/evidence`);
    if (!frame.isConnected || !evidence) continue;
    const [left, top, right, bottom] = evidence.box;
    const overlay = element("img", { src: evidence.overlay, alt: `Evidence for ${evidence.label}` });
    const box = element("div", { className: "evidence" }, overlay);
    // The box has the shape of the photo, which object-fit centres in the frame.
    box.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
    const scale = Math.min(frame.clientWidth / image.naturalWidth, frame.clientHeight / image.naturalHeight);
    box.style.inlineSize = `${scale * image.naturalWidth}px`;
    Object.assign(overlay.style, {
      left: `${100 * left}%`,
      top: `${100 * top}%`,
      width: `${100 * (right - left)}%`,
      height: `${100 * (bottom - top)}%`,
    });
    frame.append(box);
  }
}

async function show({ item: shown, progress, figures }, spoken = "") {
  item = shown;
  $("progress").max = progress.total || 1;
  $("progress").value = progress.decided;
  $("count").textContent = `${progress.decided} of ${progress.total} decided`;
  $("figures").textContent = figures;
  $("item").hidden = !item;
  $("empty").hidden = Boolean(item);
  $("main").dataset.state = "loading";
  showButtons();
  if (!item) {
    const all = progress.decided === progress.total;
    $("empty").textContent = all
      ? `${progress.total ? "All are decided" : "There is nothing to decide here"}. End the command with Ctrl-C; ${queue.next_step}. U undoes the last decision.`
      : "Other people are looking at the photos that are left. Press → to try again.";
    $("spoken").textContent = `${spoken} ${$("empty").textContent}`.trim();
    $("main").dataset.state = "ready";
    return;
  }
  if (!seen.includes(item.id)) seen.push(item.id);
  $("question").textContent = item.question;
  $("reason").textContent = item.reason;
  $("decision").textContent = item.decision?.words ?? "";
  $("caption").textContent = `${item.place || "?"} of ${progress.total}: ${item.photos.map(({ name }) => name).join("; ")}`;
  $("spoken").textContent = [spoken, item.question, item.reason].join(" ").trim();
  const present = item;
  await showPhotos(item);
  if (item !== present) return;
  await showEvidence().catch(report);
  $("main").dataset.state = "ready";
}

function report(error, doing = "") {
  $("error").hidden = !error;
  $("error").textContent = error ? `${doing}${error.message}` : "";
}

const idle = () => !busy && $("main").dataset.state === "ready";

/** Run one change at a time, and none before the photo is there. */
async function once(change, doing = "") {
  if (!idle()) return;
  busy = true;
  try {
    report(null);
    await change();
  } catch (error) {
    report(error, doing);
    // Somebody else has this photo now: go on with another one.
    if (error.status === 409) await following().then((answer) => show(answer), report);
  }
  busy = false;
}

const decide = (action, label = "") =>
  once(async () => {
    if (!item) return;
    const { item: decided } = await ask("decisions", { item: item.id, action, label });
    await show(await following(), `${decided.decision.words}.`);
  }, "The decision was not saved: ");

const undo = () =>
  once(async () => {
    const answer = await ask("undo", {});
    if (!answer.item) throw new Refused("There is no decision of yours to undo.", 0);
    $("kind").value = "";
    await show(answer, "Undone.");
  });

const step = (by) =>
  once(async () => {
    const place = item ? seen.indexOf(item.id) + by : seen.length - 1;
    if (by < 0 && place < 0) return;
    const known = item || by < 0 ? seen[place] : undefined;
    await show(await (known ? ask(`items/${known}?${query()}`) : following()));
  });

const toggleEvidence = () =>
  once(async () => {
    evidenceOn = !evidenceOn;
    showButtons();
    await showEvidence();
  });

const ALWAYS = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), "/": () => $("name").focus() };

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "Escape" && target === $("name")) return target.blur();
  if (target.closest("input, select")) return;
  const action = keys.get(key.toLowerCase()) ?? ALWAYS[key];
  if (!action) return;
  event.preventDefault();
  // A key that is held down must not decide about photo after photo.
  if (!event.repeat || key.startsWith("Arrow")) action();
});

$("back").addEventListener("click", ALWAYS.ArrowLeft);
$("next").addEventListener("click", ALWAYS.ArrowRight);
$("kind").addEventListener("change", async () => {
  $("kind").blur();
  // Unlike a key, a choice in the list stays visible, so it must not be ignored.
  while (!idle()) await new Promise((resolve) => setTimeout(resolve, 50));
  once(async () => {
    seen = [];
    item = null;
    await show(await following());
  });
});
$("other").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = $("name").value.trim().toLowerCase();
  const matching = queue.classes.filter((name) => name.toLowerCase().startsWith(wanted));
  const name = queue.classes.find((each) => each.toLowerCase() === wanted) ?? (matching.length === 1 ? matching[0] : undefined);
  $("name").setCustomValidity(wanted && !name ? "There is no such class, or several begin like this." : "");
  if (!wanted || !$("name").reportValidity()) return;
  $("name").value = "";
  $("name").blur();
  decide("label", name);
});
$("name").addEventListener("input", () => $("name").setCustomValidity(""));

try {
  queue = await ask("queue");
  document.title = $("title").textContent = queue.title;
  $("kind").append(...queue.kinds.map(([value, textContent]) => element("option", { value, textContent })));
  $("other").hidden = queue.classes.length <= KEYS_OF_CLASSES.length;
  $("names").replaceChildren(...queue.classes.map((value) => element("option", { value })));
  await show(await following());
} catch (error) {
  report(error);
}
