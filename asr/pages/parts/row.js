// A row of the list: what it is, its text, and, opened, its sound.

let rows = 0;

// badges: nodes behind the name; body: what is always shown; returns a list item.
function utteranceRow(item, { player, symbols, badges, body }) {
  const meta = [item.speaker && `speaker ${item.speaker}`, item.duration && spoken(item.duration)].filter(Boolean);
  const name = html("span", { class: "id" }, item.id);
  const head = html("div", { class: "rowhead" }, name, html("span", { class: "meta" }, meta.join(" · ")), html("span", { class: "badges" }, ...badges));
  const row = html("li", { class: "row" }, head, body);
  if (item.has_media || item.audio) addSound(row, head, name, item, player, symbols);
  return row;
}

function addSound(row, head, name, item, player, symbols) {
  rows += 1;
  const pane = html("div", { class: "pane", id: `pane-${rows}`, hidden: true });
  // A list that is drawn anew keeps the sound that is playing.
  const track = player.track?.item === item ? player.track : { item, duration: item.duration };
  const media = () => (track.media ??= mediaOf(item.index));
  Object.assign(track, {
    timeline: null,
    button: playButton(() => player.toggle(track)),
    url: () => (media() ? URL.createObjectURL(new Blob([bytes(track.media.audio)], { type: "audio/ogg" })) : item.audio),
    fail: () => $(".failure", row) || row.append(html("p", { class: "failure", role: "alert" }, failure(item))),
  });
  const open = html("button", { type: "button", class: "open", "aria-expanded": "false", "aria-controls": pane.id }, svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("path", { d: "M4 2l4 4-4 4" })), name);
  open.addEventListener("click", () => {
    pane.hidden = !pane.hidden;
    set(open, { "aria-expanded": String(!pane.hidden) });
    media();
    track.timeline ??= new Timeline(pane, item, track, player, symbols);
  });
  head.prepend(track.button, open);
  row.append(pane);
  player.show(track);
}

function failure({ id, has_media: embedded }) {
  const reason = embedded ? "it does not know Opus." : "the file is not where it was, or of a kind that it does not know.";
  return `The browser cannot play ${id}: ${reason}`;
}

const badge = (words, name = "") => html("span", { class: `badge ${name}` }, words);
