// A long list that is searched, filtered and sorted at once and drawn as far as it is scrolled.

const AT_ONCE = 30;
const AHEAD = "800px";

class List {
  // orders: {label: compare}; filters: {label: keep}; row(item) makes a node; text(item) is searched.
  constructor(container, { items, orders, filters, row, text }) {
    Object.assign(this, { items, orders, filters, row });
    this.texts = new Map(items.map((item) => [item, text(item).toLowerCase()]));
    this.pick = null;
    this.shown = [];
    this.search = html("input", { type: "search", placeholder: "Search words, ids, speakers", "aria-label": "Search", oninput: () => this.update() });
    this.order = this.#select("Sort", orders);
    this.filter = this.#select("Show", filters);
    this.chip = html("button", { type: "button", class: "chip", hidden: true, onclick: () => this.only(null) });
    this.status = html("p", { role: "status", class: "status" });
    this.rows = html("ol", { class: "rows" });
    this.end = html("div", { class: "end" });
    container.append(html("div", { class: "tools" }, this.search, this.filter.parentNode, this.order.parentNode), html("div", { class: "found" }, this.status, this.chip), this.rows, this.end);
    this.observer = new IntersectionObserver(([entry]) => entry.isIntersecting && this.#more(), { rootMargin: AHEAD });
    this.update();
  }

  // Shows only the items that `keep` keeps, besides search and filter; null for all.
  only(label, keep = null) {
    this.pick = keep;
    this.chip.hidden = !keep;
    if (keep) {
      this.chip.replaceChildren(label, html("span", { "aria-hidden": "true" }, "×"), html("span", { class: "aside" }, ", remove this filter"));
    }
    this.update();
    if (keep) this.status.scrollIntoView({ block: "center" });
  }

  update() {
    const wanted = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const keep = this.filters[this.filter.value];
    this.shown = this.items.filter(
      (item) => keep(item) && (!this.pick || this.pick(item)) && wanted.every((word) => this.texts.get(item).includes(word)),
    );
    this.shown.sort(this.orders[this.order.value]);
    const all = this.items.length;
    this.status.textContent = this.shown.length === all ? many(all, "utterance") : `${count(this.shown.length)} of ${many(all, "utterance")}`;
    this.rows.replaceChildren();
    this.#more();
  }

  #select(label, options) {
    const select = html("select", { onchange: () => this.update() }, ...Object.keys(options).map((name) => html("option", { value: name }, name)));
    html("label", { class: "choice" }, label, select);
    return select;
  }

  #more() {
    this.observer.disconnect();
    const start = this.rows.childElementCount;
    this.rows.append(...this.shown.slice(start, start + AT_ONCE).map(this.row));
    if (this.rows.childElementCount < this.shown.length) this.observer.observe(this.end);
  }
}
