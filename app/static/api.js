// The service's API, as the page uses it. Errors are ApiError, their message fit for a reader.

const PATIENCE = 5; // tries for one photo while the service is busy
const KEY = "api-key";

const BUSY = [429, 503]; // 429 is what some platforms say in front of the service

export class ApiError extends Error {
  constructor(status, message, detail = "", retryAfter = 1) {
    super(message);
    this.status = status; // HTTP status, 0 where there was no whole answer
    this.detail = detail; // the service's own words
    this.retryAfter = retryAfter; // seconds
  }

  /** Whether the same photo may get another answer later. */
  get passing() {
    return [0, 401, 429].includes(this.status) || this.status >= 500;
  }
}

let held = null; // where the browser refuses storage, the key lasts as long as the page
export const key = {
  get() {
    try {
      return sessionStorage.getItem(KEY);
    } catch {
      return held;
    }
  },
  set(value) {
    held = value;
    try {
      sessionStorage.setItem(KEY, value);
    } catch {
      // held is enough
    }
  },
};

// A header takes bytes, given as the characters of the same numbers.
const utf8 = (text) => String.fromCharCode(...new TextEncoder().encode(text));

const MESSAGES = {
  400: "The service could not read this file.",
  401: "An API key is needed.",
  413: "This photo is too large for the service.",
  415: "This is not a JPEG, PNG, WebP, GIF or BMP image.",
  422: "This image is damaged, cut short or far too large in pixels.",
  429: "The service is too busy to answer.",
  502: "The service can't be reached at the moment.",
  503: "The service is too busy to answer, or is being restarted.",
  504: "The service took too long to answer.",
};

async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("X-API-Key", utf8(key.get()));
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new ApiError(0, "The service can't be reached. Check the connection.");
  }
  if (response.status === 204) return null;
  if (response.ok) {
    return response.json().catch(() => {
      throw new ApiError(0, "The answer was cut off on its way.");
    });
  }
  // What stands between here and the service answers in forms of its own.
  const problem = await response.json().catch(() => null);
  const detail = typeof problem?.detail === "string" ? problem.detail : "";
  const message =
    response.status === 422 && detail
      ? `This image can't be used: ${detail}.`
      : (MESSAGES[response.status] ?? "Something went wrong in the service.");
  throw new ApiError(response.status, message, detail, Number(response.headers.get("Retry-After")) || 1);
}

const sleep = (seconds, signal) =>
  new Promise((done) => {
    setTimeout(done, seconds * 1000);
    signal?.addEventListener("abort", done);
  });

/**
 * Label a photo, and say why if `explain`: with the answer, for to ask again would cost and count another one.
 * While the service is busy, come back when it says; `onWait(seconds)` hears of it.
 */
export async function predict(bytes, type, { explain, signal, onWait }) {
  for (let attempt = 1; ; attempt++) {
    const started = performance.now();
    try {
      // Content decides what it is; a type of image/* is what tells the service that the body is one.
      const headers = { "Content-Type": type.startsWith("image/") ? type : "image/unknown" };
      const answer = await call(`predict${explain ? "?explain=1" : ""}`, { method: "POST", body: bytes, headers, signal });
      return { ...answer, milliseconds: performance.now() - started };
    } catch (error) {
      if (explain && error.status === 400) {
        explain = false; // by now it may be another model, which can't
        continue;
      }
      if (!BUSY.includes(error.status) || attempt === PATIENCE || signal.aborted) throw error;
      onWait(error.retryAfter);
      await sleep(error.retryAfter, signal);
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
      onWait(error.status === 503 && error.detail ? `Not ready yet: ${error.detail}.` : error.message);
      await sleep(error.status === 503 ? error.retryAfter : 3);
    }
  }
}
