// Sound in numbers: decoding, peaks, WAV.

const RATE = 16000;

// Returns Float32Array at 16 kHz, or null for what this browser cannot decode.
export async function decode(blob) {
  try {
    const context = new OfflineAudioContext(1, 1, RATE);
    return mono(await context.decodeAudioData(await blob.arrayBuffer()));
  } catch {
    return null;
  }
}

function mono(buffer) {
  const sum = buffer.getChannelData(0);
  for (let channel = 1; channel < buffer.numberOfChannels; channel++) {
    buffer.getChannelData(channel).forEach((value, index) => { sum[index] += value; });
  }
  return sum.map((value) => value / buffer.numberOfChannels);
}

// Returns samples of any rate as a WAV file at 16 kHz.
export async function toWav(samples, rate) {
  const length = Math.max(1, Math.round((samples.length * RATE) / rate));
  const context = new OfflineAudioContext(1, length, RATE);
  const buffer = new AudioBuffer({ length: Math.max(1, samples.length), sampleRate: rate });
  buffer.copyToChannel(samples, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(context.destination);
  source.start();
  return encode((await context.startRendering()).getChannelData(0), RATE);
}

// Returns samples as a WAV file of that rate.
export function encode(samples, rate) {
  const header = new DataView(new ArrayBuffer(44));
  const fields = [
    "RIFF", [36 + 2 * samples.length, 4], "WAVE", "fmt ", [16, 4], [1, 2], [1, 2], [rate, 4],
    [2 * rate, 4], [2, 2], [16, 2], "data", [2 * samples.length, 4],
  ];
  let at = 0;
  for (const field of fields) {
    if (typeof field === "string") {
      for (const character of field) header.setUint8(at++, character.charCodeAt(0));
    } else {
      const [value, bytes] = field;
      if (bytes === 4) header.setUint32(at, value, true);
      else header.setUint16(at, value, true);
      at += bytes;
    }
  }
  return new Blob([header, toPcm(samples)], { type: "audio/wav" });
}

// Returns 16-bit samples; every machine with a browser is little-endian.
export function toPcm(samples) {
  return Int16Array.from(samples, (value) => Math.max(-1, Math.min(1, value)) * 32767);
}

// Returns the greatest amplitude of each of `count` parts, the greatest of all being 1.
export function peaks(samples, count) {
  const found = new Float32Array(count);
  for (let part = 0; part < count; part++) {
    const end = Math.floor(((part + 1) * samples.length) / count);
    for (let index = Math.floor((part * samples.length) / count); index < end; index++) {
      found[part] = Math.max(found[part], Math.abs(samples[index]));
    }
  }
  const most = Math.max(...found, 1e-4);
  return found.map((value) => value / most);
}
