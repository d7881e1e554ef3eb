// The page: takes photos, sends a few at a time, and shows and keeps the answers.

import * as api from "./api.js";
import { offerCamera } from "./camera.js";
import { Photo } from "./photo.js";
import "./snippets.js";
import { listen, offerExamples } from "./sources.js";
import * as store from "./store.js";
import * as table from "./table.js";
import { capitalized, listed, percent, text } from "./texts.js";

const PARALLEL = 2; // requests in progress: one user must not fill the service's queue
const MAX_EXAMPLES = 6; // shown
const SPOKEN_MS = 3000; // how long an announcement stays for screen readers
const UNANSWERED = ["waiting", "asking"]; // states of a photo

const $ = (id) => document.getElementById(id);
const photos = new Set();
const queue = [];
let asking = 0;
let awaited = null; // the photo whose answer is to be scrolled to

/** The photos in the order of the page: the latest first. */
const shown = () => [...photos].sort((a, b) => (a.element.compareDocumentPosition(b.element) & 4 ? -1 : 1));
const records = () => shown().filter(({ answer }) => answer).map((photo) => photo.record());

const page = {
  model: null, // the service's description of it
  limit: Number(document.documentElement.dataset.maxUploadBytes),
  /** Each announcement is an element of its own, so that a later one doesn't replace it before it is read. */
  announce(words) {
    const now = performance.now();
    for (const old of [...$("announce").children]) if (now - old.dataset.at > SPOKEN_MS) old.remove();
    const line = Object.assign(document.createElement("p"), { textContent: words });
    line.dataset.at = now;
    $("announce").append(line);
  },
  changed() {
    const done = [...photos].filter(({ state }) => !UNANSWERED.includes(state)).length;
    $("count").textContent = photos.size > 1 ? text("progress", { done, all: photos.size }) : "";
    $("bar").hidden = !photos.size;
    $("downloads").hidden = ![...photos].some(({ answer }) => answer);
  },
  again(photo) {
    queue.push(photo);
    photo.show("waiting", text("waiting"));
    next();
  },
  keep: () => page.model && store.keep(records()), // not before the answers of earlier visits are back
  answered(photo) {
    page.keep();
    if (photo === awaited) reveal(photo.element);
  },
  needKey() {
    $("key-hint").textContent = text(api.key.get() ? "key_invalid" : "key_hint");
    $("key").hidden = false;
    $("key-value").focus();
  },
  removed(photo, neighbour) {
    photos.delete(photo);
    if (queue.includes(photo)) queue.splice(queue.indexOf(photo), 1);
    page.changed();
    page.keep();
    (neighbour?.querySelector(".remove") ?? $("choose")).focus();
  },
};

function next() {
  while (page.model && asking < PARALLEL && queue.length) {
    asking++;
    queue.shift().ask().finally(() => {
      asking--;
      next();
    });
  }
}

/** Scroll until a photo and its answer are visible, unless they are. */
function reveal(element) {
  const { top, bottom, height } = element.getBoundingClientRect();
  if (top >= 0 && bottom <= innerHeight) return;
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
  element.scrollIntoView({ behavior, block: height > innerHeight ? "start" : "nearest" });
}

function add(files) {
  const added = [...files].map((file) => new Photo(file, page));
  if (!added.length) return;
  for (const photo of added) photos.add(photo);
  $("photos").prepend(...added.map((photo) => photo.element));
  page.changed();
  awaited = added[0];
  reveal(awaited.element);
  queue.push(...added);
  next();
}

// A user who scrolls wants to see something else.
for (const event of ["wheel", "touchmove", "keydown"]) {
  document.addEventListener(event, () => (awaited = null), { passive: true });
}

const { addAddress, stopLoading } = listen(add);
offerCamera(add, (words) => ($("source-message").textContent = words));

$("clear").addEventListener("click", () => {
  stopLoading();
  for (const photo of [...photos]) photo.remove();
});

$("csv").addEventListener("click", () => table.download(table.csv(records()), "results.csv", "text/csv;charset=utf-8"));
$("json").addEventListener("click", () => table.download(table.json(records()), "results.json", "application/json"));

// Photos without an answer are not kept, so the browser asks before it leaves or reloads the page.
addEventListener("beforeunload", (event) => {
  if ([...photos].some(({ state }) => UNANSWERED.includes(state))) event.preventDefault();
});

// The page may be closed after this, or be put away: what the user said must not be lost.
addEventListener("pagehide", () => {
  for (const photo of photos) photo.feedback.flush();
});

$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  api.key.set($("key-value").value.trim());
  $("key").hidden = true;
  $("key-value").value = "";
  for (const photo of photos) if (photo.state === "failed") page.again(photo);
});

const status = $("status");
page.model = await api.model((reason) => {
  status.textContent = reason;
  status.hidden = false;
});
const { classes, version, arch, metrics, card, examples } = page.model;
status.hidden = true;
for (const record of store.kept()) {
  try {
    const photo = Photo.restored(record, page);
    photos.add(photo);
    $("photos").append(photo.element);
  } catch {
    // another version of the page kept it
  }
}
page.changed();
next();
if (classes.length <= 3) $("title").textContent = document.title = text("which", { classes: capitalized(listed(classes)) });
offerExamples((examples ?? []).slice(0, MAX_EXAMPLES), addAddress);
const facts = [text("model", { version, arch })];
if (metrics?.accuracy) {
  const share = percent(metrics.accuracy);
  facts.push(metrics.photos ? text("accuracy", { share, count: metrics.photos }) : text("accuracy_alone", { share }));
}
$("card").hidden = !card;
$("model").textContent = facts.join(" · ");
