// The address holds what is shown, to be shared and gone back to: `view`, and the parameters of that view.

export const given = () => new URLSearchParams(location.search);

// parameters: of a view; what is "", null or false is left out.
export function addressOf(view, parameters) {
  const kept = new URLSearchParams();
  if (view !== "search") kept.set("view", view);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined && value !== false) kept.set(name, value === true ? "1" : value);
  }
  return `?${kept}`;
}

// Goes to an address without loading the page. What is being typed (draft) is one entry of the history, until `settle`.
export function remember(address, draft = false) {
  const same = address === location.search || (address === "?" && !location.search);
  if (same || history.state?.draft) history.replaceState({ draft: draft && (!same || Boolean(history.state?.draft)) }, "", address);
  else history.pushState({ draft }, "", address);
}

export function settle() {
  if (history.state?.draft) history.replaceState({ draft: false }, "");
}
