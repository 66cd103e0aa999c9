// What the page asks of the server.

let key = "";

export class ServerError extends Error {
  constructor(status, { message, code }) {
    super(message);
    this.status = status;
    this.code = code;
  }
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

// Opens a session of live audio; what the server says goes to onMessage.
export function openLive(sampleRate, onMessage) {
  const address = new URL(`v1/audio/live?sample_rate=${sampleRate}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const protocols = key ? ["live", `openai-insecure-api-key.${key}`] : ["live"];
  const socket = new WebSocket(address, protocols);
  socket.onmessage = (event) => onMessage(JSON.parse(event.data));
  return socket;
}
