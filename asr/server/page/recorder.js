// The microphone: collects samples, and passes them on as they come.

const PATIENCE = 500; // milliseconds; a browser may have suspended the thread of the sound

export class Recorder {
  // onSamples is called with each Float32Array, several times a second.
  static async start(onSamples) {
    // What makes a call pleasant takes away what a recogniser listens to.
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule("page/worklet.js");
      return new Recorder(stream, context, onSamples);
    } catch (error) {
      stream.getTracks().forEach((track) => track.stop());
      context.close();
      throw error;
    }
  }

  constructor(stream, context, onSamples) {
    this.stream = stream;
    this.context = context;
    this.chunks = [];
    this.node = new AudioWorkletNode(context, "collector", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    this.flushed = new Promise((resolve) => {
      this.node.port.onmessage = ({ data }) => {
        if (!data) return resolve();
        this.chunks.push(data);
        onSamples(data);
      };
    });
    context.createMediaStreamSource(stream).connect(this.node);
  }

  get rate() {
    return this.context.sampleRate;
  }

  get seconds() {
    return this.chunks.reduce((sum, chunk) => sum + chunk.length, 0) / this.rate;
  }

  // Returns all samples.
  async stop() {
    this.node.port.postMessage("flush");
    await Promise.race([this.flushed, new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
    this.stream.getTracks().forEach((track) => track.stop());
    await this.context.close();
    const samples = new Float32Array(Math.round(this.seconds * this.rate));
    let at = 0;
    for (const chunk of this.chunks) {
      samples.set(chunk, at);
      at += chunk.length;
    }
    return samples;
  }
}
