// One photo on the page: its preview, its prediction, and the user's feedback.

import * as api from "./api.js";
import { always, mayKeep } from "./collecting.js";
import { place } from "./evidence.js";
import { Feedback } from "./feedback.js";
import { keepFocus } from "./focus.js";
import { HeatMap } from "./heat.js";
import { fromDataUrl, shrunk, thumbnail } from "./shrink.js";
import { chance, duration, listed, megabytes, percent, text } from "./texts.js";

const SHOWN = 5; // bars; those of further classes are folded away
const LISTED = 3; // a sentence names at most so many classes
const SLOW_MS = 700; // an upload that takes longer gets a progress bar
const DOUBLE_TAP_MS = 400; // the second tap of a double tap must not remove the photo that has moved up

let count = 0;
let removedAt = -DOUBLE_TAP_MS;

function bar(name, share, top) {
  const [row, term, value, track, fill] = ["div", "dt", "dd", "span", "span"].map((tag) => document.createElement(tag));
  row.classList.toggle("top", top);
  term.textContent = name;
  fill.style.inlineSize = `${100 * share}%`;
  track.className = "track";
  track.setAttribute("aria-hidden", "true");
  track.append(fill);
  value.append(track, chance(share));
  row.append(term, value);
  return row;
}

export class Photo {
  /**
   * `page`: limit (bytes), model (from /model), announce (text), again (photo), changed (), keep (),
   * answered (photo), needKey (), removed (photo, neighbour). `file` is null for a photo of an earlier visit.
   */
  constructor(file, page, name = file.name || "photo.jpg") {
    this.file = file;
    this.page = page;
    this.name = name;
    this.requestId = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    this.element = document.getElementById("photo").content.cloneNode(true).firstElementChild;
    const heading = this.element.querySelector("h3");
    heading.id = `photo-${++count}`;
    this.element.setAttribute("aria-labelledby", heading.id);
    this.part("name").textContent = name;
    for (const [part, key] of [
      ["remove", "remove"], ["retry", "again_name"], ["cancel", "cancel_name"], ["why", "why_name"], ["up", "right_name"],
      ["down", "wrong_name"], ["sent", "sending_name"],
    ]) this.part(part).setAttribute("aria-label", text(key, { name })); // prettier-ignore
    this.part("remove").addEventListener("click", ({ detail, timeStamp }) => {
      if (detail && timeStamp - removedAt < DOUBLE_TAP_MS) return; // `detail` is 0 for a key
      removedAt = timeStamp;
      this.remove();
    });
    this.part("retry").addEventListener("click", () => this.page.again(this));
    this.part("cancel").addEventListener("click", () => this.abort.abort());
    this.feedback = new Feedback(this);
    this.heat = new HeatMap(this.part("frame"), () => this.page.announce(this.part("where").textContent));
    this.preview = this.part("preview");
    this.preview.addEventListener("error", () => this.element.classList.add("unseeable"));
    this.preview.alt = text("preview", { name });
    if (file) this.see(file);
    this.show("waiting", text("waiting"));
  }

  /** A photo of an earlier visit, from what `record` returned. */
  static restored({ name, seen, answer, actual }, page) {
    const photo = new Photo(null, page, name);
    photo.answer = answer;
    photo.thumbnail = seen;
    if (seen) photo.see(fromDataUrl(seen));
    else photo.element.classList.add("unseeable");
    photo.showAnswer();
    if (actual) photo.feedback.restore(actual);
    return photo;
  }

  /** What is kept of an answered photo. */
  record() {
    this.thumbnail ??= thumbnail(this.preview);
    const actual = this.feedback.sent ? this.feedback.actual : null;
    return { name: this.name, seen: this.thumbnail, answer: this.answer, actual };
  }

  part(name) {
    return this.element.querySelector(`.${name}`);
  }

  see(blob) {
    this.url = URL.createObjectURL(blob);
    this.preview.src = this.url;
  }

  saved() {
    this.page.keep();
  }

  show(state, message = "") {
    this.state = state;
    this.element.dataset.state = state;
    this.element.setAttribute("aria-busy", String(state === "waiting" || state === "asking"));
    this.part("message").textContent = message;
    keepFocus(this.element, this.part("remove"), () => {
      this.part("retry").hidden = state !== "failed";
      this.part("sent").hidden = this.part("cancel").hidden = true;
    });
    this.page.changed();
  }

