// The page: from a recording to its text on the screen.

import { barsThatFit, drawBars } from "./drawing.js";
import { Player } from "./player.js";
import { Recorder } from "./recorder.js";
import { isKey, modelName, openLive, transcribe, useKey } from "./server.js";
import { decode, encode, toPcm, toWav } from "./sound.js";
import { clock, TranscriptView } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const PANELS = ["source", "recording", "busy", "error", "access", "result"];

let files = {}; // the contents to download, by format
let running = new AbortController();
let afterKey = connect; // what was refused for want of a key

const transcript = new TranscriptView($("transcript"), {
  onPlay: (word) => player.playFrom(word),
  onMark: (word) => player.mark(word),
});
const player = new Player(
  { audio: $("audio"), canvas: $("waveform"), button: $("play"), clockFace: $("clock") },
  {
    onTime: (seconds) => transcript.follow(seconds),
    onPlaying: (playing) => $("transcript").classList.toggle("playing", playing),
  },
);

function show(...panels) {
  PANELS.forEach((panel) => { $(panel).hidden = !panels.includes(panel); });
}

function showError(error, retry, recorded = null) {
  if (error.name === "AbortError" && !recorded) {
    show("source");
  } else if (error.status === 401) {
    afterKey = retry;
    show("access");
    $("key").focus();
  } else {
    $("message").textContent =
      error.name === "AbortError" ? "Cancelled."
        : error instanceof TypeError ? "The server does not answer. Does it still run?"
        : error.message;
    $("keep").hidden = !recorded; // nobody else has it
    if (recorded) {
      URL.revokeObjectURL($("keep").href);
      $("keep").href = URL.createObjectURL(recorded);
      $("keep").download = recorded.name;
    }
    $("source").classList.remove("small");
    show("source", "error");
  }
}

async function connect() {
  try {
    $("model").textContent = `model: ${await modelName()}`;
    show("source");
  } catch (error) {
    showError(error, connect);
  }
}

async function open(blob, name, recorded = null) {
  $("audio").pause();
  $("status").textContent = `Transcribing ${name} …`;
  show("busy");
  running = new AbortController();
  const { signal } = running;
  try {
    await blob.slice(0, 1).arrayBuffer().catch(() => {
      throw new Error(`${name} cannot be read. Is it a folder, or gone?`);
    });
    const decoding = decode(blob); // meanwhile
    const result = await transcribe(blob, name, signal).catch(async (error) => {
      // The browser may know a format that the server does not.
      const samples = error.code === "unreadable_audio" && (await decoding);
      if (!samples) throw error;
      return transcribe(await toWav(samples, 16000), name, signal);
    });
    const samples = await decoding;
    signal.throwIfAborted();
    showResult(result, blob, samples, name);
  } catch (error) {
    showError(error, () => open(blob, name, recorded), recorded);
  }
}

function showResult(result, blob, samples, name) {
  const { words, duration } = result.json;
  files = { ...result, json: `${JSON.stringify(result.json, null, 2)}\n` };
  $("name").textContent = name;
  $("summary").textContent = summary(words, duration);
  $("warning").textContent = result.json.warning ?? "";
  $("warning").hidden = !result.json.warning;
  $("source").classList.add("small");
  show("source", "result");
  $("player").hidden = !samples;
  $("mute").hidden = Boolean(samples);
  transcript.show(result.json);
  player.load(blob, samples, duration);
  const stem = name.replace(/\.[^.]+$/, "") || "transcript";
  for (const link of document.querySelectorAll("#downloads a")) {
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(new Blob([files[link.dataset.format]], { type: "text/plain" }));
    link.download = `${stem}.${link.dataset.format}`;
  }
  (samples ? $("play") : $("copy")).focus();
}

function summary(words, duration) {
  const parts = [clock(duration), words.length === 1 ? "1 word" : `${words.length} words`];
  if (words.length) {
    const sum = words.reduce((total, word) => total + word.confidence, 0);
    parts.push(`${Math.round((100 * sum) / words.length)} % sure`);
  }
  return parts.join(" · ");
}

// Without live text the recording is still transcribed in the end.
function showNoLive(reason) {
  $("message").textContent = `No live text: ${reason}. The recording goes on.`;
  $("keep").hidden = true;
  $("live").hidden = !$("live").textContent.trim();
  show("recording", "error");
}

async function record() {
  $("audio").pause();
  $("final").textContent = $("partial").textContent = "";
  $("live").hidden = false;
  const levels = [];
  let socket = null;
  let recorder;
  $("record").disabled = true; // until the microphone is there
  try {
    recorder = await Recorder.start((samples) => {
      if (socket?.readyState === WebSocket.OPEN) socket.send(toPcm(samples));
      levels.push(Math.min(1, samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0)));
      const count = barsThatFit($("level"));
      const shown = levels.slice(-count);
      drawBars($("level"), [...Array(count - shown.length).fill(0), ...shown], 1);
      $("elapsed").textContent = clock(recorder?.seconds ?? 0);
    });
  } catch (error) {
    if ($("busy").hidden) showError(new Error(`The microphone cannot be used: ${error.message}`));
    return;
  } finally {
    $("record").disabled = false;
  }
  if (!$("busy").hidden) { // a file came first
    recorder.stop();
    return;
  }
  recorder.stream.getTracks()[0].addEventListener("ended", () => $("stop").click()); // unplugged
  show("recording");
  const onText = (type, text) => {
    if (type === "final") $("final").textContent += ` ${text}`;
    $("partial").textContent = type === "partial" ? text : "";
  };
  try {
    socket = openLive(recorder.rate, onText, showNoLive);
  } catch { // the browser's own message would show the key
    showNoLive("the key has signs that a WebSocket does not take");
  }
  $("stop").focus();
  await new Promise((resolve) => $("stop").addEventListener("click", resolve, { once: true }));
  if (socket) socket.onclose = null; // it is meant to end
  socket?.close();
  const samples = await recorder.stop();
  const now = new Date();
  const stamp = [now.getHours(), now.getMinutes()].map((part) => String(part).padStart(2, "0"));
  const name = `recording ${stamp.join("-")}.wav`;
  // An hour may be too much to resample.
  const wav = await toWav(samples, recorder.rate).catch(() => encode(samples, recorder.rate));
  const recorded = new File([wav], name, { type: "audio/wav" });
  open(recorded, name, recorded);
}

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) open(file, file.name);
  $("file").value = "";
});
$("record").addEventListener("click", record);
if (!navigator.mediaDevices?.getUserMedia) {
  $("record").disabled = true;
  $("record").title = "Browsers give the microphone to https:// and localhost alone";
}
$("cancel").addEventListener("click", () => running.abort());
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  $("unusable").hidden = isKey(key);
  if (!isKey(key)) return $("key").focus();
  useKey(key);
  afterKey();
});
$("copy").addEventListener("click", async () => {
  const text = files.txt.trim();
  try {
    await navigator.clipboard.writeText(text);
  } catch { // there is none for http:// but on this machine
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
    $("copy").focus();
  }
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy text"; }, 1500);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("source").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("source").classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("source").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file && $("busy").hidden && $("recording").hidden) open(file, file.name);
});
connect();
