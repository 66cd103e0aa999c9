// The page of two systems, A and B, on the same utterances.

const data = JSON.parse($("#data").textContent);
const { comparison, utterances } = data;
for (const [index, item] of utterances.entries()) {
  const [a, b] = ["a", "b"].map((system) => ({ reference: item.reference, ...item[system] }));
  Object.assign(item, { index, a, b });
  [a, b].forEach((side) => { side.counts = tally(side.operations); });
  item.change = b.counts.errors - a.counts.errors;
}

const KINDS = {
  improved: { label: "improved", keep: (item) => item.change < 0, note: "B has fewer errors" },
  worsened: { label: "worsened", keep: (item) => item.change > 0, note: "B has more errors" },
  different: { label: "same count, other words", keep: (item) => !item.change && item.a.hypothesis !== item.b.hypothesis, note: "as many errors, elsewhere" },
  same: { label: "same text", keep: (item) => item.a.hypothesis === item.b.hypothesis, note: "both recognised the same" },
};
const unit = comparison.resampled_by === "speaker" ? "speakers" : "utterances";

function showHeader() {
  $("h1").textContent = data.title;
  $("#subtitle").textContent = data.subtitle;
}

function showHeadline() {
  const system = (letter, name, rate, interval) =>
    figureCard(html("span", {}, html("span", { class: `mark ${letter}` }, letter), ` ${name}`), percent(rate), html("p", {}, between(interval), html("br"), html("small", {}, `WER, 95 % interval, bootstrap over ${unit}`)));
  const p = `p = ${comparison.p_value.toFixed(3)}`;
  const change = comparison.wer_a ? `${signed(comparison.difference / comparison.wer_a, 1)} of A’s errors` : "";
  $("#headline").append(
    system("A", data.names[0], comparison.wer_a, data.wer_ci_a),
    system("B", data.names[1], comparison.wer_b, data.wer_ci_b),
    figureCard("Difference", signed(comparison.difference), html("p", {}, between(comparison.difference_ci, signed), html("br"), html("small", {}, `B − A, 95 % interval, paired bootstrap over ${unit}`)), html("p", {}, change)),
    figureCard("Could it be chance?", p, html("p", {}, verdict()), html("p", {}, `${many(utterances.length, "utterance")}, ${many(data.words, "word")}`)),
  );
}

function verdict() {
  if (comparison.p_value >= 0.05) return "Yes: so large a difference would often come from equally good systems.";
  return `Hardly: ${comparison.difference < 0 ? "B" : "A"} is better, beyond what other ${unit} would change.`;
}

// Three intervals below each other: the rates share an axis, the difference has its own.
function showIntervals() {
  const label = `A ${percent(comparison.wer_a)}, B ${percent(comparison.wer_b)}, difference ${signed(comparison.difference)}`;
  const rates = [
    ["A", comparison.wer_a, data.wer_ci_a],
    ["B", comparison.wer_b, data.wer_ci_b],
  ];
  picture($("#intervals"), 210, label, (width) => {
    const left = 78;
    const right = width - 30;
    const axis = (values) => {
      const low = Math.min(...values);
      const span = Math.max(...values) - low || 0.01;
      return (value) => left + (0.06 + (0.88 * (value - low)) / span) * (right - left);
    };
    const whisker = (x, y, value, interval, name, shown) => {
      const [low, high] = interval.map(x);
      const apart = Math.max(0, 64 - (high - low)) / 2; // keeps the two labels from touching
      return [
        line(low, y, high, y, `whisker ${name}`),
        svg("circle", { cx: x(value), cy: y, r: 6, class: `dot ${name}` }),
        text(x(value), y - 12, shown(value), { class: "value", "text-anchor": "middle" }),
        text(low - apart, y + 18, shown(interval[0]), { class: "tick", "text-anchor": "middle" }),
        text(high + apart, y + 18, shown(interval[1]), { class: "tick", "text-anchor": "middle" }),
      ];
    };
    const shared = axis([...data.wer_ci_a, ...data.wer_ci_b]);
    const own = axis([0, ...comparison.difference_ci]);
    return [
      ...rates.flatMap(([name, value, interval], index) => [
        text(8, 34 + 62 * index, name, { class: "name" }),
        ...whisker(shared, 30 + 62 * index, value, interval, name, percent),
      ]),
      line(0, 124, width, 124, "grid"),
      line(own(0), 134, own(0), 204, "ideal"),
      text(own(0), 204, "0", { class: "tick", dx: 8 }),
      text(8, 170, "B − A", { class: "name" }),
      ...whisker(own, 166, comparison.difference, comparison.difference_ci, "both", signed),
    ];
  });
}

