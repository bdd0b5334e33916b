// A file for a collection: its beginning is shown before it is sent, as it is, for an import, which is a task.

import { at, call } from "../api.js";
import { cut, make, size } from "../elements.js";

const LINES = 5;
const SHOWN = 300; // characters of a line
const READ = 64 * 1024; // bytes
const OFFICE = "application/vnd.openxmlformats-officedocument.";
// Suffix -> content type, or the format that the request names.
const TYPES = {
  ndjson: "application/x-ndjson", jsonl: "application/x-ndjson", json: "application/json", csv: "text/csv", tsv: "text/tab-separated-values",
  parquet: "application/vnd.apache.parquet", arrow: "application/vnd.apache.arrow.file", feather: "application/vnd.apache.arrow.file",
  xlsx: `${OFFICE}spreadsheetml.sheet`, docx: `${OFFICE}wordprocessingml.document`, zip: "application/zip", pdf: "application/pdf",
  html: "text/html", htm: "text/html", md: "text/markdown", markdown: "text/markdown", txt: "text/plain",
};
const FORMATS = { trec: "trec", npy: "npy", fvecs: "fvecs", h5: "hdf5", hdf5: "hdf5" };
const SINGLE = ["md", "markdown", "txt", "html", "htm", "pdf", "docx"]; // one document each, under an id that the request says
const UNKNOWN = "application/octet-stream";

function formOf(name) {
  const parts = name.toLowerCase().split(".").slice(1);
  const compression = ["gz", "zst"].includes(parts.at(-1)) ? parts.pop() : null;
  const suffix = parts.at(-1) ?? "";
  return { type: TYPES[suffix] ?? UNKNOWN, format: FORMATS[suffix] ?? null, compression, single: SINGLE.includes(suffix) };
}

// The first lines, or null where they are none to read.
async function beginning(file) {
  const text = await file.slice(0, READ).text();
  if (text.includes("\0") || text.split("\ufffd").length > 3) return null;
  const lines = text.split(/\r\n|\r|\n/);
  return { lines: lines.slice(0, LINES).map((line) => cut(line, SHOWN)), more: lines.length > LINES || file.size > READ };
}

// sent(task): the import that has begun.
export function uploadForm(shell, name, sent) {
  const file = make("input", { type: "file", id: "file" });
  const id = make("input", { id: "document-id", spellcheck: false, autocapitalize: "off" });
  const idField = make("label", { hidden: true }, "Id of the document ", id);
  const faulty = make("select", { id: "faulty" }, make("option", { value: "stop" }, "nothing is applied"), make("option", { value: "skip" }, "the line is left out"));
  const send = make("button", { type: "submit", className: "act" }, "Send");
  const preview = make("div", { className: "preview" });
  const last = make("div", { className: "row", hidden: true }, idField, make("label", {}, "At a faulty line ", faulty), send);
  const form = make("form", { autocomplete: "off", noValidate: true }, make("div", { className: "row" }, make("label", { htmlFor: "file" }, "File"), file), preview, last);

  async function look() {
    const chosen = file.files[0];
    shell.say("");
    preview.replaceChildren();
    last.hidden = !chosen;
    if (!chosen) return;
    const { type, format, compression, single } = formOf(chosen.name);
    idField.hidden = !single;
    id.value = single ? chosen.name : "";
    const form = [format ?? type, compression && `compressed (${compression})`, size(chosen.size)].filter(Boolean).join(", ");
    let read;
    try {
      read = await beginning(chosen);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      read = null; // the browser may not read it; sending it will say so
    }
    if (chosen !== file.files[0]) return;
    preview.replaceChildren(make("p", {}, make("b", { dir: "auto" }, chosen.name), ` ${form}`), ...(read
      ? [make("ol", { className: "lines" }, ...read.lines.map((line) => make("li", { dir: "auto" }, line))), read.more && make("p", { className: "said" }, "and more")].filter(Boolean)
      : [make("p", { className: "said" }, "No text, so nothing is shown of it.")]));
  }
  file.addEventListener("change", look);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = file.files[0];
    if (!chosen || send.disabled) return;
    const { type, format, compression, single } = formOf(chosen.name);
    const asked = new URLSearchParams({ on_error: faulty.value, file: chosen.name.slice(0, 512), ...(format && { format }), ...(compression && { compression }), ...(single && { id: id.value }) });
    send.disabled = true;
    shell.clear();
    shell.say(`Sending ${chosen.name} …`);
    const begun = await shell.doing(async () => {
      // Not ended with the view: who looks elsewhere meanwhile still wants it sent.
      const task = await call(`${at(name)}/import?${asked}`, { method: "POST", headers: { "Content-Type": type }, body: chosen });
      sent(task);
      return task;
    });
    send.disabled = false;
    shell.say(begun ? `${chosen.name} has come; its import is a task.` : "");
    if (!begun) return;
    form.reset();
    preview.replaceChildren();
    last.hidden = true;
    file.focus();
  });
  return { element: make("section", {}, make("h3", {}, "Send a file"), form) };
}
