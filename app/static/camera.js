// Photos from the camera of a computer. Phones have a camera app, which the file input opens.

import { text } from "./texts.js";

const dialog = document.getElementById("viewfinder");
const button = document.getElementById("camera");
const video = dialog.querySelector("video");
const shutter = dialog.querySelector(".shutter");
let opened = 0; // how many times; an answer to an earlier question for permission is too late

function stop() {
  opened++;
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  shutter.disabled = true;
}

async function open(fail) {
  dialog.showModal();
  const time = ++opened;
  try {
    const wanted = { width: { ideal: 1920 }, height: { ideal: 1080 } };
    const stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    if (time === opened) video.srcObject = stream;
    else for (const track of stream.getTracks()) track.stop();
  } catch {
    dialog.close();
    fail(text("camera_failed"));
  }
}

function take(add) {
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  dialog.close();
  canvas.toBlob((blob) => add([new File([blob], "camera.jpg", { type: blob.type })]), "image/jpeg", 0.92);
}

/** Offer the camera if there is one; `add` gets the photos, `fail` a message. */
export async function offerCamera(add, fail) {
  button.addEventListener("click", () => {
    fail("");
    open(fail);
  });
  video.addEventListener("loadeddata", () => (shutter.disabled = false));
  shutter.addEventListener("click", () => take(add));
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", stop);
  window.addEventListener("pagehide", () => dialog.close());
  const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? []; // undefined over plain HTTP
  button.hidden = !devices.some(({ kind }) => kind === "videoinput");
}
