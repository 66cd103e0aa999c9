// The recording: its waveform, where it plays, and how to go elsewhere.

import { barsThatFit, drawBars } from "./drawing.js";
import { peaks } from "./sound.js";
import { clock } from "./transcript.js";

const STEP_SECONDS = 2;
const BEFORE_WORD = 0.05; // a word's times are good to about a tenth of a second

export class Player {
  // onTime is called with the seconds whenever they change, onPlaying when it starts and stops.
  constructor({ audio, canvas, button, clockFace }, { onTime, onPlaying }) {
    Object.assign(this, { audio, canvas, button, clockFace, onTime });
    this.samples = null;
    this.bars = [];
    this.duration = 0;
    this.marked = null;
    button.addEventListener("click", () => this.toggle());
    canvas.addEventListener("click", (event) => this.seek((event.offsetX / canvas.clientWidth) * this.duration));
    canvas.addEventListener("keydown", (event) => this.steer(event));
    for (const name of ["play", "pause"]) {
      audio.addEventListener(name, () => {
        button.classList.toggle("playing", !audio.paused);
        button.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
        onPlaying(!audio.paused);
        this.tick();
      });
    }
    audio.addEventListener("seeked", () => this.draw());
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  load(blob, samples, duration) {
    URL.revokeObjectURL(this.audio.src);
    this.audio.src = URL.createObjectURL(blob);
    this.samples = samples;
    this.duration = duration;
    this.canvas.setAttribute("aria-valuemax", duration.toFixed(1));
    this.resize();
  }

  toggle() {
    if (this.audio.paused) this.audio.play().catch(() => {});
    else this.audio.pause();
  }

  seek(seconds) {
    this.audio.currentTime = Math.min(Math.max(seconds, 0), this.duration);
    this.draw();
  }

  playFrom({ start }) {
    this.seek(start - BEFORE_WORD);
    this.audio.play().catch(() => {});
  }

  mark(word) {
    this.marked = word && [word.start / this.duration, word.end / this.duration];
    this.draw();
  }

  steer(event) {
    const now = this.audio.currentTime;
    const goals = { ArrowLeft: now - STEP_SECONDS, ArrowRight: now + STEP_SECONDS, Home: 0, End: this.duration };
    if (event.key === " ") this.toggle();
    else if (event.key in goals) this.seek(goals[event.key]);
    else return;
    event.preventDefault();
  }

  tick() {
    this.draw();
    if (!this.audio.paused) requestAnimationFrame(() => this.tick());
  }

  resize() {
    if (!this.samples || !this.canvas.clientWidth) return;
    this.bars = peaks(this.samples, barsThatFit(this.canvas));
    this.draw();
  }

  draw() {
    const now = this.audio.currentTime;
    this.onTime(now);
    this.clockFace.textContent = `${clock(now)} / ${clock(this.duration)}`;
    this.canvas.setAttribute("aria-valuenow", now.toFixed(1));
    this.canvas.setAttribute("aria-valuetext", `${clock(now)} of ${clock(this.duration)}`);
    if (this.samples) drawBars(this.canvas, this.bars, now / this.duration, this.marked);
  }
}
