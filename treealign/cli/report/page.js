"use strict";
// Names come from files of strangers: they are only ever set as text. Rows have one height, so that where a row stands
// follows from its number, and only those in view are drawn: a hundred thousand open rows cost no more than fifty.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const copy = byId("copy");
  if (copy) copy.addEventListener("click", () => copyText(byId("mapping"), byId("copied")));
  for (const button of document.querySelectorAll("button.copy")) {
    button.addEventListener("click", () => copyText(button.parentElement.querySelector("code"), button));
  }
  // what scrolls by itself is reached by Tab; browsers differ in whether they see to it
  for (const list of document.querySelectorAll(".notes ul")) if (list.scrollHeight > list.clientHeight) list.tabIndex = 0;
  if (!data) return;

  const HEIGHT = 26, GAP = 90, AROUND = 30, AT_ONCE = 400;
  const MARKS = { renamed: "↷", converted: "⇄", added: "+", removed: "−", resized: "≠", guess: "?", tied: "∞" };
  const WORDS = { renamed: "renamed or moved", converted: "converted", added: "only on the right", removed: "only on the left",
    resized: "other size", guess: "guess", tied: "tied" };
  const scroll = byId("scroll"), canvas = byId("canvas"), lines = byId("lines"), detail = byId("detail");
  const sides = data.sides.map((rows, at) => readSide(rows, byId(at ? "right" : "left"), at));
  let picked = null;

  function readSide(raw, element, at) {
    const rows = raw.map(([parent, name, status, partner, link, keys, note, changes], number) => (
      { number, parent, name, status, partner, link, keys, note, changes, side: at, children: [], open: false, depth: 0, path: name, at: -1 }));
    const roots = [];
    for (const row of rows) {
      const above = rows[row.parent];
      if (!above) { roots.push(row); continue; }
      above.children.push(row);
      row.depth = above.depth + 1;
      row.path = `${above.path}.${row.name}`;
    }
    return { rows, roots, element, shown: [], active: -1, byPath: new Map(rows.map((row) => [row.path, row])) };
  }

  // the nearest row in sight: a row in a closed module is represented by that module
  function standing(side, number) {
    let row = side.rows[number];
    while (row && row.at < 0) row = side.rows[row.parent];
    return row;
  }

  function layOut() {
    for (const side of sides) {
      for (const row of side.shown) row.at = -1;
      side.shown = [];
      const waiting = side.roots.slice().reverse();
      while (waiting.length) {
        const row = waiting.pop();
        row.at = side.shown.push(row) - 1;
        if (row.open) for (let i = row.children.length; i--;) waiting.push(row.children[i]);
      }
    }
    canvas.style.height = `${HEIGHT * Math.max(...sides.map((side) => side.shown.length)) + 8}px`;
    draw();
  }

  function draw() {
    const first = Math.floor(scroll.scrollTop / HEIGHT) - AROUND;
    const last = first + Math.ceil(scroll.clientHeight / HEIGHT) + 2 * AROUND;
    for (const side of sides) {
      const made = side.shown.slice(Math.max(0, first), Math.max(0, last)).map((row) => rowElement(side, row));
      side.element.replaceChildren(...made);
      const active = side.shown[side.active];
      if (active) side.element.setAttribute("aria-activedescendant", idOf(active)); else side.element.removeAttribute("aria-activedescendant");
    }
    drawLines(first, last);
  }

  const idOf = (row) => `${row.side ? "r" : "l"}${row.number}`;

  function rowElement(side, row) {
    const element = document.createElement("div");
    const inside = row.children.length > 0;
    element.id = idOf(row);
    element.className = `row ${row.status} ${inside ? "module" : "leaf"}`;
    element.setAttribute("role", "treeitem");
    element.setAttribute("aria-level", row.depth + 1);
    if (inside) element.setAttribute("aria-expanded", row.open);
    const wanted = picked && (picked === row || (picked.side !== row.side
      && (picked.partner === row.number || (picked.link >= 0 && picked.link === row.link))));
    element.setAttribute("aria-selected", picked === row);
    if (wanted) element.classList.add(picked === row ? "picked" : "partner");
    if (side.shown[side.active] === row && document.activeElement === side.element) element.classList.add("active");
    element.style.top = `${row.at * HEIGHT}px`;
    element.style.paddingLeft = `${4 + row.depth * 16}px`;
    const below = inside && !row.open && row.changes > 0;
    element.append(
      piece("twist", inside ? (row.open ? "▾" : "▸") : ""),
      piece("mark", MARKS[row.status] || (below ? "·" : ""), WORDS[row.status] || (below ? counted(row.changes, "change") + " below" : "")),
      marked(piece("name", row.name)),
      piece("size", inside ? counted(row.keys, "key") : row.note));
    element.title = row.path;
    return element;
  }

  const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

  function piece(kind, text, label) {
    const element = document.createElement("span");
    element.className = kind;
    element.textContent = text;
    if (label) { element.setAttribute("aria-label", label); element.title = label; }
    return element;
  }

  function marked(element) {
    const text = element.textContent, at = wantedText ? text.toLowerCase().indexOf(wantedText) : -1;
    if (at < 0) return element;
    const mark = document.createElement("mark");
    mark.textContent = text.slice(at, at + wantedText.length);
    element.replaceChildren(text.slice(0, at), mark, text.slice(at + wantedText.length));
    return element;
  }

  // a line for each row in sight that is an end (closed, or a leaf) or that changed at this very place
  function drawLines(first, last) {
    lines.replaceChildren();
    if (getComputedStyle(lines).display === "none") return;
    const drawn = new Set();
    for (const [at, side] of sides.entries()) {
      for (const row of side.shown.slice(Math.max(0, first), Math.max(0, last))) {
        if (row.partner < 0 || (row.open && row.status === "")) continue;
        const other = standing(sides[1 - at], row.partner);
        if (!other) continue;
        const [left, right] = at ? [other, row] : [row, other];
        const name = `${left.number} ${right.number}`;
        if (drawn.has(name)) continue;
        drawn.add(name);
        lines.append(line(left, right, row.status));
      }
    }
  }

  function line(left, right, status) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const [a, b] = [left, right].map((row) => row.at * HEIGHT + HEIGHT / 2);
    path.setAttribute("d", `M0 ${a}C${GAP / 2} ${a} ${GAP / 2} ${b} ${GAP} ${b}`);
    const chosen = picked && (picked === left || picked === right || (picked.link >= 0 && picked.link === left.link));
    path.setAttribute("class", `${status} ${chosen ? "picked" : ""}`);
    return path;
  }

  function pick(row, follow) {
    picked = row;
    const side = sides[row.side];
    side.active = row.at;
    if (follow) reveal(row);
    tell(row);
    draw();
  }

  function reveal(row) {
    const top = row.at * HEIGHT;
    if (top < scroll.scrollTop || top + HEIGHT > scroll.scrollTop + scroll.clientHeight)
      scroll.scrollTop = top - scroll.clientHeight / 2;
  }

  function openTo(row) {
    for (let above = sides[row.side].rows[row.parent]; above; above = sides[row.side].rows[above.parent]) above.open = true;
  }

  function goTo(row) {
    document.body.classList.toggle("turned", row.side === 1);
    openTo(row);
    const other = sides[1 - row.side].rows[row.partner];
    if (other) openTo(other);
    layOut();
    pick(row, true);
  }

  function tell(row) {
    const roles = [...document.querySelectorAll(".heads b")].map((head) => head.textContent.split(/\s/)[0]);
    const link = data.links[row.link], partner = sides[1 - row.side].rows[row.partner];
    const parts = [];
    const add = (title, texts, kind) => { if (texts.length) parts.push(heading(title), ...listed(texts, kind)); };
    const names = link ? [link.left, link.right] : row.side ? [partner ? [partner.path] : [], [row.path]] : [[row.path], partner ? [partner.path] : []];
    add(roles[0], names[0], "code");
    add(roles[1], names[1], "code");
    add("What became of it", [verdict(row, link)], "p");
    if (link) {
      add("Operations", link.operations, "code");
      add("Evidence", link.evidence, "li");
      add("Why not certain", link.certain || !link.reason ? [] : [link.reason], "p");
      add(`Rivals, ${roles[0]}`, link.rivals[0], "code");
      add(`Rivals, ${roles[1]}`, link.rivals[1], "code");
    }
    detail.replaceChildren(...parts);
  }

  function verdict(row, link) {
    const sure = link ? (link.certain ? ", certain" : ", not certain") : "";
    const what = WORDS[row.status] || (row.partner < 0 ? "its parts have different counterparts" : "the same name below its parent");
    const below = row.children.length ? `; ${row.changes ? `${counted(row.changes, "change")} below` : "no change below"}` : "";
    return `${what}${sure}; ${counted(row.keys, "key")}${below}`;
  }

  function heading(text) {
    const element = document.createElement("h3");
    element.textContent = text;
    return element;
  }

  function listed(texts, kind) {
    const made = texts.map((text) => { const one = document.createElement(kind); one.textContent = text; return one; });
    if (kind !== "li") return made;
    const list = document.createElement("ul");
    list.append(...made);
    return [list];
  }

  // search
  let wantedText = "", hits = [], hit = -1;
  const search = byId("search"), found = byId("found");
  function look() {
    wantedText = search.value.trim().toLowerCase();
    // the row at which a path begins to hold the text, not each of those below it as well
    hits = wantedText ? sides.flatMap((side) => side.rows.filter((row) =>
      row.path.toLowerCase().includes(wantedText) && !(side.rows[row.parent] && side.rows[row.parent].path.toLowerCase().includes(wantedText)))) : [];
    hit = -1;
    if (hits.length) step(1); else { found.textContent = wantedText ? "not found" : ""; draw(); }
  }
  function step(by) {
    if (!hits.length) return;
    hit = (hit + by + hits.length) % hits.length;
    found.textContent = `${hit + 1} of ${hits.length.toLocaleString("en")}`;
    goTo(hits[hit]);
  }
  let later = 0;
  search.addEventListener("input", () => { clearTimeout(later); later = setTimeout(look, 120); });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { clearTimeout(later); if (search.value.trim().toLowerCase() !== wantedText) look(); else step(event.shiftKey ? -1 : 1); event.preventDefault(); }
    if (event.key === "Escape") { search.value = ""; look(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== search) { search.focus(); event.preventDefault(); }
  });

  // mouse and keys
  for (const side of sides) {
    side.element.addEventListener("click", (event) => {
      const element = event.target.closest(".row");
      const row = element && side.rows[Number(element.id.slice(1))];
      if (!row) return;
      side.element.focus({ preventScroll: true });
      if (event.target.classList.contains("twist") || (picked === row && row.children.length)) { row.open = !row.open; layOut(); }
      pick(row, false);
    });
    // focus draws the rows anew: it must not come between the press of a button and its release
    side.element.addEventListener("mousedown", (event) => event.preventDefault());
    side.element.addEventListener("focus", () => { if (side.active < 0 && side.shown.length) side.active = 0; draw(); });
    side.element.addEventListener("blur", draw);
    side.element.addEventListener("keydown", (event) => {
      const row = side.shown[side.active], act = row && KEYS[event.key];
      if (!act) return;
      event.preventDefault();
      act(side, row);
    });
  }
  const move = (side, at) => pick(side.shown[Math.max(0, Math.min(side.shown.length - 1, at))], true);
  const KEYS = {
    ArrowDown: (side, row) => move(side, row.at + 1),
    ArrowUp: (side, row) => move(side, row.at - 1),
    PageDown: (side, row) => move(side, row.at + 20),
    PageUp: (side, row) => move(side, row.at - 20),
    Home: (side) => move(side, 0),
    End: (side) => move(side, Infinity),
    ArrowRight: (side, row) => { if (row.children.length && !row.open) { row.open = true; layOut(); pick(row, true); } else if (row.children.length) move(side, row.at + 1); },
    ArrowLeft: (side, row) => { if (row.open) { row.open = false; layOut(); pick(row, true); } else if (side.rows[row.parent]) pick(side.rows[row.parent], true); },
    " ": (side, row) => { if (row.children.length) { row.open = !row.open; layOut(); } pick(row, true); },
    Enter: (side, row) => { const other = sides[1 - side.rows[0].side].rows[row.partner]; if (other) { goTo(other); sides[other.side].element.focus({ preventScroll: true }); } },
  };

  const setAll = (open) => { for (const side of sides) for (const row of side.rows) row.open = row.children.length > 0 && open(row); layOut(); };
  function openChanges() {
    // whole modules that came, went or moved stay closed: what is below them did not change
    setAll((row) => row.changes > 0);
    for (const side of sides) {
      while (side.shown.length > AT_ONCE && side.shown.some((row) => row.open)) {
        const deepest = side.shown.reduce((most, row) => row.open ? Math.max(most, row.depth) : most, 0);
        for (const row of side.shown) if (row.depth === deepest) row.open = false;
        layOut();
      }
    }
    // nothing changed at all: show at least what the top modules hold
    if (sides.every((side) => side.rows.every((row) => row.status === "")))
      for (const side of sides) if (side.roots.length <= 20) for (const row of side.roots) row.open = row.children.length > 0;
    layOut();
  }
  byId("open").addEventListener("click", () => setAll(() => true));
  byId("close").addEventListener("click", () => setAll(() => false));
  byId("changes").addEventListener("click", openChanges);
  byId("side").addEventListener("click", () => {
    byId("side").setAttribute("aria-pressed", document.body.classList.toggle("turned"));
    draw();
  });
  for (const button of document.querySelectorAll(".show")) {
    const row = sides.map((side) => side.byPath.get(button.dataset.show)).find(Boolean);
    if (row) button.addEventListener("click", () => { goTo(row); byId("scroll").scrollIntoView({ block: "nearest" }); });
    else button.disabled = true;
  }

  let asked = false;
  const redraw = () => { if (!asked) { asked = true; requestAnimationFrame(() => { asked = false; draw(); }); } };
  scroll.addEventListener("scroll", redraw);
  addEventListener("resize", redraw);
  openChanges();

  async function copyText(element, said) {
    try {
      await navigator.clipboard.writeText(element.textContent);
    } catch {
      getSelection().selectAllChildren(element);
      document.execCommand("copy");
    }
    said.removeAttribute("aria-label");
    said.textContent = "copied";
  }
})();
