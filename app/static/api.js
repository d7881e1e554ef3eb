// Client of the service's API. Every error is an ApiError, whose message is for the user.

import { has, text } from "./texts.js";

const ATTEMPTS = 5; // for one photo, while the service is busy
const KEY = "api-key";

const BUSY = [429, 503]; // 429 comes from platforms in front of the service

export class ApiError extends Error {
  constructor(status, message, detail = "", retryAfter = 1) {
    super(message);
    this.status = status; // HTTP status, 0 if there was no complete response
    this.detail = detail; // the service's explanation, in English
    this.retryAfter = retryAfter; // seconds
  }

  /** Whether the same photo may get a different response later. */
  get temporary() {
    return [0, 401, 429].includes(this.status) || this.status >= 500;
  }
}

let memory = null; // if the browser denies storage or has no room, the key lasts as long as the page
export const key = {
  get() {
    try {
      return memory ?? sessionStorage.getItem(KEY);
    } catch {
      return memory;
    }
  },
  set(value) {
    memory = value;
    try {
      sessionStorage.setItem(KEY, value);
    } catch {
      // memory is enough
    }
  },
};

const noResponse = () => new ApiError(0, text("error_0"));

// A header consists of bytes; browsers take them as the characters with the same codes.
const utf8 = (characters) => String.fromCharCode(...new TextEncoder().encode(characters));

/**
 * Send a request; resolves to the JSON of the response. XMLHttpRequest, because fetch doesn't say how much of a body
 * is sent; `onProgress(share)` is called with that. If `signal` is aborted, even before the call, it rejects.
 */
function call(method, path, { body = null, headers = {}, signal, onProgress } = {}) {
  if (signal?.aborted) return Promise.reject(noResponse()); // the signal fires no second time
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    if (key.get()) request.setRequestHeader("X-API-Key", utf8(key.get()));
    if (onProgress) request.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 1);
    signal?.addEventListener("abort", () => request.abort());
    request.onabort = request.onerror = () => reject(noResponse());
    request.onload = () => {
      try {
        resolve(result(request));
      } catch (error) {
        reject(error);
      }
    };
    request.send(body);
  });
}

function parsed(json) {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

const reason = (status) => text(has(`error_${status}`) ? `error_${status}` : "error_other");

/** Return the JSON of a response; throws an ApiError unless it is good. */
function result(request) {
  const { status } = request;
  if (status === 204) return null;
  const json = parsed(request.responseText);
  if (status >= 200 && status < 300) {
    if (json === undefined) throw new ApiError(0, text("error_incomplete"));
    return json;
  }
  // Proxies in front of the service respond in formats of their own.
  const detail = typeof json?.detail === "string" ? json.detail : "";
  const message = status === 422 && detail ? text("error_422_detail", { detail }) : reason(status);
  throw new ApiError(status, message, detail, Number(request.getResponseHeader("Retry-After")) || 1);
}

const sleep = (seconds, signal) =>
  new Promise((done) => {
    setTimeout(done, seconds * 1000);
    signal?.addEventListener("abort", done);
  });

/** What is sent for a photo: the file as it is, or a smaller one in a form that says the original size. */
async function upload({ blob, size }) {
  // The service judges an image by its content, but it needs a type of image/*.
  if (!size) {
    const headers = { "Content-Type": blob.type.startsWith("image/") ? blob.type : "image/unknown" };
    const body = await blob.arrayBuffer().catch(() => {
      throw new ApiError(400, text("unreadable")); // the first byte could be read: the file has changed or gone since
    });
    return { body, headers };
  }
  const body = new FormData();
  body.append("size", size);
  body.append("file", blob, "photo.jpg");
  return { body };
}

/**
 * Predict a photo's label. With `explain`, the response contains the evidence too, because a second request would
 * cost another prediction. `id` becomes a part of the answer's: as all attempts have the same one, a photo that the
 * service kept although its answer was lost can be deleted. `mayKeep()` says for each request whether the service may
 * keep the photo; the result has the last one as `mayBeKept`. While the service is busy, try again when it says;
 * `onWait(seconds)` is called then.
 */
export async function predict(photo, { id, explain, mayKeep, signal, onWait, onProgress }) {
  for (let attempt = 1; ; attempt++) {
    const started = performance.now();
    try {
      const { body, headers } = await upload(photo);
      const request = { body, headers: { ...headers, "X-Request-ID": id }, signal, onProgress };
      const mayBeKept = mayKeep(); // not sooner: the user may change it until the request is sent
      const query = [explain && "explain=1", mayBeKept && "keep=1"].filter(Boolean).join("&");
      const answer = await call("POST", query ? `predict?${query}` : "predict", request);
      return { ...answer, mayBeKept, milliseconds: performance.now() - started };
    } catch (error) {
      if (explain && error.status === 400) {
        explain = false; // a new model may be loaded that can't explain
        continue;
      }
      if (!BUSY.includes(error.status) || attempt === ATTEMPTS || signal.aborted) throw error;
      onWait(error.retryAfter);
      await sleep(error.retryAfter, signal);
      if (signal.aborted) throw noResponse(); // the user removed the photo during the pause
    }
  }
}

/** Report the correct label. The request goes on when the page is left. */
export async function feedback(predicted, actual, request_id) {
  const headers = { "Content-Type": "application/json" };
  if (key.get()) headers["X-API-Key"] = utf8(key.get());
  const body = JSON.stringify({ predicted, actual, request_id });
  const response = await fetch("feedback", { method: "POST", body, headers, keepalive: true }).catch(() => {
    throw noResponse();
  });
  const { ok, status } = response;
  if (!ok) throw new ApiError(status, status === 400 ? text("answer_unknown") : reason(status));
}

/** The description of the model, as soon as it is loaded; until then, `onWait(reason)` is called for each attempt. */
export async function model(onWait) {
  for (;;) {
    try {
      return await call("GET", "model");
    } catch (error) {
      const { status, detail, message, retryAfter } = error;
      onWait(status === 503 && detail ? text("not_ready", { detail }) : message);
      await sleep(status === 503 ? retryAfter : 3);
    }
  }
}
