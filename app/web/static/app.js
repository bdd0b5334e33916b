// The shell of the page: the view that the address names, the collections that all views ask, and the key.
//
// A view is a module that exports one function, show(root, page): it fills root, an empty element that is the view's own,
// and gives an object of
//   restore(listed)  shows what the address says: called when the collections have come (listed), and after back and forward
//   refreshed()      collections have changed meanwhile (optional)
//   failed(details)  shows problem details: of the listing, or of what the view gave to page.failed
//   leave()          another view comes: ends requests, timers and listeners outside of root (optional)
// page is what it shares with the others:
//   page.collections      as `listCollections` gives them, [] until they have come; page.listed: whether they have
//   page.may(scope)       whether the caller may "read", "write" or "admin"; what it may not do is not shown
//   page.load()           lists the collections anew, then restore()
//   page.failed(details)  problem details of a call: asks for a key where that is missing, else the view's failed()
//   page.named()          the address names another collection (`c`), which links to other views keep
// Addresses are made and gone to by address.js, calls by api.js, elements by elements.js.

import { addressOf, given } from "./address.js";
import { Problem, hasKey, listCollections, scopes, useKey } from "./api.js";
import { make, panel, stylesheet } from "./elements.js";

// In the order of the navigation. scope: what a key needs for it; style: a stylesheet of its own.
const VIEWS = {
  search: { label: "Search", scope: "read", load: () => import("./hits/view.js") },
  map: { label: "Map", scope: "read", style: "evaluation/style.css", load: () => import("./map/view.js") },
  compare: { label: "Compare", scope: "read", style: "evaluation/style.css", load: () => import("./evaluation/compare.js") },
  evaluate: { label: "Evaluate", scope: "read", style: "evaluation/style.css", load: () => import("./evaluation/evaluate.js") },
  judge: { label: "Judge", scope: "write", style: "evaluation/style.css", load: () => import("./evaluation/judge.js") },
  operate: { label: "Operate", scope: "read", style: "operate/style.css", load: () => import("./operate/view.js") },
};

const at = (id) => document.getElementById(id);
let shown = null; // { name, view } that is shown
let opening = ""; // the name of the view that is to be
let allowed = []; // scopes of the caller
let loading = false;

const page = {
  collections: [],
  listed: false,
  may: (scope) => allowed.includes(scope),
  named: navigation,
  load,
  failed(details) {
    if (details.status !== 401) return shown?.view.failed(details);
    const refused = hasKey();
    forget();
    askForKey(true, refused ? "The server does not know this key." : "");
  },
};

const nameOf = () => (Object.hasOwn(VIEWS, given().get("view") ?? "") ? given().get("view") : "search");

function navigation() {
  const names = Object.keys(VIEWS).filter((name) => page.may(VIEWS[name].scope));
  const links = names.map((name) => {
    const link = make("a", { href: addressOf(name, { c: given().get("c") }) }, VIEWS[name].label);
    if (name === opening) link.setAttribute("aria-current", "page");
    return link;
  });
  // One view alone needs no way to others. The links stay the same ones, so that the focus does.
  const nav = at("views");
  if (nav.children.length !== links.length) return nav.replaceChildren(...(links.length > 1 ? links : []));
  [...nav.children].forEach((link, i) => {
    link.href = links[i].href;
    if (links[i].ariaCurrent) link.ariaCurrent = "page";
    else link.removeAttribute("aria-current");
  });
}

function leave() {
  shown?.view.leave?.();
  shown = null;
  at("view").replaceChildren();
}

// Shows the view of the address. One that was asked for later wins.
async function open(listed = false) {
  const name = nameOf();
  if (shown?.name === name) return page.listed && shown.view.restore(listed);
  opening = name;
  const { load: loadView, style } = VIEWS[name];
  let module;
  try {
    [module] = await Promise.all([loadView(), style && stylesheet(style)]);
  } catch {
    leave();
    navigation();
    return at("view").replaceChildren(panel("This part of the page did not load", make("p", {}, "The server may have stopped, or the network is down. Reload the page to try again.")));
  }
  if (opening !== name || shown?.name === name || !at("key-form").hidden) return;
  leave();
  document.title = name === "search" ? "Sheaf" : `${VIEWS[name].label} · Sheaf`;
  shown = { name, view: module.show(at("view"), page) };
  navigation();
  if (page.listed) shown.view.restore(true);
}

async function load() {
  if (loading) return;
  loading = true;
  try {
    [page.collections, allowed] = await Promise.all([listCollections(), scopes()]);
    page.listed = true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    await open();
    return page.failed(error.details);
  } finally {
    loading = false;
  }
  askForKey(false);
  await open(true);
  navigation();
}

function forget() {
  useKey(null);
  page.collections = [];
  allowed = [];
  page.listed = false;
}

// The form that asks for a key, in the place of the view; and the button that forgets the one in use.
function askForKey(ask, fault = "") {
  at("key-form").hidden = !ask;
  at("forget").hidden = ask || !hasKey();
  at("key-error").textContent = fault;
  if (!ask) return;
  leave();
  at("views").replaceChildren();
  at("key").focus();
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const box = at("key");
  const key = box.value.trim();
  box.value = "";
  // What no header can carry is no key.
  if (!/^[\x21-\x7e]+$/.test(key)) return askForKey(true, "This is no key.");
  useKey(key);
  load();
});
at("forget").addEventListener("click", () => {
  forget();
  load();
});
at("views").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if (link.ariaCurrent) return;
  history.pushState({}, "", link.href);
  open();
});
addEventListener("popstate", () => open());

// Counts and collections of meanwhile, when one comes back.
document.addEventListener("visibilitychange", async () => {
  if (document.hidden || !page.listed) return;
  try {
    const before = page.collections.length;
    page.collections = await listCollections();
    if (before) shown?.view.refreshed?.();
    else shown?.view.restore(true);
  } catch (error) {
    if (!(error instanceof Problem)) throw error; // the next search tells that the server is gone
  }
});

open();
load();
