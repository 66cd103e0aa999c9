// Pictures of rates, as SVG: sharp at any size, coloured by the style sheet.

// Calls draw(width) for the nodes of a picture, again when its width changes.
function picture(container, height, label, draw) {
  const node = svg("svg", { role: "img", "aria-label": label });
  const box = html("div", { class: "picture" }, node);
  container.append(box);
  let drawn = 0;
  new ResizeObserver(() => {
    const width = Math.floor(box.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    const tall = typeof height === "function" ? height(width) : height;
    set(node, { width, height: tall, viewBox: `0 0 ${width} ${tall}` });
    node.replaceChildren(...draw(width, tall));
  }).observe(box);
}

const line = (x1, y1, x2, y2, name) => svg("line", { x1, y1, x2, y2, class: name });
const text = (x, y, content, attributes = {}) => svg("text", { x, y, ...attributes }, content);
const hint = (content) => svg("title", {}, content);

// Round values from 0 up to at least `most`, five steps or fewer.
function ticks(most) {
  const size = 10 ** Math.floor(Math.log10(most / 5 || 0.01));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((value) => value * 5 >= most * 0.999);
  return Array.from({ length: Math.ceil((most * 0.999) / step) + 1 }, (_, index) => index * step);
}

const short = (value) => `${+(100 * value).toFixed(2)}\u00a0%`;

function rateAxis(values, y, left, right) {
  return values.flatMap((value) => [
    line(left, y(value), right, y(value), "grid"),
    text(left - 8, y(value) + 4, short(value), { class: "tick", "text-anchor": "end" }),
  ]);
}

// Names below the columns of a chart: level if they fit, else slanted, else none.
function columnNames(names, left, slot, y) {
  const longest = Math.max(...names.map((name) => name.length));
  const level = slot >= 7 * longest + 6;
  if (!level && slot < 12) return [];
  return names.map((name, index) => {
    const x = left + (index + 0.5) * slot;
    const slanted = { transform: `rotate(-55 ${x} ${y - 4})`, "text-anchor": "end" };
    return text(x, y, name, { class: "tick", ...(level ? { "text-anchor": "middle" } : slanted) });
  });
}

const LEFT = 52;
const RIGHT = 8;
const TOP = 14;

function belowColumns(names, width) {
  const slot = (width - LEFT - RIGHT) / names.length;
  const longest = Math.max(...names.map((name) => name.length));
  if (slot >= 7 * longest + 6) return 30;
  return slot < 12 ? 16 : Math.min(96, 22 + 5.4 * longest);
}

// Rates with intervals, one column per group: {name, utterances, words, wer, wer_ci}.
function intervalChart(container, groups, all, label, pick) {
  const names = groups.map((group) => group.name.replace(" and more", "+"));
  const worst = Math.max(1, ...groups.map((group) => group.wer)); // longer whiskers are cut
  const most = Math.max(0.01, all.wer_ci[1], ...groups.map((group) => Math.min(group.wer_ci[1], worst)));
  picture(container, 300, label, (width, height) => {
    const bottom = belowColumns(names, width);
    const slot = (width - LEFT - RIGHT) / groups.length;
    const values = ticks(most);
    const y = (value) => height - bottom - (value / values.at(-1)) * (height - bottom - TOP);
    const right = width - RIGHT;
    return [
      ...rateAxis(values, y, LEFT, right),
      svg("rect", { x: LEFT, y: y(all.wer_ci[1]), width: right - LEFT, height: Math.max(1, y(all.wer_ci[0]) - y(all.wer_ci[1])), class: "band" }),
      line(LEFT, y(all.wer), right, y(all.wer), "mean"),
      ...columnNames(names, LEFT, slot, height - bottom + 18),
      ...groups.map((group, index) => {
        const x = LEFT + (index + 0.5) * slot;
        const [low, high] = group.wer_ci.map((value) => y(Math.min(value, values.at(-1))));
        return svg(
          "g",
          { class: group.utterances > 1 ? "point" : "point lone", onclick: () => pick(group) },
          svg("rect", { x: x - slot / 2, y: TOP, width: slot, height: height - bottom - TOP, class: "target" }),
          line(x, low, x, high, "whisker"),
          svg("circle", { cx: x, cy: y(group.wer), r: Math.min(5, Math.max(2.2, slot / 4)) }),
          hint(`${group.name}: ${percent(group.wer)} (${group.utterances > 1 ? between(group.wer_ci) : "no interval"}), ${many(group.utterances, "utterance")}, ${many(group.words, "word")}`),
        );
      }),
    ];
  });
}

function reliabilityChart(container, { bins, error }) {
  const words = sum(bins.map((bin) => bin.words));
  const label = `Reliability diagram; expected calibration error ${percent(error, 1)} of ${many(words, "word")}`;
  picture(container, (width) => Math.min(330, width), label, (width, height) => {
    const size = Math.min(width - LEFT - RIGHT, height - TOP - 44);
    const left = LEFT + Math.max(0, (width - LEFT - RIGHT - size) / 2 - LEFT / 2);
    const x = (value) => left + value * size;
    const y = (value) => TOP + (1 - value) * size;
    const most = Math.max(...bins.map((bin) => bin.words)) / words;
    return [
      ...rateAxis([0, 0.25, 0.5, 0.75, 1], y, left, left + size),
      ...[0, 0.25, 0.5, 0.75, 1].map((value) => text(x(value), y(0) + 18, short(value), { class: "tick", "text-anchor": "middle" })),
      text(x(0.5), y(0) + 38, "confidence", { class: "axis", "text-anchor": "middle" }),
      ...bins.map((bin) => {
        const tall = (0.3 * size * bin.words) / words / most;
        return svg("rect", { x: x(bin.confidence) - 0.035 * size, y: y(0) - tall, width: 0.07 * size, height: tall, rx: 2, class: "share" });
      }),
      line(x(0), y(0), x(1), y(1), "ideal"),
      svg("polyline", { points: bins.map((bin) => `${x(bin.confidence)},${y(bin.accuracy)}`).join(" "), class: "curve" }),
      ...bins.map((bin) =>
        svg(
          "g",
          { class: "point" },
          svg("circle", { cx: x(bin.confidence), cy: y(bin.accuracy), r: 3 + 4 * Math.sqrt(bin.words / words / most) }),
          hint(`of ${many(bin.words, "word")} with mean confidence ${percent(bin.confidence, 0)}, ${percent(bin.accuracy, 0)} are right`),
        ),
      ),
      text(x(0) + 10, y(1) + 14, "share that is right", { class: "axis" }),
    ];
  });
}

// confusions: [reference, hypothesis, count]; characters: [character, occurrences].
function confusionMatrix(container, { characters, confusions }) {
  const names = [...characters.map(([name]) => name), ""];
  const places = new Map(names.map((name, index) => [name, index]));
  const totals = new Map(characters);
  const most = Math.max(...confusions.map(([, , times]) => times));
  const wrong = new Map();
  for (const [reference, , times] of confusions) wrong.set(reference, (wrong.get(reference) ?? 0) + times);
  const edge = 26;
  const cell = (width) => Math.min(20, (width - edge) / names.length);
  const label = `Confusion matrix of ${many(characters.length, "character")}`;
  picture(container, (width) => edge + cell(width) * names.length + 1, label, (width) => {
    const size = cell(width);
    const at = (name) => edge + places.get(name) * size;
    const letter = (x, y, name) => {
      const node = text(x, y, visible(name), { class: "tick", "text-anchor": "middle" });
      node.style.fontSize = `${Math.min(12, size)}px`; // the page's policy forbids the attribute
      return node;
    };
    const square = (reference, hypothesis, attributes, note) =>
      svg("rect", { x: at(hypothesis) + 0.5, y: at(reference) + 0.5, width: size - 1, height: size - 1, rx: Math.min(3, size / 5), ...attributes }, hint(note));
    return [
      ...names.flatMap((name) => [
        letter(at(name) + size / 2, edge - 8, name),
        letter(edge - 12, at(name) + size / 2 + 4, name),
      ]),
      svg("rect", { x: edge, y: edge, width: size * names.length, height: size * names.length, class: "ground" }),
      // Characters that no reference holds cannot be right.
      ...characters.filter(([, times]) => times).map(([name, times]) =>
        square(name, name, { class: "right" }, `${visible(name)}: ${percent(1 - (wrong.get(name) ?? 0) / times, 1)} of ${count(times)} right`),
      ),
      ...confusions.map(([reference, hypothesis, times]) => {
        const share = totals.has(reference) ? `, ${percent(times / totals.get(reference), 1)} of its occurrences` : "";
        return square(reference, hypothesis, { class: "confused", opacity: Math.max(0.06, Math.sqrt(times / most)) }, `${visible(reference)} → ${visible(hypothesis)}: ${many(times, "time")}${share}`);
      }),
    ];
  });
}
