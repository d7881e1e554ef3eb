// Examples for other programs, with the address of this service.

import { text } from "./texts.js";

const address = new URL("predict", document.baseURI).href;
const needsKey = "needsKey" in document.documentElement.dataset;

const curl = `curl ${needsKey ? '-H "X-API-Key: $API_KEY" ' : ""}-F "file=@photo.jpg;filename=photo.jpg" ${address}`;

const python = `${needsKey ? "import os\n\n" : ""}import requests

with open("photo.jpg", "rb") as photo:
    response = requests.post(
        "${address}",
        files={"file": ("photo.jpg", photo)},${needsKey ? '\n        headers={"X-API-Key": os.environ["API_KEY"]},' : ""}
        timeout=30,
    )
response.raise_for_status()
answer = response.json()
print(answer["label"], answer["probabilities"])`;

const javascript = `// Node.js 20 or later. In a browser, take the photo from <input type="file">: input.files[0]
import { openAsBlob } from "node:fs";

const form = new FormData();
form.append("file", await openAsBlob("photo.jpg"), "photo.jpg");
const response = await fetch("${address}", {
  method: "POST",
  body: form,${needsKey ? '\n  headers: { "X-API-Key": process.env.API_KEY },' : ""}
});
if (!response.ok) throw new Error(await response.text());
const answer = await response.json();
console.log(answer.label, answer.probabilities);`;

for (const [language, code] of [["curl", curl], ["Python", python], ["JavaScript", javascript]]) {
  const element = document.getElementById("snippet").content.cloneNode(true).firstElementChild;
  const [title, shown, button] = ["h3", "code", "button"].map((tag) => element.querySelector(tag));
  title.textContent = language;
  element.dataset.language = language;
  shown.textContent = code;
  button.setAttribute("aria-label", text("copy_name", { language }));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code);
      button.textContent = text("copied");
    } catch {
      getSelection().selectAllChildren(shown); // the clipboard needs a secure context; Ctrl+C doesn't
    }
  });
  document.getElementById("code").append(element);
}
