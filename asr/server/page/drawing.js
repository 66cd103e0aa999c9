// Pictures of sound on a canvas, sharp on every screen and in the colours of the page.

const BAR = 3;
const GAP = 2;

function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return { context, width, height };
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}

export function barsThatFit(canvas) {
  return Math.max(1, Math.floor((canvas.clientWidth + GAP) / (BAR + GAP)));
}

// Draws amplitudes 0..1, those before `played` (0..1) in the accent; `marked`: [from, to], 0..1.
export function drawBars(canvas, amplitudes, played, marked = null) {
  const { context, width, height } = prepare(canvas);
  if (marked) {
    context.fillStyle = colour("--glow");
    context.beginPath();
    const from = marked[0] * width;
    context.roundRect(from - 2, 0, Math.max(4, (marked[1] - marked[0]) * width + 4), height, 6);
    context.fill();
  }
  const step = width / amplitudes.length;
  const [accent, wave] = [colour("--accent"), colour("--wave")];
  amplitudes.forEach((amplitude, index) => {
    const size = Math.max(BAR, amplitude * (height - 12));
    context.fillStyle = (index + 0.5) / amplitudes.length <= played ? accent : wave;
    context.beginPath();
    context.roundRect(index * step, (height - size) / 2, BAR, size, BAR / 2);
    context.fill();
  });
}