function showChanges(list) {
  const bar = html("div", { class: "stack tall" });
  const rows = [];
  for (const [key, { label, keep, note }] of Object.entries(KINDS)) {
    const number = utterances.filter(keep).length;
    const show = () => list.only(label, keep);
    const part = html("span", { class: key, title: `${label}: ${count(number)}`, onclick: show });
    part.style.flexGrow = number;
    if (number) bar.append(part);
    rows.push([pickButton(show, html("i", { class: key, "aria-hidden": "true" }), label), note, count(number), percent(number / utterances.length, 1)]);
  }
  $("#changes").append(bar, html("div", { class: "scroll" }, table(["utterances", "", "number", "share"], rows)));
}

function showSpeakers(list) {
  const speakers = data.by_speaker;
  if (speakers.length < 2) return;
  $("#by-speaker").hidden = false;
  const better = speakers.filter((speaker) => speaker.wer_b < speaker.wer_a).length;
  const pick = (speaker) => list.only(`speaker ${speaker.name}`, (item) => item.speaker === speaker.name);
  const names = speakers.map((speaker) => speaker.name);
  picture($("#by-speaker"), 280, `Word error rates by speaker: B is better for ${better} of ${speakers.length}`, (width, height) => {
    const bottom = belowColumns(names, width);
    const slot = (width - LEFT - RIGHT) / speakers.length;
    const values = ticks(Math.max(0.01, ...speakers.flatMap((speaker) => [speaker.wer_a, speaker.wer_b])));
    const y = (value) => height - bottom - (value / values.at(-1)) * (height - bottom - TOP);
    const r = Math.min(5, Math.max(2.2, slot / 4));
    return [
      ...rateAxis(values, y, LEFT, width - RIGHT),
      ...columnNames(names, LEFT, slot, height - bottom + 18),
      ...speakers.map((speaker, index) => {
        const x = LEFT + (index + 0.5) * slot;
        const way = speaker.wer_b < speaker.wer_a ? "improved" : speaker.wer_b > speaker.wer_a ? "worsened" : "";
        return svg(
          "g",
          { class: `point ${way}`, onclick: () => pick(speaker) },
          svg("rect", { x: x - slot / 2, y: TOP, width: slot, height: height - bottom - TOP, class: "target" }),
          line(x, y(speaker.wer_a), x, y(speaker.wer_b), "whisker"),
          svg("circle", { cx: x, cy: y(speaker.wer_a), r, class: "hollow" }),
          svg("circle", { cx: x, cy: y(speaker.wer_b), r }),
          hint(`${speaker.name}: A ${percent(speaker.wer_a)}, B ${percent(speaker.wer_b)}, ${many(speaker.utterances, "utterance")}`),
        );
      }),
    ];
  });
  const rows = speakers.map((speaker) => [pickButton(() => pick(speaker), speaker.name), count(speaker.utterances), percent(speaker.wer_a), percent(speaker.wer_b), signed(speaker.wer_b - speaker.wer_a)]);
  $("#by-speaker").append(behind("As a table", table(["speaker", "utterances", "WER of A", "WER of B", "difference"], rows)));
}

