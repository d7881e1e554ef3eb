// Client of the service's API. Every error is an ApiError, whose message is for the user.

const ATTEMPTS = 5; // for one photo, while the service is busy
const KEY = "api-key";

const BUSY = [429, 503]; // 429 comes from platforms in front of the service

export class ApiError extends Error {
  constructor(status, message, detail = "", retryAfter = 1) {
    super(message);
    this.status = status; // HTTP status, 0 if there was no complete response
    this.detail = detail; // the service's explanation
    this.retryAfter = retryAfter; // seconds
  }

  /** Whether the same photo may get a different response later. */
  get temporary() {
    return [0, 401, 429].includes(this.status) || this.status >= 500;
  }
}

let memory = null; // if the browser denies storage, the key lasts as long as the page
export const key = {
  get() {
    try {
      return sessionStorage.getItem(KEY);
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

// A header consists of bytes; fetch takes them as the characters with the same codes.
const utf8 = (text) => String.fromCharCode(...new TextEncoder().encode(text));

const MESSAGES = {
  400: "The service can't read this file.",
  401: "An API key is needed.",
  413: "This photo is too large for the service.",
  415: "This is not a JPEG, PNG, WebP, GIF or BMP image.",
  422: "This image is damaged, incomplete, or has too many pixels.",
  429: "The service is too busy.",
  502: "The service can't be reached right now.",
  503: "The service is too busy, or is restarting.",
  504: "The service took too long to respond.",
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
      throw new ApiError(0, "The connection was lost before the response was complete.");
    });
  }
  // Proxies in front of the service respond in formats of their own.
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
 * Predict a photo's label. With `explain`, the response contains the evidence too, because a second request would
 * cost another prediction. While the service is busy, try again when it says; `onWait(seconds)` is called then.
 */
export async function predict(bytes, type, { explain, signal, onWait }) {
  for (let attempt = 1; ; attempt++) {
    const started = performance.now();
    try {
      // The service judges an image by its content, but it needs a type of image/*.
      const headers = { "Content-Type": type.startsWith("image/") ? type : "image/unknown" };
      const answer = await call(`predict${explain ? "?explain=1" : ""}`, { method: "POST", body: bytes, headers, signal });
      return { ...answer, milliseconds: performance.now() - started };
    } catch (error) {
      if (explain && error.status === 400) {
        explain = false; // a new model may be loaded that can't explain
        continue;
      }
      if (!BUSY.includes(error.status) || attempt === ATTEMPTS || signal.aborted) throw error;
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

/** The description of the model, as soon as it is loaded; until then, `onWait(reason)` is called for each attempt. */
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
