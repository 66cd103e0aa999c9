// The words on the page: which one is spoken, which one has the keyboard.

const UNSURE = 0.8;
const DOUBTFUL = 0.5;

export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const tail = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

export class TranscriptView {
  // onPlay and onMark are called with a word; onMark with null when none is pointed at.
  constructor(element, { onPlay, onMark }) {
    this.element = element;
    this.words = [];
    this.nodes = [];
    this.current = -1;
    const pointed = (event) => this.words[this.nodes.indexOf(event.target.closest(".word"))] ?? null;
    element.addEventListener("click", (event) => pointed(event) && onPlay(pointed(event)));
    element.addEventListener("pointerover", (event) => onMark(pointed(event)));
    element.addEventListener("pointerleave", () => onMark(null));
    element.addEventListener("focusin", (event) => onMark(pointed(event)));
    element.addEventListener("focusout", () => onMark(null));
    element.addEventListener("keydown", (event) => this.move(event, () => onPlay(pointed(event))));
  }

  show({ segments, words }) {
    this.words = words;
    this.nodes = words.map(wordNode);
    this.current = -1;
    let at = 0;
    const paragraphs = segments.map((segment) => {
      const count = segment.text.split(" ").length;
      const paragraph = document.createElement("p");
      const time = document.createElement("span");
      time.className = "time";
      time.textContent = clock(segment.start);
      const body = document.createElement("span");
      this.nodes.slice(at, at + count).forEach((node) => body.append(node, " "));
      at += count;
      paragraph.append(time, body);
      return paragraph;
    });
    if (!words.length) {
      const nothing = document.createElement("p");
      nothing.className = "nothing";
      nothing.textContent = "No speech was found in it.";
      paragraphs.push(nothing);
    }
    this.element.replaceChildren(...paragraphs);
    if (this.nodes.length) this.nodes[0].tabIndex = 0;
  }

  // Lights up the word that is spoken at that time.
  follow(seconds) {
    let low = 0;
    let high = this.words.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.words[middle].start <= seconds) low = middle + 1;
      else high = middle;
    }
    if (low - 1 === this.current) return;
    this.current = low - 1;
    this.nodes.forEach((node, index) => {
      node.classList.toggle("now", index === this.current);
      node.classList.toggle("later", index > this.current);
    });
    this.nodes[this.current]?.scrollIntoView({ block: "nearest" });
  }

  move(event, play) {
    const at = this.nodes.indexOf(event.target.closest(".word"));
    if (at < 0) return;
    const goals = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: this.nodes.length - 1 };
    if (event.key === "Enter" || event.key === " ") play();
    else if (event.key in goals) this.focus(goals[event.key]);
    else return;
    event.preventDefault();
  }

  focus(index) {
    const node = this.nodes[index];
    if (!node) return;
    this.nodes.forEach((other) => { other.tabIndex = -1; });
    node.tabIndex = 0;
    node.focus();
  }
}

function wordNode({ word, confidence }) {
  const node = document.createElement("span");
  const percent = `${Math.round(100 * confidence)} % sure`;
  node.className = "word";
  node.tabIndex = -1;
  node.setAttribute("role", "button");
  node.textContent = word;
  node.title = percent;
  if (confidence < UNSURE) {
    node.classList.add(confidence < DOUBTFUL ? "doubtful" : "unsure");
    node.setAttribute("aria-label", `${word}, ${percent}`);
  }
  return node;
}