// Columns of reference, A and B; what both inserted at the same place shares columns.
function columnsOf({ a, b, reference }) {
  const slots = [a, b].map((system) => {
    const found = split(reference).map(() => ({ before: [], pair: null })).concat({ before: [], pair: null });
    let at = 0;
    for (const pair of align(system)) {
      if (pair.kind === "I") found[at].before.push(pair);
      else found[at++].pair = pair;
    }
    return found;
  });
  return slots[0].flatMap((left, index) => {
    const right = slots[1][index];
    const inserted = Array.from({ length: Math.max(left.before.length, right.before.length) }, (_, i) => ["", left.before[i], right.before[i]]);
    return left.pair ? [...inserted, [left.pair.reference, left.pair, right.pair]] : inserted;
  });
}

function tripleNode([reference, a, b]) {
  const cell = (pair, other) => {
    const wrong = pair && pair.kind !== "=";
    const otherWrong = other && other.kind !== "=";
    const verdict = wrong && !otherWrong ? "broken" : !wrong && otherWrong ? "fixed" : "";
    const word = pair?.hypothesis ?? "";
    return html("span", { class: `${wrong ? pair.kind : ""} ${verdict} ${word ? "" : "gap"}` }, word);
  };
  const wrong = [a, b].some((pair) => pair && pair.kind !== "=");
  return html("span", { class: `pair triple ${wrong ? "wrong" : ""}` }, html("span", { class: reference ? "" : "gap" }, reference), cell(a, b), cell(b, a));
}

function tripleAlignment(item) {
  const labels = html("span", { class: "pair triple labels", dir: "ltr", "aria-hidden": "true" }, html("span", {}, "ref"), html("span", {}, "A"), html("span", {}, "B"));
  const aside = html("span", { class: "aside" }, `Reference: ${item.reference}. A: ${item.a.hypothesis}. B: ${item.b.hypothesis}.`);
  return html("div", { class: "alignment" }, aside, html("p", { "aria-hidden": "true", dir: "auto" }, labels, ...columnsOf(item).flatMap((column) => [" ", tripleNode(column)])));
}

function badges({ a, b, change }) {
  const words = change < 0 ? `▼ ${many(-change, "error")} fewer` : change > 0 ? `▲ ${many(change, "error")} more` : a.hypothesis === b.hypothesis ? "same text" : "same count";
  const name = change < 0 ? "perfect" : change > 0 ? "D" : "";
  return [badge(`A ${many(a.counts.errors, "error")}`), badge(`B ${many(b.counts.errors, "error")}`), badge(words, name)];
}

function makeList() {
  const by = (value) => (one, other) => value(one) - value(other) || one.index - other.index;
  const player = new Player($("#audio"));
  return new List($("#utterances"), {
    items: utterances,
    orders: {
      "largest change": by((item) => -Math.abs(item.change)),
      "most improved": by((item) => item.change),
      "most worsened": by((item) => -item.change),
      "most errors of A": by((item) => -item.a.counts.errors),
      "most errors of B": by((item) => -item.b.counts.errors),
      "as in the corpus": by(() => 0),
      name: (one, other) => byName(one.id, other.id),
    },
    filters: {
      all: () => true,
      ...Object.fromEntries(Object.values(KINDS).map(({ label, keep }) => [label, keep])),
      "wrong in both": (item) => item.a.counts.errors && item.b.counts.errors,
      "right in both": (item) => !item.a.counts.errors && !item.b.counts.errors,
    },
    text: (item) => `${item.id} ${item.speaker} ${item.reference} ${item.a.hypothesis} ${item.b.hypothesis}`,
    row: (item) => utteranceRow(item, { player, symbols: [], badges: badges(item), body: tripleAlignment(item) }),
  });
}

showHeader();
showHeadline();
showIntervals();
showSetting(data.setting);
$(".legend").append(html("span", {}, html("span", { class: "pair triple sample" }, html("span", { class: "fixed" }, "right")), "right here alone"), html("span", {}, html("span", { class: "pair triple sample" }, html("span", { class: "broken S" }, "wrong")), "wrong here alone"));
const list = makeList();
showChanges(list);
showSpeakers(list);
