// The service's API, as the page uses it. Errors are ApiError, their message fit for a reader.

const PATIENCE = 5; // tries for one photo while the service is busy
const KEY = "api-key";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status; // HTTP status, 0 where there was no answer
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
};

const MESSAGES = {
  400: "The service could not read this file.",
  401: "An API key is needed.",
  413: "This photo is too large for the service.",
  415: "This is not a JPEG, PNG, WebP, GIF or BMP image.",
  422: "This image is damaged, cut short or far too large in pixels.",
  503: "The service is too busy to answer.",
};

async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("X-API-Key", key.get());
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new ApiError(0, "The service can't be reached. Check the connection.");
  }
  if (response.status === 204) return null;
  let body;
  try {
    body = await response.json();
  } catch {
    throw new ApiError(response.status, "The service gave an answer that can't be read.");
  }
  if (response.ok) return body;
  const error = new ApiError(response.status, MESSAGES[response.status] ?? "Something went wrong in the service.");
  error.detail = body.detail ?? "";
  error.retryAfter = Number(response.headers.get("Retry-After")) || 1; // seconds
  throw error;
}

const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** Label a photo; while the service is busy, come back when it says. `onWait(seconds)` hears of it. */
export async function predict(bytes, type, { signal, onWait }) {
  for (let attempt = 1; ; attempt++) {
    const started = performance.now();
    try {
      // Content decides what it is; a type of image/* is what tells the service that the body is one.
      const headers = { "Content-Type": type.startsWith("image/") ? type : "image/unknown" };
      const answer = await call("predict", { method: "POST", body: bytes, headers, signal });
      return { ...answer, milliseconds: performance.now() - started };
    } catch (error) {
      if (error.status !== 503 || attempt === PATIENCE || signal.aborted) throw error;
      onWait(error.retryAfter);
      await sleep(error.retryAfter);
    }
  }
}

export const feedback = (predicted, actual, request_id) =>
  call("feedback", {
    method: "POST",
    body: JSON.stringify({ predicted, actual, request_id }),
    headers: { "Content-Type": "application/json" },
  });

/** What the model says of itself, as soon as there is one; `onWait(why)` hears of each try before. */
export async function model(onWait) {
  for (;;) {
    try {
      return await call("model");
    } catch (error) {
      onWait(error.status === 503 ? `Not ready yet: ${error.detail}.` : error.message);
      await sleep(error.retryAfter ?? 3);
    }
  }
}
