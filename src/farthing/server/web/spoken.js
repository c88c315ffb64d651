// An answer for screen readers: whole sentences as they are complete, not every token. Knows no nodes.

const EVERY_MS = 1500;
const MARKS = /[*_`#|>~]+/g;

export class Spoken {
  #say;
  #segments;
  #text = "";
  #last = performance.now();

  constructor(say, language) {
    this.#say = say;
    this.#segments = new Intl.Segmenter(language, { granularity: "sentence" });
  }

  take(text) {
    this.#text += text;
    if (performance.now() - this.#last < EVERY_MS) return;
    const sentences = Array.from(this.#segments.segment(this.#text), (part) => part.segment);
    this.#text = sentences.pop() ?? "";
    this.#speak(sentences.join(""));
  }

  end() {
    this.#speak(this.#text);
  }

  #speak(text) {
    this.#last = performance.now();
    const plain = text.replace(MARKS, "").trim();
    if (plain) this.#say(plain);
  }
}
