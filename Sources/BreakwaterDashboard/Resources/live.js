// Enhances the pages: it refreshes them, counts down, and selects all rows. The pages work without this script.
"use strict";
(() => {
  const every = 3000;
  const body = document.body;

  // --- Countdowns, relative to when the page was loaded.
  let came = performance.now();
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const short = (seconds) => {
    const whole = Math.floor(seconds);
    const first = units.findIndex(([, size]) => whole >= size);
    if (first < 0) return "0 s";
    const [name, size] = units[first];
    const text = `${Math.floor(whole / size)} ${name}`;
    if (first + 1 >= units.length || whole / size >= 10) return text;
    const rest = Math.floor((whole % size) / units[first + 1][1]);
    return rest > 0 ? `${text} ${rest} ${units[first + 1][0]}` : text;
  };
  const count = () => {
    for (const element of document.querySelectorAll(".countdown")) {
      const left = Number(element.dataset.seconds) - (performance.now() - came) / 1000;
      element.textContent = left > 0 ? `in ${short(Math.ceil(left))}` : element.dataset.then;
    }
  };
  setInterval(count, 250);
  count();

  // --- Selecting all rows of a table.
  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-all]")) return;
    for (const box of document.querySelectorAll(`input[name="${event.target.dataset.all}"]`)) {
      box.checked = event.target.checked;
    }
  });

  // --- Refreshing. The same page is fetched again, and its changed parts are replaced. This does not happen while the
  // user fills in a form or has selected something.
  if (!("live" in body.dataset)) return;
  const live = document.getElementById("live");
  if (live) live.hidden = false;
  const isBusy = () => {
    const active = document.activeElement;
    if (active && active.closest("main form") && !active.matches("button")) return true;
    if (document.querySelector("main details.act[open]")) return true;
    if (document.querySelector("main input:checked[name=id]")) return true;
    const selection = getSelection();
    return selection !== null && !selection.isCollapsed;
  };
  // These find a focusable element again by its name and place after a refresh, so that keyboard users keep their
  // focus.
  const stops = (root) => [...root.querySelectorAll("a[href], button, summary, input, select, [tabindex]")];
  const title = (element) => [element.tagName, element.getAttribute("href"), element.getAttribute("name"),
    element.getAttribute("aria-label") ?? element.textContent].join("\n");
  const swap = (id, fresh) => {
    const old = document.getElementById(id);
    const next = fresh.getElementById(id);
    if (!old || !next || old.innerHTML === next.innerHTML) return;
    const open = new Set([...old.querySelectorAll("details[open][id]")].map((element) => element.id));
    const active = document.activeElement;
    const before = active && active !== old && old.contains(active) ? stops(old) : [];
    const place = before.indexOf(active);
    const named = before.filter((element) => title(element) === title(active)).indexOf(active);
    old.replaceChildren(...document.adoptNode(next).childNodes);
    for (const element of old.querySelectorAll("details[id]")) if (open.has(element.id)) element.open = true;
    if (place < 0) return;
    const after = stops(old);
    const same = after.filter((element) => title(element) === title(active))[named];
    (same ?? after[place])?.focus({ preventScroll: true });
  };
  const refresh = async () => {
    if (document.hidden || isBusy()) return;
    try {
      const answer = await fetch(location.href, { headers: { "X-Refresh": "1" }, credentials: "same-origin", redirect: "manual" });
      if (answer.type === "opaqueredirect") return location.reload();
      // The page's subject no longer exists. The reloaded page says so.
      if (answer.status === 404) return location.reload();
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (isBusy()) return;
      came = performance.now();
      for (const id of ["main", "bar-nav", "foot"]) swap(id, fresh);
      const said = document.getElementById("live");
      if (said) said.hidden = false;
      body.classList.remove("is-stale");
      count();
    } catch {
      body.classList.add("is-stale");
    }
  };
  const again = async () => {
    await refresh();
    setTimeout(again, every);
  };
  setTimeout(again, every);
})();
