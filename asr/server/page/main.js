// The page: from a recording to its text on the screen.

import { barsThatFit, drawBars } from "./drawing.js";
import { Player } from "./player.js";
import { Recorder } from "./recorder.js";
import { modelName, openLive, transcribe, useKey } from "./server.js";
import { decode, toPcm, toWav } from "./sound.js";
import { clock, TranscriptView } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const PANELS = ["source", "recording", "busy", "error", "access", "result"];

let model = "";
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
  if (error.name === "AbortError") {
    show("source");
  } else if (error.status === 401) {
    afterKey = retry;
    show("access");
    $("key").focus();
  } else {
    $("message").textContent =
      error instanceof TypeError ? "The server does not answer. Does it still run?" : error.message;
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
    model = await modelName();
    $("model").textContent = `model: ${model}`;
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
  const samples = await decode(blob);
  try {
    const result = await transcribe(blob, name, model, running.signal).catch(async (error) => {
      // The browser may know a format that the server does not.
      if (error.code !== "unreadable_audio" || !samples) throw error;
      return transcribe(await toWav(samples, 16000), name, model, running.signal);
    });
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

async function record() {
  $("audio").pause();
  $("final").textContent = $("partial").textContent = "";
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
    showError(new Error(`The microphone cannot be used: ${error.message}`));
    return;
  } finally {
    $("record").disabled = false;
  }
  show("recording");
  try {
    socket = openLive(recorder.rate, ({ type, text }) => {
      if (type === "final") $("final").textContent += ` ${text}`;
      if (type !== "error") $("partial").textContent = type === "partial" ? text : "";
    });
  } catch {
    // Without live text the recording is still transcribed in the end.
  }
  $("stop").focus();
  await new Promise((resolve) => $("stop").addEventListener("click", resolve, { once: true }));
  socket?.close();
  const samples = await recorder.stop();
  const now = new Date();
  const stamp = [now.getHours(), now.getMinutes()].map((part) => String(part).padStart(2, "0"));
  const name = `recording ${stamp.join("-")}.wav`;
  const recorded = new File([await toWav(samples, recorder.rate)], name, { type: "audio/wav" });
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
  useKey($("key").value.trim());
  afterKey();
});
$("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(files.txt.trim());
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
