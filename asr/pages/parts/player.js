// One sound at a time. A track is {item, duration, url(), button, timeline, media, fail()}.

const STEP_SECONDS = 1;

class Player {
  constructor(audio) {
    this.audio = audio;
    this.track = null;
    this.frame = 0;
    for (const name of ["play", "pause", "seeked", "loadedmetadata"]) audio.addEventListener(name, () => this.#tick());
    audio.addEventListener("error", () => {
      audio.pause(); // it does not do so by itself
      this.track?.fail();
    });
  }

  choose(track) {
    if (this.track === track) return;
    this.audio.pause();
    this.track?.button.classList.remove("playing");
    this.track?.button.setAttribute("aria-label", "Play");
    this.track?.timeline?.move(0);
    URL.revokeObjectURL(this.audio.src);
    this.track = track;
    this.audio.src = track.url();
  }

  toggle(track) {
    this.choose(track);
    if (this.audio.paused) this.audio.play().catch(() => {});
    else this.audio.pause();
  }

  seek(track, seconds, play = false) {
    this.choose(track);
    this.audio.currentTime = Math.min(Math.max(seconds, 0), track.duration);
    track.timeline?.move(this.audio.currentTime);
    if (play) this.audio.play().catch(() => {});
  }

  position(track) {
    return this.track === track ? this.audio.currentTime : 0;
  }

  // Shows a track as it is: playing or not, and where.
  show(track) {
    if (this.track !== track) return;
    const playing = !this.audio.paused;
    track.button.classList.toggle("playing", playing);
    track.button.setAttribute("aria-label", playing ? "Pause" : "Play");
    track.timeline?.move(this.audio.currentTime);
  }

  #tick() {
    if (!this.track) return;
    this.show(this.track);
    cancelAnimationFrame(this.frame); // one at a time, whatever happened
    if (!this.audio.paused) this.frame = requestAnimationFrame(() => this.#tick());
  }
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

// What the page holds of an utterance besides its text: {audio, seconds, …}, or null.
function mediaOf(index) {
  const script = $(`script[data-media="${index}"]`);
  return script && JSON.parse(script.textContent);
}

function playButton(onclick) {
  return html(
    "button",
    { type: "button", class: "play", "aria-label": "Play", onclick },
    svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { class: "if-paused", d: "M8 5.2v13.6L19 12z" }), svg("path", { class: "if-playing", d: "M7 5h3.6v14H7zM13.4 5H17v14h-3.6z" })),
  );
}