  async ask() {
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.show("asking", text("preparing"));
    try {
      if (!this.file.size) throw new api.ApiError(400, text("empty"));
      await this.file.slice(0, 1).arrayBuffer().catch(() => {
        throw new api.ApiError(400, text("unreadable"));
      });
      const photo = await shrunk(this.file, this.preview, this.page.model.image_size);
      if (photo.blob.size > this.page.limit) {
        const [size, limit] = [megabytes(photo.blob.size), megabytes(this.page.limit)];
        throw new api.ApiError(413, text("too_large", { size, limit }));
      }
      if (signal.aborted) throw new api.ApiError(0, "");
      this.show("asking", text("predicting"));
      const onWait = (seconds) => this.show("asking", text("busy", { seconds }));
      const onProgress = this.progress(signal);
      const explain = this.page.model.explains;
      const { requestId: id } = this;
      const answer = await api.predict(photo, { id, explain, mayKeep, signal, onWait, onProgress });
      this.answer = { ...answer, mayBeKept: answer.mayBeKept || always };
      this.showAnswer();
      this.announce();
      await this.preview.decode().catch(() => {}); // it has its size then, and can be kept
      this.page.answered(this);
    } catch (error) {
      if (!this.element.isConnected) return;
      if (!(error instanceof api.ApiError)) {
        this.show("failed", text("error_other"));
        throw error;
      }
      const message = signal.aborted ? text("cancelled") : error.message;
      this.show(error.temporary ? "failed" : "rejected", message);
      this.page.announce(text("announce", { name: this.name, result: message }));
      if (error.status === 401) this.page.needKey();
    }
  }

  /** Returns a function that shows how much of the photo is sent, once that has taken a while. */
  progress(signal) {
    let sent = 0;
    let slow = false;
    const show = () => {
      if (!slow || signal.aborted || this.state !== "asking") return;
      keepFocus(this.element, this.part("remove"), () => {
        this.part("sent").hidden = this.part("cancel").hidden = sent === 1;
      });
      this.part("sent").value = sent;
      this.part("message").textContent = sent === 1 ? text("predicting") : text("sending", { share: percent(sent) });
    };
    setTimeout(() => {
      slow = true;
      if (sent < 1) show();
    }, SLOW_MS);
    return (share) => {
      sent = share;
      show();
    };
  }

  get classes() {
    return Object.keys(this.answer.probabilities);
  }

  get none() {
    return !this.classes.includes(this.answer.label);
  }

  /** Says that the photo shows none of the classes. */
  get noneOfThem() {
    const { classes } = this;
    return classes.length > LISTED
      ? text("none_of_many", { count: classes.length })
      : text("none_of_few", { classes: listed(classes) });
  }

  announce() {
    const { label, probabilities } = this.answer;
    const result = this.none ? this.noneOfThem : text("announce_label", { label, share: chance(probabilities[label]) });
    this.page.announce(text("announce", { name: this.name, result }));
  }

  showAnswer() {
    const { label, probabilities, explanation, milliseconds, mayBeKept, request_id } = this.answer;
    const { none } = this;
    const ranked = Object.entries(probabilities).sort(([, a], [, b]) => b - a);
    this.element.classList.toggle("none", none);
    this.part("label").textContent = none ? text("unknown") : label;
    this.part("instead").textContent = none ? text("instead") : "";
    if (explanation) {
      const where = place(explanation.grid, explanation.box);
      this.part("where").textContent = text(none ? "evidence_most" : "evidence", { label: ranked[0][0], place: where });
      this.heat.set(explanation);
    }
    const bars = ranked.map(([name, share]) => bar(name, share, name === label));
    this.part("bars").replaceChildren(...bars.splice(0, bars.length > SHOWN + 1 ? SHOWN : bars.length));
    this.part("more").hidden = !bars.length;
    this.part("more").querySelector("summary").textContent = text("more", { count: bars.length });
    this.part("more").querySelector("dl").replaceChildren(...bars);
    this.part("time").textContent = text("answered", { time: duration(milliseconds) });
    this.part("kept").textContent = mayBeKept ? text("kept", { id: request_id }) : "";
    this.part("feedback").hidden = false;
    this.show("answered", none ? this.noneOfThem : "");
  }

  /** A label as the user sees it. */
  called(label) {
    if (this.classes.includes(label)) return label;
    return text(this.classes.length === 2 ? "neither" : "none");
  }

  remove() {
    this.feedback.flush();
    this.abort?.abort();
    this.heat.clear();
    URL.revokeObjectURL(this.url);
    const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
    this.element.remove();
    this.page.removed(this, next);
  }
}
