// Runs beside the page, in the thread of the sound: collects 128 samples at a time into more.

const SIZE = 4096;

class Collector extends AudioWorkletProcessor {
  constructor() {
    super();
    this.samples = new Float32Array(SIZE);
    this.count = 0;
    this.port.onmessage = () => this.flush();
  }

  // Passes on what is not enough for a message yet; null says that it was the last.
  flush() {
    this.port.postMessage(this.samples.slice(0, this.count));
    this.port.postMessage(null);
    this.count = 0;
  }

  process([[channel]]) {
    if (channel) {
      this.samples.set(channel, this.count);
      this.count += channel.length;
      if (this.count === SIZE) {
        this.port.postMessage(this.samples);
        this.count = 0;
      }
    }
    return true;
  }
}

registerProcessor("collector", Collector);
