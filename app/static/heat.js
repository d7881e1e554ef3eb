// The evidence as a picture over a photo's preview: while the mouse or the keyboard is on it, or until told otherwise.

export class HeatMap {
  /** `frame` holds the preview, the overlay and a button; `onPress()` hears that it was made to stay. */
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
    // The whole photo is as good as its button. What is taken away stays so until the mouse comes back.
    frame.addEventListener("click", () => this.url && this.show({ pressed: !this.pressed, peeked: false }));
  }

  /** Take on an explanation, as the service gives it. */
  set({ overlay, box }) {
    this.clear();
    this.box = box;
    const png = Uint8Array.from(atob(overlay.slice(overlay.indexOf(",") + 1)), (letter) => letter.charCodeAt(0));
    this.url = URL.createObjectURL(new Blob([png], { type: "image/png" })); // the page's policy forbids data:
    this.overlay.src = this.url;
    this.overlay.hidden = this.button.hidden = false;
    this.lay();
    this.show({}); // the mouse may be there already
  }

  show({ pressed = this.pressed, peeked = this.peeked }) {
    if (pressed && !this.pressed) this.onPress();
    this.pressed = pressed;
    this.peeked = peeked;
    this.button.setAttribute("aria-pressed", String(pressed));
    this.frame.classList.toggle("explained", Boolean(this.url) && (pressed || peeked));
  }

  /** Put the overlay over its part of the photo, of which the frame shows the middle (`object-fit: cover`). */
  lay() {
    const natural = this.preview.naturalWidth / this.preview.naturalHeight;
    if (!natural) return;
    // From 4:3 to a square: the square in a photo's middle, often all that a model sees, is whole in it.
    const framed = Math.min(4 / 3, Math.max(1, natural));
    this.frame.style.aspectRatio = framed;
    if (!this.box) return;
    const shape = natural / framed;
    const [wide, high] = [Math.max(1, shape), Math.max(1, 1 / shape)]; // of the photo, in frames
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
