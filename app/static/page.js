// The page: photos come in by choosing, dropping, pasting or the camera, and are asked about a few at a time.

import * as api from "./api.js";
import { Photo, megabytes, percent } from "./photo.js";

const AT_ONCE = 2; // requests in flight: one reader must not fill the service's line

const $ = (id) => document.getElementById(id);
const photos = new Set();
const line = [];
let asking = 0;

const page = {
  model: null, // what it says of itself
  limit: Number(document.documentElement.dataset.maxUploadBytes),
  announce: (text) => ($("announce").textContent = text),
  changed() {
    const done = [...photos].filter((photo) => !["waiting", "asking"].includes(photo.state)).length;
    $("count").textContent = photos.size > 1 ? `${done} of ${photos.size}` : "";
  },
  again(photo) {
    line.push(photo);
    photo.show("waiting", "In line…");
    next();
  },
  needKey() {
    $("key-hint").textContent = api.key.get() ? "That key was not accepted." : "Kept in this tab only.";
    $("key").hidden = false;
    $("key-value").focus();
  },
  removed(photo, neighbour) {
    photos.delete(photo);
    if (line.includes(photo)) line.splice(line.indexOf(photo), 1);
    $("bar").hidden = !photos.size;
    page.changed();
    (neighbour?.querySelector(".remove") ?? $("choose")).focus();
  },
};

function next() {
  while (page.model && asking < AT_ONCE && line.length) {
    asking++;
    line.shift().ask().finally(() => {
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
  line.push(...added);
  next();
}

for (const [button, input] of [["choose", "files"], ["camera", "capture"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = ""; // so that the same photo can be chosen again
  });
}

let depth = 0; // dragenter and dragleave come for every element on the way
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
page.model = await api.model((why) => {
  status.textContent = why;
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
const accuracy = metrics?.accuracy ? ` · right on ${percent(metrics.accuracy)} of its test photos` : "";
$("card").hidden = !card;
$("model").textContent = `Model ${version} · ${arch}${accuracy}`;
