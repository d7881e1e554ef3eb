// The page: takes photos from the file dialog, drag and drop, the clipboard or the camera, and sends a few at a time.

import * as api from "./api.js";
import { Photo, megabytes, percent } from "./photo.js";

const PARALLEL = 2; // requests in progress: one user must not fill the service's queue

const $ = (id) => document.getElementById(id);
const photos = new Set();
const queue = [];
let asking = 0;

const page = {
  model: null, // the service's description of it
  limit: Number(document.documentElement.dataset.maxUploadBytes),
  announce: (text) => ($("announce").textContent = text),
  changed() {
    const done = [...photos].filter((photo) => !["waiting", "asking"].includes(photo.state)).length;
    $("count").textContent = photos.size > 1 ? `${done} of ${photos.size}` : "";
  },
  again(photo) {
    queue.push(photo);
    photo.show("waiting", "Waiting…");
    next();
  },
  needKey() {
    $("key-hint").textContent = api.key.get() ? "This key is not valid." : "Kept in this tab only.";
    $("key").hidden = false;
    $("key-value").focus();
  },
  removed(photo, neighbour) {
    photos.delete(photo);
    if (queue.includes(photo)) queue.splice(queue.indexOf(photo), 1);
    $("bar").hidden = !photos.size;
    page.changed();
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

function add(files) {
  const added = [...files].map((file) => new Photo(file, page));
  if (!added.length) return;
  for (const photo of added) photos.add(photo);
  $("photos").prepend(...added.map((photo) => photo.element));
  $("bar").hidden = false;
  page.changed();
  queue.push(...added);
  next();
}

for (const [button, input] of [["choose", "files"], ["camera", "capture"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
}

let depth = 0; // every element on the way causes a dragenter and a dragleave
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
const dragging = (on) => document.body.classList.toggle("dragging", on);
document.addEventListener("dragenter", (event) => carriesFiles(event) && dragging(++depth > 0));
document.addEventListener("dragleave", (event) => carriesFiles(event) && dragging(--depth > 0));
document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  dragging((depth = 0) > 0);
  add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));

$("clear").addEventListener("click", () => {
  for (const photo of [...photos]) photo.remove();
});

$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  api.key.set($("key-value").value.trim());
  $("key").hidden = true;
  $("key-value").value = "";
  for (const photo of photos) if (photo.state === "failed") page.again(photo);
});

$("limit").textContent = megabytes(page.limit);

const status = $("status");
page.model = await api.model((reason) => {
  status.textContent = reason;
  status.hidden = false;
});
const { classes, version, arch, metrics, card } = page.model;
status.hidden = true;
next();
if (classes.length <= 3) {
  const [last, ...rest] = [...classes].reverse();
  const words = `${rest.reverse().join(", ")} or ${last}?`;
  $("title").textContent = document.title = words[0].toUpperCase() + words.slice(1);
}
const accuracy = metrics?.accuracy ? ` · ${percent(metrics.accuracy)} accuracy on its test photos` : "";
$("card").hidden = !card;
$("model").textContent = `Model ${version} · ${arch}${accuracy}`;
