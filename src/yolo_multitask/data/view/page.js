"use strict";
const root = document.documentElement;
const fail = (what) => { root.dataset.errors = (root.dataset.errors || "") + what + "\n"; };
addEventListener("error", (event) => fail(event.message));
addEventListener("securitypolicyviolation", (event) => fail("blocked: " + event.blockedURI));

const GROUPS = { class: "no objects", task: "nothing labelled", finding: "no finding" }; // name of "none of them"
const find = (id) => document.getElementById(id);
const form = find("filters"), search = find("search"), large = find("large");
const tiles = [...document.querySelectorAll("#tiles > li")].map((item, i) => ({
  item,
  number: i + 1,
  button: item.querySelector("button"),
  text: item.dataset.text.toLowerCase(),
  has: Object.fromEntries(Object.keys(GROUPS).map((group) => {
    const values = JSON.parse(item.dataset[group]);
    return [group, values.length ? values : [""]];
  })),
}));
let shown = tiles, open = null;

function addFilters(group) {
  const counts = new Map();
  for (const tile of tiles) for (const value of new Set(tile.has[group])) counts.set(value, (counts.get(value) || 0) + 1);
  if (![...counts.keys()].some(Boolean)) return;
  const fields = find(group);
  for (const [value, count] of [...counts].sort((a, b) => !a[0] - !b[0] || b[1] - a[1])) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", name: group, value });
    const number = Object.assign(document.createElement("small"), { textContent: count });
    const chip = Object.assign(document.createElement("label"), { className: "chip" });
    chip.append(box, value || GROUPS[group], number);
    fields.append(chip);
  }
  fields.hidden = false;
}

const boxes = (group) => [...form.querySelectorAll(`input[name=${group}]`)];
const chosen = (group) => boxes(group).filter((box) => box.checked).map((box) => box.value);

function filter() {
  const words = search.value.toLowerCase().trim();
  const wanted = Object.keys(GROUPS).map((group) => [group, chosen(group)]).filter(([, values]) => values.length);
  shown = tiles.filter((tile) => tile.text.includes(words)
    && wanted.every(([group, values]) => values.some((value) => tile.has[group].includes(value))));
  const visible = new Set(shown);
  for (const tile of tiles) tile.item.hidden = !visible.has(tile);
  find("count").value = `${shown.length} of ${tiles.length} pictures`;
  find("none").hidden = shown.length > 0;
}

function show(tile) {
  open = tile;
  if (!tile) { if (large.open) large.close(); return; }
  const small = tile.button.querySelector("img");
  const picture = large.querySelector("img");
  picture.src = small.src;
  picture.alt = small.alt;
  find("caption").replaceChildren(...[...tile.item.querySelector("figcaption").childNodes].map((n) => n.cloneNode(true)));
  find("place").value = `${shown.indexOf(tile) + 1} of ${shown.length}`;
  if (!large.open) large.showModal();
}

function step(by) {
  if (!open || !shown.length) return;
  show(shown[(shown.indexOf(open) + by + shown.length) % shown.length]);
  write();
}

/* The address holds what is chosen (#class=person&task=pose&name=street&tile=3), so that a view can be passed on. */
function write() {
  const state = new URLSearchParams();
  for (const group of Object.keys(GROUPS)) for (const value of chosen(group)) state.append(group, value);
  if (search.value.trim()) state.set("name", search.value.trim());
  if (open) state.set("tile", open.number);
  history.replaceState(null, "", "#" + state);
}

function read() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const group of Object.keys(GROUPS)) for (const box of boxes(group)) box.checked = state.getAll(group).includes(box.value);
  search.value = state.get("name") || "";
  filter();
  show(shown.find((tile) => tile.number === Number(state.get("tile"))) || null);
}

const ARROWS = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -perRow(), ArrowDown: perRow };

function perRow() {
  const top = shown[0].item.offsetTop;
  const next = shown.findIndex((tile) => tile.item.offsetTop > top);
  return next < 0 ? shown.length : next;
}

form.addEventListener("input", () => { filter(); write(); });
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => { filter(); write(); }));
for (const tile of tiles) tile.button.addEventListener("click", () => { show(tile); write(); });
find("back").addEventListener("click", () => step(-1));
find("next").addEventListener("click", () => step(1));
find("close").addEventListener("click", () => large.close());
large.addEventListener("close", () => {
  const last = open;
  open = null;
  write();
  if (last) last.button.focus();
});
addEventListener("keydown", (event) => {
  if (!(event.key in ARROWS) || event.altKey || event.ctrlKey || event.metaKey || event.target === search) return;
  if (large.open) {
    step(event.key === "ArrowLeft" || event.key === "ArrowUp" ? -1 : 1);
  } else {
    const at = shown.findIndex((tile) => tile.button === document.activeElement);
    const next = shown[at + ARROWS[event.key]()];
    if (at < 0 || !next) return;
    next.button.focus();
  }
  event.preventDefault();
});
addEventListener("hashchange", read);
Object.keys(GROUPS).forEach(addFilters);
read();
root.dataset.ready = "true";
