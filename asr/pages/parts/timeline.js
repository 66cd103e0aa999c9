// An opened utterance along time: spectrogram, CTC posteriors, words, and where the sound is.

const PIXELS_PER_SECOND = 160;
const MEL_HEIGHT = 150;
const POSTERIOR_HEIGHT = 138; // with room for the lane's name
const FAINT = 0.04; // posteriors below this are not drawn
const NAMED = 0.25; // and those below this have no letter
const UNSURE = 0.8;
const DOUBTFUL = 0.5;

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

async function pixels(type, base64) {
  const image = new Image();
  image.src = `data:image/${type};base64,${base64}`;
  await image.decode();
  const canvas = html("canvas", { width: image.width, height: image.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
}

function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.min(16000, Math.round(width * ratio));
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(canvas.width / width, ratio);
  return context;
}

// 256 colours between those that the style sheet names.
function colourMap() {
  const stops = style("--map").split(/\s+/).map((colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16)));
  return Array.from({ length: 256 }, (_, value) => {
    const place = (value / 255) * (stops.length - 1);
    const index = Math.min(Math.floor(place), stops.length - 2);
    return stops[index].map((from, channel) => Math.round(from + (place - index) * (stops[index + 1][channel] - from)));
  });
}

// One listener for all: it holds none of the rows that the list has dropped.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const lanes of document.querySelectorAll(".lanes")) lanes.dispatchEvent(new Event("repaint"));
});

class Timeline {
  constructor(container, utterance, track, player, symbols) {
    Object.assign(this, { utterance, track, player, symbols });
    this.media = track.media;
    const seconds = this.media?.seconds ?? track.duration;
    this.seconds = seconds;
    this.head = html("div", { class: "head" });
    this.lanes = html("div", { class: "lanes", tabindex: 0, role: "slider", "aria-label": "Position in the recording", "aria-valuemin": 0, "aria-valuemax": seconds.toFixed(1), onclick: (event) => this.#click(event), onkeydown: (event) => this.#steer(event), onrepaint: () => this.#paint() });
    this.scroller = html("div", { class: "scroller" }, this.lanes);
    this.clock = html("span", { class: "clock" });
    container.append(this.scroller, html("div", { class: "below" }, this.clock, html("span", {}, this.#note())));
    this.width = Math.max(Math.ceil(seconds * PIXELS_PER_SECOND), this.scroller.clientWidth);
    if (!this.media) this.width = this.scroller.clientWidth;
    this.lanes.style.width = `${this.width}px`;
    this.#build();
    this.move(player.position(track));
  }

  x(seconds) {
    return (seconds / this.seconds) * this.width;
  }

  move(seconds) {
    this.clock.textContent = `${clock(seconds)} / ${clock(this.track.duration)}`;
    const x = this.x(Math.min(seconds, this.seconds));
    this.head.style.transform = `translateX(${x}px)`;
    set(this.lanes, { "aria-valuenow": seconds.toFixed(1), "aria-valuetext": `${seconds.toFixed(1)} seconds` });
    const { scrollLeft, clientWidth } = this.scroller;
    if (seconds && (x < scrollLeft || x > scrollLeft + 0.9 * clientWidth)) this.scroller.scrollLeft = x - 0.1 * clientWidth;
    for (const { node, start, end } of this.words ?? []) node.classList.toggle("now", seconds > 0 && start <= seconds && seconds < end);
  }

  #note() {
    if (!this.media) return "";
    const most = this.media.seconds < this.track.duration - 0.1 ? `first ${this.media.seconds.toFixed(0)} s; ` : "";
    return `${most}click to seek, arrow keys move, space plays`;
  }

  #build() {
    if (this.media) {
      this.mel = html("canvas", { "aria-hidden": "true" });
      this.posteriors = html("canvas", { "aria-hidden": "true" });
      const lane = (name, canvas) => html("div", { class: "lane" }, html("span", { class: "name" }, name), canvas);
      this.lanes.append(lane("log-mel spectrogram", this.mel), lane("CTC posteriors", this.posteriors));
    } else {
      this.lanes.append(html("div", { class: "rail" }));
    }
    if (this.media && this.utterance.words) this.#placeWords();
    if (this.media) this.#ruler();
    this.lanes.append(this.head);
    if (this.media) this.#load();
  }

  async #load() {
    [this.melPixels, this.posteriorPixels] = await Promise.all([pixels("webp", this.media.mel), pixels("png", this.media.posteriors)]);
    this.#paint();
  }

  #paint() {
    if (!this.posteriorPixels || !this.lanes.isConnected) return;
    this.#paintMel();
    this.#paintPosteriors();
  }

  #paintMel() {
    const { width, height, data } = this.melPixels;
    const map = colourMap();
    const coloured = new ImageData(width, height);
    for (let i = 0; i < data.length; i += 4) coloured.data.set([...map[data[i]], 255], i);
    const source = html("canvas", { width, height });
    source.getContext("2d").putImageData(coloured, 0, 0);
    const context = prepare(this.mel, this.width, MEL_HEIGHT);
    context.imageSmoothingQuality = "high";
    context.drawImage(source, 0, 0, this.x(width * this.media.mel_frame_seconds), MEL_HEIGHT);
    this.#edges(context, MEL_HEIGHT, "--on-map");
  }

