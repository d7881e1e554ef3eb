// Shows the evidence as an overlay on a photo's preview: while the mouse or the keyboard focus is on it, or until it is
// switched off.

import { fromDataUrl } from "./shrink.js";

export class HeatMap {
  /** `frame` contains the preview, the overlay and a button; `onPress()` is called when the overlay is switched on. */
  constructor(frame, onPress) {
    this.frame = frame;
    this.onPress = onPress;
    this.pressed = this.peeked = false;
    [this.preview, this.overlay, this.button] = ["preview", "heat", "why"].map((name) => frame.querySelector(`.${name}`));
    this.preview.addEventListener("load", () => this.lay());
    const isMouse = (event) => event.pointerType === "mouse";
    frame.addEventListener("pointerenter", (event) => isMouse(event) && this.show({ peeked: true }));
    frame.addEventListener("pointerleave", (event) => isMouse(event) && this.show({ peeked: false }));
    this.button.addEventListener("focus", () => this.show({ peeked: this.button.matches(":focus-visible") }));
    this.button.addEventListener("blur", () => this.show({ peeked: false }));
    this.button.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.show({ pressed: false, peeked: false });
    });
    // A click anywhere on the photo works like the button. Once switched off, the overlay stays off until the mouse returns.
    frame.addEventListener("click", () => this.url && this.show({ pressed: !this.pressed, peeked: false }));
  }

  /** Show an explanation from the service. */
  set({ overlay, box }) {
    this.clear();
    this.box = box;
    this.url = URL.createObjectURL(fromDataUrl(overlay));
    this.overlay.src = this.url;
    this.overlay.hidden = this.button.hidden = false;
    this.lay();
    this.show({}); // the mouse may be on the photo already
  }

  show({ pressed = this.pressed, peeked = this.peeked }) {
    if (pressed && !this.pressed) this.onPress();
    this.pressed = pressed;
    this.peeked = peeked;
    this.button.setAttribute("aria-pressed", String(pressed));
    this.frame.classList.toggle("explained", Boolean(this.url) && (pressed || peeked));
  }

  /** Place the overlay over its part of the photo. The frame shows the photo's middle (`object-fit: cover`). */
  lay() {
    const natural = this.preview.naturalWidth / this.preview.naturalHeight;
    if (!natural) return;
    // Between 4:3 and square: the frame then contains the whole square in the photo's middle, often all that a model sees.
    const framed = Math.min(4 / 3, Math.max(1, natural));
    this.frame.style.aspectRatio = framed;
    if (!this.box) return;
    const shape = natural / framed;
    const [wide, high] = [Math.max(1, shape), Math.max(1, 1 / shape)]; // size of the photo in units of the frame
    const [left, top, right, bottom] = this.box;
    const style = this.overlay.style;
    style.insetInlineStart = `${100 * ((1 - wide) / 2 + left * wide)}%`;
    style.insetBlockStart = `${100 * ((1 - high) / 2 + top * high)}%`;
    style.inlineSize = `${100 * (right - left) * wide}%`;
    style.blockSize = `${100 * (bottom - top) * high}%`;
  }

  clear() {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
    this.show({ pressed: false });
  }
}
