// Where photos come from: the file dialog, drag and drop, the clipboard, an address, and the examples.

import { fromDataUrl } from "./shrink.js";
import { capitalized, megabytes, text } from "./texts.js";

const MAX_BYTES = 100 * 1048576; // of a file that is loaded from an address

const $ = (id) => document.getElementById(id);
const message = (words) => ($("source-message").textContent = words);

class SourceError extends Error {}

/** The body of a response, if it isn't too large. */
async function bounded(response) {
  const pieces = [];
  let length = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return new Blob(pieces, { type: response.headers.get("Content-Type") ?? "" });
    pieces.push(value);
    if ((length += value.length) > MAX_BYTES) {
      await reader.cancel();
      throw new SourceError(text("address_too_large", { limit: megabytes(MAX_BYTES) }));
    }
  }
}

function parsed(address) {
  try {
    return new URL(address, document.baseURI);
  } catch {
    return null;
  }
}

async function load(address, signal) {
  if (/^data:image\/[^,]*;base64,/i.test(address)) return fromDataUrl(address);
  const url = parsed(address);
  if (url?.protocol !== "https:" && url?.origin !== location.origin) throw new SourceError(text("address_invalid"));
  const response = await fetch(url, { credentials: "same-origin", referrerPolicy: "no-referrer", signal });
  if (!response.ok) throw new SourceError(text("address_not_image"));
  const type = response.headers.get("Content-Type") ?? "";
  if (/^(text|application\/(json|xhtml))/.test(type)) throw new SourceError(text("address_not_image"));
  return bounded(response);
}

function nameOf(address) {
  const last = address.startsWith("data:") ? "" : new URL(address, document.baseURI).pathname.split("/").pop();
  try {
    return decodeURIComponent(last) || "photo";
  } catch {
    return last;
  }
}

/** What to say if an address cannot be loaded: the service or the network may be down, or the website does not allow it. */
function reasonOf(error, address) {
  if (error instanceof SourceError) return error.message;
  return text(navigator.onLine && new URL(address, document.baseURI).origin !== location.origin ? "address_failed" : "error_0");
}

/** Connect all sources of the page; each calls `take` with a list of files. */
export function listen(take) {
  let loading = new AbortController();

  function add(files) {
    message(""); // about what failed before
    take(files);
  }

  async function addAddress(address) {
    const { signal } = loading;
    message(text("address_loading"));
    try {
      const blob = await load(address.trim(), signal);
      add([new File([blob], nameOf(address.trim()), { type: blob.type })]);
      return true;
    } catch (error) {
      if (!signal.aborted) message(reasonOf(error, address.trim()));
      return false;
    }
  }

  /** Give up the photos that are being loaded from an address. */
  function stopLoading() {
    loading.abort();
    loading = new AbortController();
    message("");
  }

  for (const [button, input] of [["choose", "files"], ["take", "capture"]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", (event) => {
      add(event.target.files);
      event.target.value = ""; // so that the same file can be chosen again
    });
  }

  $("address").addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = event.target.querySelector("input");
    if (await addAddress(input.value)) input.value = "";
  });

  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea")) return;
    const { files } = event.clipboardData ?? {};
    const pasted = event.clipboardData?.getData("text/plain").trim() ?? "";
    if (files?.length) add(files);
    else if (/^(https?:\/\/|data:image\/)\S+$/i.test(pasted)) addAddress(pasted);
  });

  dragAndDrop(add, addAddress);
  return { addAddress, stopLoading };
}

function dragAndDrop(add, addAddress) {
  let depth = 0; // every element on the way causes a dragenter and a dragleave
  let own = false; // what is dragged is a part of this page
  const carries = (event, ...types) => types.some((type) => event.dataTransfer?.types.includes(type));
  const useful = (event) => !own && carries(event, "Files", "text/uri-list");
  const intoText = (event) => !carries(event, "Files") && event.target.closest?.("input, textarea");
  const dragging = (on) => document.body.classList.toggle("dragging", on);
  document.addEventListener("dragstart", () => (own = true));
  document.addEventListener("dragend", () => (own = false));
  document.addEventListener("dragenter", (event) => useful(event) && dragging(++depth > 0));
  document.addEventListener("dragleave", (event) => useful(event) && dragging(--depth > 0));
  // Whatever is dropped, the browser must not leave the page for it.
  document.addEventListener("dragover", (event) => intoText(event) || event.preventDefault());
  document.addEventListener("drop", (event) => {
    dragging((depth = 0) > 0);
    if (intoText(event)) return;
    event.preventDefault();
    if (!useful(event)) return;
    if (event.dataTransfer.files.length) return add(event.dataTransfer.files);
    const address = event.dataTransfer.getData("text/uri-list").split(/\r?\n/).find((line) => line && !line.startsWith("#"));
    if (address) addAddress(address);
  });
}

/** Offer the model's example photos. */
export function offerExamples(paths, addAddress) {
  const buttons = paths.map((path) => {
    const button = document.createElement("button");
    const image = document.createElement("img");
    const address = path.slice(1); // relative, so that it works behind a proxy's prefix
    image.src = address;
    image.alt = text("example", { name: capitalized(nameOf(address).replace(/\.\w+$/, "")) });
    button.type = "button";
    button.className = "example";
    button.append(image);
    button.addEventListener("click", () => addAddress(address));
    return button;
  });
  $("examples").append(...buttons);
  $("examples").hidden = !buttons.length;
}
