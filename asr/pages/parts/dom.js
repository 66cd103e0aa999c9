// Nodes and numbers. Texts only ever become text nodes, so no transcript can become markup.

const $ = (selector, root = document) => root.querySelector(selector);

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  return node;
}

const html = (name, attributes = {}, ...children) => {
  const node = set(document.createElement(name), attributes);
  node.append(...children.filter((child) => child != null));
  return node;
};

const svg = (name, attributes = {}, ...children) => {
  const node = set(document.createElementNS("http://www.w3.org/2000/svg", name), attributes);
  node.append(...children);
  return node;
};

const percent = (value, digits = 2) => `${(100 * value).toFixed(digits)}\u00a0%`;
const signed = (value, digits = 2) => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${percent(Math.abs(value), digits)}`;
const between = ([low, high], show = percent) => `${show(low)} to ${show(high)}`;
const count = (value) => value.toLocaleString("en");
const many = (value, one, more = `${one}s`) => `${count(value)}\u00a0${value === 1 ? one : more}`;
const spoken = (seconds) => {
  if (seconds >= 3600) return `${(seconds / 3600).toFixed(2)}\u00a0hours`;
  return seconds >= 100 ? `${(seconds / 60).toFixed(1)}\u00a0minutes` : `${seconds.toFixed(1)}\u00a0s`;
};
const clock = (seconds) => {
  const tenths = Math.round(10 * seconds);
  return `${Math.floor(tenths / 600)}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
};
const { compare: byName } = new Intl.Collator("en", { numeric: true });
const visible = (character) => ({ " ": "␣", "": "∅" })[character] ?? character;
const sum = (values) => values.reduce((total, value) => total + value, 0);

function figureCard(label, figure, ...notes) {
  return html("div", { class: "card figure" }, html("h2", {}, label), html("p", { class: "big" }, figure), ...notes);
}

function table(header, rows) {
  const line = (cells, name) => html("tr", {}, ...cells.map((cell) => html(name, {}, cell)));
  return html("table", {}, html("thead", {}, line(header, "th")), html("tbody", {}, ...rows.map((row) => line(row, "td"))));
}

// A cell of a table that can be chosen, by keyboard too.
const pickButton = (onclick, ...content) => html("button", { type: "button", class: "confusion", onclick }, ...content);

// A table behind a summary, for those who cannot see or point at a picture.
function behind(summary, content) {
  return html("details", {}, html("summary", {}, summary), html("div", { class: "scroll" }, content));
}

function showSetting(setting) {
  $("#setting dl").append(
    ...Object.entries(setting).flatMap(([name, value]) => [html("dt", {}, name), html("dd", {}, value)]),
  );
}
