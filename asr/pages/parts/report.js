// The page of one system.

const data = JSON.parse($("#data").textContent);
const { report, utterances } = data;
utterances.forEach((utterance, index) => Object.assign(utterance, { index, counts: tally(utterance.operations) }));

const unit = report.resampled_by === "speaker" ? "speakers" : "utterances";

function showHeader() {
  $("h1").textContent = data.title;
  $("#subtitle").textContent = data.subtitle;
}

function showHeadline() {
  const right = utterances.filter(({ counts }) => !counts.errors).length;
  const interval = (pair) => html("p", {}, `${between(pair)}`, html("br"), html("small", {}, `95 % interval, bootstrap over ${unit}`));
  const speakers = report.by_speaker.length;
  $("#headline").append(
    figureCard("Word error rate", percent(report.wer), interval(report.wer_ci)),
    figureCard("Character error rate", percent(report.cer), interval(report.cer_ci)),
    errorCard(),
    figureCard(
      "Utterances",
      count(report.utterances),
      html("p", {}, [report.seconds && spoken(report.seconds), many(report.words, "word"), speakers && many(speakers, "speaker")].filter(Boolean).join(", ")),
      html("p", {}, `${count(right)} (${percent(right / utterances.length, 1)}) without error`),
    ),
  );
}

function errorCard() {
  const kinds = [
    ["substitutions", "S", "substituted"],
    ["deletions", "D", "deleted"],
    ["insertions", "I", "inserted"],
  ];
  const errors = sum(kinds.map(([key]) => report[key]));
  const bar = html("div", { class: "stack", "aria-hidden": "true" });
  const list = html("ul", { class: "kinds" });
  for (const [key, kind, name] of kinds) {
    const part = html("span", { class: kind });
    part.style.flexGrow = report[key];
    if (report[key]) bar.append(part);
    list.append(html("li", {}, html("i", { class: kind, "aria-hidden": "true" }), `${name} `, html("b", {}, count(report[key])), html("span", {}, percent(report[key] / Math.max(1, report.words)))));
  }
  return html("div", { class: "card figure" }, html("h2", {}, "Errors"), html("p", { class: "big" }, count(errors)), bar, list);
}

function groupTable(groups, name, pick) {
  const rows = groups.map((group) => [pickButton(() => pick(group), group.name), count(group.utterances), count(group.words), percent(group.wer), between(group.wer_ci), percent(group.cer)]);
  return table([name, "utterances", "words", "WER", "95 % interval", "CER"], rows);
}

function showGroups(list) {
  const groups = [
    ["#by-speaker", report.by_speaker, "speaker", (group) => (item) => item.speaker === group.name],
    ["#by-duration", report.by_duration, "length", (group) => (item) => item.band === group.name],
  ];
  for (const [id, members, name, keep] of groups) {
    if (members.length < 2) continue;
    $(id).hidden = false;
    const worst = members.reduce((one, other) => (other.wer > one.wer ? other : one));
    const label = `Word error rate by ${name}: ${members.length} groups, the worst ${worst.name} with ${percent(worst.wer)}`;
    const pick = (group) => list.only(`${name} ${group.name}`, keep(group));
    intervalChart($(id), members, report, label, pick);
    $(id).append(behind("As a table", groupTable(members, name, pick)));
  }
}

function showCalibration() {
  if (!data.calibration) return;
  const { bins, error } = data.calibration;
  $("#calibration").hidden = false;
  $("#calibration p").textContent = `On the dashed line, of words with confidence 80 % four in five are right; bars show how many have such a confidence. Expected calibration error ${percent(error, 1)}.`;
  reliabilityChart($("#calibration"), data.calibration);
  const rows = bins.map((bin) => [percent(bin.confidence, 0), count(bin.words), percent(bin.accuracy, 0)]);
  $("#calibration").append(behind("As a table", table(["confidence", "words", "right"], rows)));
}

function showConfusions(list) {
  if (report.confusions.length) {
    $("#words").hidden = false;
    const most = report.confusions[0].count;
    const rows = report.confusions.map(({ reference, hypothesis, count: times }) => {
      const keep = (item) => align(item).some((pair) => pair.kind !== "=" && pair.reference === reference && pair.hypothesis === hypothesis);
      const said = html("span", { class: reference ? "" : "none" }, reference || "inserted");
      const heard = html("span", { class: hypothesis ? "" : "none" }, hypothesis || "deleted");
      const show = () => list.only(`${reference || "∅"} → ${hypothesis || "∅"}`, keep);
      const button = pickButton(show, said, html("span", { class: "arrow" }, "→"), heard);
      const bar = html("span", { class: "bar" });
      bar.style.width = `${(100 * times) / most}%`;
      return [button, html("span", { class: "amount" }, bar, html("span", {}, count(times)))];
    });
    $("#words").append(html("div", { class: "tall" }, table(["said and recognised", "times"], rows)));
  }
  const { confusions } = data.characters;
  if (confusions.length) {
    $("#characters").hidden = false;
    confusionMatrix($("#characters"), data.characters);
    const rows = confusions.slice(0, 30).map(([reference, hypothesis, times]) => [visible(reference), visible(hypothesis), count(times)]);
    $("#characters").append(behind("Most frequent, as a table", table(["said", "recognised", "times"], rows)));
  }
}

function confidence({ words }) {
  if (!words?.length) return 1;
  return sum(words.filter((_, index) => index % 3 === 2)) / (words.length / 3);
}

function makeList() {
  const by = (value) => (one, other) => value(one) - value(other) || one.index - other.index;
  const orders = {
    "most errors": by((item) => -item.counts.errors),
    "highest WER": by((item) => -item.counts.rate),
    "highest CER": by((item) => -item.cer),
    "as in the corpus": by(() => 0),
    longest: by((item) => -item.duration),
    shortest: by((item) => item.duration),
    name: (one, other) => byName(one.id, other.id),
  };
  if (utterances.some((item) => item.words)) orders["least sure"] = by(confidence);
  if (report.by_speaker.length) orders.speaker = (one, other) => byName(one.speaker, other.speaker) || one.index - other.index;
  const filters = {
    all: () => true,
    "with errors": (item) => item.counts.errors,
    "without error": (item) => !item.counts.errors,
    "with substitutions": (item) => item.counts.S,
    "with deletions": (item) => item.counts.D,
    "with insertions": (item) => item.counts.I,
  };
  if (utterances.some((item) => item.has_media)) filters["with spectrogram"] = (item) => item.has_media;
  const player = new Player($("#audio"));
  return new List($("#utterances"), {
    items: utterances,
    orders,
    filters,
    text: (item) => `${item.id} ${item.speaker} ${item.reference} ${item.hypothesis}`,
    row: (item) => utteranceRow(item, { player, symbols: data.symbols, badges: badges(item), body: alignmentNode(item) }),
  });
}

function badges({ counts, cer, has_media: media }) {
  const kinds = ["S", "D", "I"].filter((kind) => counts[kind]).map((kind) => badge(`${counts[kind]} ${kind}`, kind));
  const rate = badge(counts.errors ? `WER ${percent(counts.rate, 0)} · CER ${percent(cer, 0)}` : "no error", counts.errors ? "rate" : "perfect");
  return [...(media ? [badge("spectrogram", "media")] : []), ...kinds, rate];
}

showHeader();
showHeadline();
showLegend();
showSetting(data.setting);
const list = makeList();
showGroups(list);
showCalibration();
showConfusions(list);
