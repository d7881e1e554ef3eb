// Makes a photo smaller before it is sent: the network sees few of its pixels, and slow lines need a second per 90 kB.

const ENOUGH = 200_000; // bytes; smaller files are sent as they are
const QUALITY = 0.9; // of JPEG
const THUMBNAIL = 240; // pixels of the longer side

let trusted = null;

/** Whether a canvas returns what was drawn. To prevent fingerprinting, some browsers return noise. */
function canvasIsHonest() {
  if (trusted !== null) return trusted;
  const side = 16;
  const context = blank(side, side).getContext("2d", { willReadFrequently: true });
  const levels = (at) => [(at * 37) % 256, (at * 91) % 256, (at * 151) % 256];
  for (let at = 0; at < side * side; at++) {
    context.fillStyle = `rgb(${levels(at)})`;
    context.fillRect(at % side, Math.floor(at / side), 1, 1);
  }
  const { data } = context.getImageData(0, 0, side, side);
  trusted = data.every((value, at) => value === [...levels(at >> 2), 255][at % 4]);
  return trusted;
}

function blank(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** Draw an image on a white canvas. Halving it again and again takes the mean of all pixels in every browser. */
function draw(image, width, height) {
  let [source, wide, high] = [image, image.naturalWidth, image.naturalHeight];
  for (;;) {
    [wide, high] = [Math.max(width, Math.ceil(wide / 2)), Math.max(height, Math.ceil(high / 2))];
    const canvas = blank(wide, high);
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // the service puts transparency over white, too
    context.fillRect(0, 0, wide, high);
    context.imageSmoothingQuality = "high";
    context.drawImage(source, 0, 0, wide, high);
    if (wide === width && high === height) return canvas;
    source = canvas;
  }
}

const encoded = (canvas, quality) => new Promise((done) => canvas.toBlob(done, "image/jpeg", quality));

/** Whether the service takes files that begin like this. */
async function isAccepted(file) {
  const start = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  return /^(\xff\xd8\xff|\x89PNG|GIF8|BM|RIFF....WEBP)/s.test(start);
}

/** Whether the browser can decode all of a file. An <img> shows an incomplete photo, too. */
async function isComplete(file) {
  const bitmap = await createImageBitmap(file);
  bitmap.close();
}

/**
 * What to send for a file: `blob`, and `size`, the original's "WIDTHxHEIGHT", if the blob is a smaller version.
 * `image`: an <img> of the file; `side`: of the network's input, in pixels.
 */
export async function shrunk(file, image, side) {
  const original = { blob: file };
  try {
    const accepted = await isAccepted(file);
    if (accepted && file.size <= ENOUGH) return original;
    await image.decode();
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    // Twice the network's input: the service's own filter does the rest, as for an original.
    const scale = Math.min(1, (2 * side) / Math.min(width, height));
    if ((accepted && scale === 1) || !canvasIsHonest()) return original;
    if (accepted) await isComplete(file);
    const blob = await encoded(draw(image, Math.round(width * scale), Math.round(height * scale)), QUALITY);
    return blob && (!accepted || blob.size < file.size) ? { blob, size: `${width}x${height}` } : original;
  } catch {
    return original; // the browser can't decode it: the service may, or says why not
  }
}

/** A small picture of an <img> as a data: URL; empty if there is none. */
export function thumbnail(image) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  const scale = Math.min(1, THUMBNAIL / Math.max(width, height));
  if (!width || !canvasIsHonest()) return "";
  return draw(image, Math.ceil(width * scale), Math.ceil(height * scale)).toDataURL("image/jpeg", 0.7);
}

/** The bytes of a base64 data: URL; the page's security policy forbids to load it. */
export function fromDataUrl(url) {
  const [head, data] = [url.slice(0, url.indexOf(",")), url.slice(url.indexOf(",") + 1)];
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: /^data:([^;]*)/.exec(head)?.[1] ?? "" });
}
