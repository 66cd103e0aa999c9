// References above hypotheses, word by word. Errors differ by more than colour: a substitution
// is boxed, a deletion leaves a gap below, an insertion a gap above.

const SPOKEN = { S: " recognised as ", D: " missed", I: "inserted " };
const split = (words) => (words ? words.split(" ") : []);

// Returns [{kind, reference, hypothesis, index}]; kind is =, S, D or I, index counts the hypothesis.
function align({ reference, hypothesis, operations }) {
  const [left, right] = [split(reference), split(hypothesis)];
  let [i, j] = [0, 0];
  return [...operations].map((kind) => ({
    kind,
    index: j,
    reference: kind === "I" ? "" : left[i++],
    hypothesis: kind === "D" ? "" : right[j++],
  }));
}

function tally(operations) {
  const counts = { "=": 0, S: 0, D: 0, I: 0 };
  for (const kind of operations) counts[kind] += 1;
  const errors = counts.S + counts.D + counts.I;
  return { ...counts, errors, rate: errors / Math.max(1, counts["="] + counts.S + counts.D) };
}

const aside = (words) => html("span", { class: "aside" }, words);

function pairNode({ kind, reference, hypothesis }) {
  if (kind === "=") return html("span", { class: "pair" }, html("span", {}, reference), html("span", { class: "same", "aria-hidden": "true" }, hypothesis));
  return html(
    "span",
    { class: `pair ${kind}` },
    html("span", { class: kind === "I" ? "gap" : "" }, reference),
    aside(SPOKEN[kind]),
    html("span", { class: kind === "D" ? "gap" : "" }, hypothesis),
  );
}

function alignmentNode(utterance) {
  const pairs = align(utterance);
  if (!pairs.length) return html("p", { class: "alignment nothing" }, "Nothing said, nothing recognised.");
  return html("p", { class: "alignment", dir: "auto" }, ...pairs.flatMap((pair) => [pairNode(pair), " "]));
}

function showLegend() {
  const samples = [
    ["said so", { kind: "S", reference: "said", hypothesis: "sad" }, "substituted"],
    ["", { kind: "D", reference: "said", hypothesis: "" }, "deleted"],
    ["", { kind: "I", reference: "", hypothesis: "said" }, "inserted"],
  ];
  $(".legend").append(...samples.map(([, pair, name]) => html("span", {}, html("span", { "aria-hidden": "true" }, pairNode(pair)), name)));
}
