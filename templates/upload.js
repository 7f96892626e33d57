// Sends the chosen files one by one and shows how far each is. Without this script the form sends them all at once.
"use strict";
const form = document.querySelector("[data-upload]");
const list = document.querySelector("[data-sent]");
const LOST = "no answer came, so it may have been published or not: send it again (the same file once more changes nothing)";
function send(file, bar) {
  return new Promise((done) => {
    const body = new FormData();
    body.append("content", file);
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRF-Token", form.elements.csrf.value);
    request.upload.addEventListener("progress", (event) => { if (event.lengthComputable) bar.value = event.loaded / event.total; });
    request.addEventListener("loadend", () => {
      try {
        done(JSON.parse(request.responseText).files[0]);
      } catch {
        // A proxy's own page of an error is no answer of the server either.
        const ours = (request.getResponseHeader("Content-Type") || "").startsWith("text/plain") && request.responseText.trim();
        done({taken: false, said: ours || LOST});
      }
    });
    request.send(body);
  });
}
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  const items = Array.from(form.elements.content.files, (file) => {
    const item = document.createElement("li");
    const bar = document.createElement("progress");
    bar.value = 0;
    bar.setAttribute("aria-label", file.name);
    item.append(Object.assign(document.createElement("bdi"), {textContent: file.name}), " ", bar);
    return [file, item, bar];
  });
  list.replaceChildren(...items.map(([, item]) => item));
  button.disabled = true;
  for (const [file, item, bar] of items) {
    const result = await send(file, bar);
    const said = Object.assign(document.createElement("span"), {textContent: result.said, className: result.taken ? "quiet" : "mark"});
    bar.replaceWith(said);
    if (result.link) {
      const link = Object.assign(document.createElement("a"), {href: result.link});
      item.firstChild.replaceWith(link);
      link.append(Object.assign(document.createElement("bdi"), {textContent: file.name}));
    }
  }
  button.disabled = false;
  form.reset();
});
