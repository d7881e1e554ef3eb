// One photo on the page: its preview, its prediction, and the user's feedback.

import * as api from "./api.js";
import { HeatMap } from "./heat.js";
import { neither, noneOf, place } from "./words.js";

const PLACES = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
// Rounding must not suggest certainty.
export const percent = (share) =>
  share < 1 && share >= 0.9995 ? ">99.9%" : share > 0 && share < 0.0005 ? "<0.1%" : PLACES.format(share);

const SHOWN = 5; // bars; those of further classes are folded away

export const megabytes = (bytes) => `${Math.round(bytes / 104857.6) / 10} MB`;

function bar(name, share, top) {
  const [row, term, value, track, fill] = ["div", "dt", "dd", "span", "span"].map((tag) => document.createElement(tag));
  row.classList.toggle("top", top);
  term.textContent = name;
  fill.style.inlineSize = `${100 * share}%`;
  track.className = "track";
  track.setAttribute("aria-hidden", "true");
  track.append(fill);
  value.append(track, percent(share));
  row.append(term, value);
  return row;
}

export class Photo {
  /**
   * `page`: limit (bytes), model (from /model), announce (text), again (photo), changed (), needKey (),
   * removed (photo, neighbour).
   */
  constructor(file, page) {
    this.file = file;
    this.page = page;
    this.abort = new AbortController();
    this.element = document.getElementById("photo").content.cloneNode(true).firstElementChild;
    this.name = file.name || "photo";
    this.part("name").textContent = this.name;
    this.element.setAttribute("aria-label", this.name);
    const remove = this.part("remove");
    remove.setAttribute("aria-label", `Remove ${this.name}`);
    remove.addEventListener("click", () => this.remove());
    this.part("retry").addEventListener("click", () => this.page.again(this));
    this.part("up").addEventListener("click", () => this.judge(this.answer.label));
    this.part("down").addEventListener("click", () => this.correct());
    // Not on change: with the keyboard, every option on the way is a change.
    this.part("send").addEventListener("click", () => this.judge(this.part("actual").querySelector("select").value));
    const image = this.part("preview");
    this.heat = new HeatMap(this.part("frame"), () => this.page.announce(this.part("where").textContent));
    this.url = URL.createObjectURL(file);
    image.addEventListener("error", () => this.element.classList.add("unseeable"));
    image.alt = `Preview of ${this.name}`;
    image.src = this.url;
    this.show("waiting", "Waiting…");
  }

  part(name) {
    return this.element.querySelector(`.${name}`);
  }

  show(state, message = "") {
    this.state = state;
    this.element.dataset.state = state;
    this.element.setAttribute("aria-busy", String(state === "waiting" || state === "asking"));
    this.part("message").textContent = message;
    this.part("retry").hidden = state !== "failed";
    this.page.changed();
  }

  async ask() {
    this.show("asking", "Predicting…");
    try {
      if (this.file.size > this.page.limit) {
        const size = `${megabytes(this.file.size)}, over the limit of ${megabytes(this.page.limit)}`;
        throw new api.ApiError(413, `This photo is too large: ${size}.`);
      }
      const bytes = await this.file.arrayBuffer().catch(() => {
        throw new api.ApiError(400, "This file can't be read.");
      });
      if (!bytes.byteLength) throw new api.ApiError(400, "This file is empty.");
      const onWait = (seconds) => this.show("asking", `The service is busy. Trying again in ${seconds} s…`);
      const explain = this.page.model.explains;
      this.answer = await api.predict(bytes, this.file.type, { explain, signal: this.abort.signal, onWait });
      this.showAnswer();
    } catch (error) {
      if (this.abort.signal.aborted) return;
      if (!(error instanceof api.ApiError)) throw error;
      this.show(error.temporary ? "failed" : "rejected", error.message);
      this.page.announce(`${this.name}: ${error.message}`);
      if (error.status === 401) this.page.needKey();
    }
  }

  showAnswer() {
    const { label, probabilities, explanation, milliseconds } = this.answer;
    const classes = Object.keys(probabilities);
    const ranked = Object.entries(probabilities).sort(([, a], [, b]) => b - a);
    const none = !classes.includes(label);
    this.element.classList.toggle("none", none);
    this.show("answered", none ? neither(classes) : "");
    this.part("label").textContent = none ? "Something else" : label;
    this.part("instead").textContent = none ? "If it were one of these classes:" : "";
    const bars = ranked.map(([name, share]) => bar(name, share, name === label));
    if (explanation) {
      const where = place(explanation.grid, explanation.box);
      this.part("where").textContent = none
        ? `The part most like ${ranked[0][0]} is ${where}.`
        : `The evidence for ${label} is ${where}.`;
      this.heat.set(explanation);
    }
    this.part("bars").replaceChildren(...bars.splice(0, bars.length > SHOWN + 1 ? SHOWN : bars.length));
    this.part("more").hidden = !bars.length;
    this.part("more").querySelector("summary").textContent = `${bars.length} more`;
    this.part("more").querySelector("dl").replaceChildren(...bars);
    const duration = milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
    this.part("time").textContent = `Answered in ${duration}`;
    this.part("feedback").hidden = false;
    this.page.announce(`${this.name}: ${none ? neither(classes) : `${label}, ${percent(probabilities[label])}`}`);
  }

  /** A label as the user sees it. */
  called(label) {
    const classes = Object.keys(this.answer.probabilities);
    return classes.includes(label) ? label : noneOf(classes);
  }

  /** The prediction is wrong: take the only other label, or let the user choose one. */
  correct() {
    const others = this.page.model.labels.filter((label) => label !== this.answer.label);
    if (others.length === 1) return this.judge(others[0]);
    if (others.length === 2) return this.offer(others);
    const choice = this.part("actual");
    const select = choice.querySelector("select");
    select.replaceChildren(new Option("…", ""), ...others.map((label) => new Option(this.called(label), label)));
    choice.hidden = false;
    select.focus();
  }

  offer(labels) {
    const buttons = labels.map((label) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = this.called(label);
      button.addEventListener("click", () => this.judge(label));
      return button;
    });
    this.part("others").replaceChildren("It is", ...buttons);
    this.part("others").hidden = false;
    buttons[0].focus();
  }

  async judge(actual) {
    if (!actual) return;
    const controls = this.part("feedback").querySelectorAll("button, select");
    const thanks = this.part("thanks");
    thanks.classList.remove("not-sent");
    const right = actual === this.answer.label;
    for (const control of controls) control.disabled = true;
    try {
      await api.feedback(this.answer.label, actual, this.answer.request_id);
      this.part(right ? "up" : "down").setAttribute("aria-pressed", "true");
      thanks.textContent = right ? "Thank you." : `Thank you. Noted as ${this.called(actual)}.`;
    } catch (error) {
      for (const control of controls) control.disabled = false;
      thanks.classList.add("not-sent");
      thanks.textContent = `Not sent. ${error.message}`;
      if (error.status === 401) this.page.needKey();
    }
  }

  remove() {
    this.abort.abort();
    this.heat.clear();
    URL.revokeObjectURL(this.url);
    const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
    this.element.remove();
    this.page.removed(this, next);
  }
}