  #edges(context, height, colour) {
    context.strokeStyle = style(colour);
    context.globalAlpha = 0.55;
    context.lineWidth = 1;
    context.setLineDash([2, 3]);
    context.beginPath();
    for (const { start, end } of this.words ?? []) {
      for (const x of [start, end].map((seconds) => Math.round(this.x(seconds)) + 0.5)) {
        context.moveTo(x, 0);
        context.lineTo(x, height);
      }
    }
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  // One hill for each stretch in which a token is not negligible; those that lose are amber.
  #paintPosteriors() {
    const { width: frames, height: tokens, data } = this.posteriorPixels;
    const context = prepare(this.posteriors, this.width, POSTERIOR_HEIGHT);
    const value = (token, frame) => (frame < 0 || frame >= frames ? 0 : data[4 * (token * frames + frame)] / 255);
    const x = (frame) => this.x((frame + 0.5) * this.media.frame_seconds);
    const floor = POSTERIOR_HEIGHT - 6;
    const y = (probability) => floor - probability * (floor - 40);
    this.#edges(context, POSTERIOR_HEIGHT, "--soft");
    context.strokeStyle = style("--wave");
    context.lineWidth = 1;
    context.beginPath();
    for (let frame = 0; frame < frames; frame += 1) context.lineTo(x(frame), y(value(0, frame)));
    context.stroke();
    const best = Array.from({ length: frames }, (_, frame) => {
      let winner = 1;
      for (let token = 2; token < tokens; token += 1) if (value(token, frame) > value(winner, frame)) winner = token;
      return winner;
    });
    const [accent, amber] = [style("--accent"), style("--amber")];
    context.textAlign = "center";
    for (let token = 1; token < tokens; token += 1) {
      for (let frame = 0; frame < frames; frame += 1) {
        if (value(token, frame) < FAINT) continue;
        const start = frame;
        let peak = frame;
        while (value(token, frame + 1) >= FAINT) {
          frame += 1;
          if (value(token, frame) > value(token, peak)) peak = frame;
        }
        const colour = best[peak] === token ? accent : amber;
        context.beginPath();
        context.moveTo(x(start - 1), floor);
        for (let at = start; at <= frame; at += 1) context.lineTo(x(at), y(value(token, at)));
        context.lineTo(x(frame + 1), floor);
        context.fillStyle = context.strokeStyle = colour;
        context.globalAlpha = 0.22;
        context.fill();
        context.globalAlpha = 1;
        context.lineWidth = 1.4;
        context.stroke();
        if (value(token, peak) < NAMED) continue;
        context.font = "600 11px system-ui, sans-serif";
        context.fillText(visible(this.symbols[token - 1]), x(peak), y(value(token, peak)) - 5);
      }
    }
  }

  #placeWords() {
    const lane = html("div", { class: "lane words" }, html("span", { class: "name" }, "recognised words, % sure"));
    this.lanes.append(lane);
    const kinds = new Map(align(this.utterance).filter(({ kind }) => kind !== "D").map((pair) => [pair.index, pair]));
    const times = this.utterance.words;
    const free = [];
    this.words = split(this.utterance.hypothesis).map((word, index) => {
      const [start, end, sure] = times.slice(3 * index, 3 * index + 3).map((value) => value / 100);
      const { kind, reference } = kinds.get(index);
      const said = kind === "S" ? `, said: ${reference}` : kind === "I" ? ", inserted" : "";
      const doubt = sure < DOUBTFUL ? " doubtful" : sure < UNSURE ? " unsure" : "";
      const node = html("button", { type: "button", tabindex: -1, class: `word ${kind}${doubt}`, title: `${word}: ${percent(sure, 0)} sure${said}` }, word, html("small", {}, `${Math.round(100 * sure)}`));
      node.addEventListener("click", (event) => {
        event.stopPropagation();
        this.player.seek(this.track, start - 0.05, true);
      });
      lane.append(node);
      return { node, start, end };
    });
    for (const { node, start, end } of this.words) {
      if (start >= this.seconds) {
        node.remove(); // said after what is shown
        continue;
      }
      const middle = this.x((start + end) / 2);
      const left = Math.max(0, Math.min(this.width - node.offsetWidth, middle - node.offsetWidth / 2));
      let row = free.findIndex((until) => until + 3 <= left);
      if (row < 0) row = free.push(0) - 1;
      free[row] = left + node.offsetWidth;
      node.style.left = `${left}px`;
      node.style.top = `${26 + row * 38}px`;
    }
    lane.style.height = `${30 + free.length * 38}px`;
  }

  #ruler() {
    const ruler = html("div", { class: "ruler", "aria-hidden": "true" });
    for (let second = 1; second < this.seconds; second += 1) {
      const mark = html("span", {}, `${second}\u00a0s`);
      mark.style.left = `${this.x(second)}px`;
      ruler.append(mark);
    }
    this.lanes.append(ruler);
  }

  #click(event) {
    const x = event.clientX - this.lanes.getBoundingClientRect().left;
    this.player.seek(this.track, (x / this.width) * this.seconds);
  }

  #steer(event) {
    const now = this.player.position(this.track);
    const goals = { ArrowLeft: now - STEP_SECONDS, ArrowRight: now + STEP_SECONDS, Home: 0, End: this.seconds };
    if (event.key === " " || event.key === "Enter") this.player.toggle(this.track);
    else if (event.key in goals) this.player.seek(this.track, goals[event.key]);
    else return;
    event.preventDefault();
  }
}
