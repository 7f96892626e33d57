// Adds a copy button to every <pre data-copy>. Without this script the pages work the same, one selects by hand.
"use strict";
const said = document.querySelector(".status");
function select(node) {
  const range = document.createRange();
  range.selectNodeContents(node);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}
async function copy(node) {
  // The clipboard is for secure pages only; an index inside a network seldom is one.
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(node.textContent);
  select(node);
  if (!document.execCommand("copy")) throw new Error("not allowed");
}
for (const text of document.querySelectorAll("pre[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy " + text.textContent.trim().slice(0, 60));
  button.addEventListener("click", () => copy(text).then(
    () => { said.textContent = "Copied"; button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 1500); },
    () => { select(text); said.textContent = "Selected; copy it with the keyboard"; }
  ));
  text.after(button);
}
