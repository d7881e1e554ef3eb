// The user's judgement of one answer. It can be changed for a while, and is then sent: the service counts an answer once.

import * as api from "./api.js";
import { keepFocus } from "./focus.js";
import { text } from "./texts.js";

const CHANGEABLE_MS = 8000;

export class Feedback {
  /** `photo`: element, answer, page, called (label), saved (). */
  constructor(photo) {
    this.photo = photo;
    this.actual = null; // the label that the user says is right
    this.sent = false;
    this.timer = 0;
    this.part("up").addEventListener("click", () => this.judge(photo.answer.label));
    this.part("down").addEventListener("click", () => this.correct());
    // Not on change: with the keyboard, every option on the way is a change.
    this.part("send").addEventListener("click", () => this.judge(this.part("actual").querySelector("select").value));
  }

  part(name) {
    return this.photo.element.querySelector(`.${name}`);
  }

  /** The prediction is wrong: take the only other label, or let the user choose one. */
  correct() {
    if (this.sent) return;
    clearTimeout(this.timer); // or an earlier "Right" would be sent while the user chooses
    this.actual = null;
    this.show("");
    const others = this.photo.page.model.labels.filter((label) => label !== this.photo.answer.label);
    if (others.length === 1) return this.judge(others[0]);
    if (others.length === 2) return this.offer(others);
    const select = this.part("actual").querySelector("select");
    select.replaceChildren(new Option("…", ""), ...others.map((label) => new Option(this.photo.called(label), label)));
    this.part("actual").hidden = false;
    select.focus();
  }

  offer(labels) {
    const buttons = labels.map((label) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = this.photo.called(label);
      button.addEventListener("click", () => this.judge(label));
      return button;
    });
    this.part("others").replaceChildren(text("it_is"), " ", ...buttons);
    this.part("others").hidden = false;
    buttons[0].focus();
  }

  judge(actual) {
    if (!actual || this.sent) return;
    clearTimeout(this.timer);
    this.actual = actual;
    this.show(`${this.thanks()} ${text("changeable")}`);
    this.timer = setTimeout(() => this.flush(), CHANGEABLE_MS);
  }

  /** Send what was chosen now. */
  async flush() {
    clearTimeout(this.timer);
    if (!this.actual || this.sent) return;
    this.sent = true; // before the response: the page may be gone by then
    this.show(this.thanks());
    this.photo.saved();
    try {
      await api.feedback(this.photo.answer.label, this.actual, this.photo.answer.request_id);
    } catch (error) {
      this.sent = false;
      this.actual = null;
      this.show(text("not_sent", { reason: error.message }), true);
      this.photo.saved();
      if (error.status === 401) this.photo.page.needKey();
    }
  }

  restore(actual) {
    this.actual = actual;
    this.sent = true;
    this.show(this.thanks());
  }

  thanks() {
    const right = this.actual === this.photo.answer.label;
    return right ? text("thanks") : text("noted", { label: this.photo.called(this.actual) });
  }

  show(message, failed = false) {
    const right = this.actual === this.photo.answer.label;
    this.part("up").setAttribute("aria-pressed", String(Boolean(this.actual) && right));
    this.part("down").setAttribute("aria-pressed", String(Boolean(this.actual) && !right));
    // Not `disabled`: it would take the focus away.
    for (const thumb of [this.part("up"), this.part("down")]) thumb.setAttribute("aria-disabled", String(this.sent));
    if (this.sent || right) {
      keepFocus(this.part("feedback"), this.part(right ? "up" : "down"), () => {
        this.part("others").hidden = this.part("actual").hidden = true;
      });
    }
    this.part("feedback").dataset.sent = String(this.sent);
    this.part("thanks").classList.toggle("not-sent", failed);
    this.part("thanks").textContent = message;
  }
}
