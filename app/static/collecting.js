// Whether photos may be kept for later training: the operator decides, or asks the user.

import { text } from "./texts.js";

const { collect, collectDays, collectOperator } = document.documentElement.dataset;
const box = document.getElementById("keep");

export const always = collect === "always";
const asks = collect === "ask";

/** Whether the user allows it now. */
export const mayKeep = () => asks && box.checked;

const values = { operator: collectOperator || text("operator"), count: Number(collectDays) };
if (asks) document.getElementById("keep-text").textContent = text("keep", values);
if (collect) document.getElementById("privacy").textContent = text(asks ? "privacy_ask" : "privacy_always", values);
