// What the page asks of the server.

let key = "";

export class ServerError extends Error {
  constructor(status, { message, code }) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// Printable ASCII: fetch throws at a header with anything beyond Latin-1.
export function isKey(value) {
  return /^[ -~]*$/.test(value);
}

export function useKey(value) {
  key = value;
}

async function ask(path, options = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (!response.ok) {
    const content = await response.json().catch(() => ({}));
    const unknown = { message: `The server answered with status ${response.status}.` };
    throw new ServerError(response.status, content.error ?? unknown);
  }
  return response.json();
}

export async function modelName() {
  return (await ask("v1/models")).data[0].id;
}

// Returns the transcript and its files: { json, txt, srt, vtt }.
export async function transcribe(blob, name, signal) {
  const form = new FormData();
  form.append("file", blob, name);
  form.append("model", "whisper-1"); // whatever the server has
  form.append("response_format", "all");
  return ask("v1/audio/transcriptions", { method: "POST", body: form, signal });
}

// Opens a session of live audio; texts go to onText, and why it came to an end to onEnd.
export function openLive(sampleRate, onText, onEnd) {
  const address = new URL(`v1/audio/live?sample_rate=${sampleRate}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const protocols = key ? ["live", `openai-insecure-api-key.${key}`] : ["live"];
  const socket = new WebSocket(address, protocols);
  let reason = "the server did not accept the connection";
  socket.onopen = () => { reason = "the connection was lost"; };
  socket.onmessage = (event) => {
    const { type, text, error } = JSON.parse(event.data);
    if (type === "error") reason = error.message;
    else onText(type, text);
  };
  socket.onclose = () => onEnd(reason);
  return socket;
}
