
// An answer as it is written: its thought, its text, the calls it makes, and figures below.
const kDrawShare = 0.25; // of the time, at most, is spent on drawing what is written

function prettyArguments(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // not all of it is there, or it is not JSON
  }
}

class Answer {
  constructor() {
    this.content = "";
    this.thinking = "";
    this.calls = [];
    this.thinkingSince = null;
    this.thoughtMs = 0; // 0: it is not over
    this.title = element("summary", {}, "Thinking");
    const thoughtWords = element("div", {class: "markdown"});
    this.thought = element("details", {class: "thought", hidden: ""}, this.title, thoughtWords);
    this.thoughtView = new MarkdownView(thoughtWords);
    const words = element("div", {class: "words markdown"});
    this.wordsView = new MarkdownView(words);
    this.callList = element("div", {class: "calls"});
    this.facts = element("small", {class: "facts"});
    this.actions = element("span", {class: "actions"});
    this.root = element("article", {class: "said model", "aria-label": "Answer"}, this.thought, words, this.callList,
      element("div", {class: "below"}, this.facts, this.actions));
    this.frame = 0;
    this.drawn = () => {};
    this.restUntil = 0; // no drawing before
  }

  // What a message said that was kept.
  static of(message) {
    const answer = new Answer();
    answer.content = message.content;
    answer.thinking = message.reasoning_content ?? "";
    answer.calls = message.tool_calls ?? [];
    answer.thoughtMs = message.thought_ms ?? 0;
    answer.facts.textContent = message.facts ?? "";
    answer.finish();
    return answer;
  }

  get empty() {
    return this.content === "" && this.thinking === "" && this.calls.length === 0;
  }

  // Takes a piece as the server streams it; drawn(): after it is to be seen.
  take(delta, drawn) {
    const now = performance.now();
    if (delta.reasoning_content) {
      this.thinkingSince ??= now;
      this.thinking += delta.reasoning_content;
    }
    this.content += delta.content ?? "";
    for (const part of delta.tool_calls ?? []) {
      const call = (this.calls[part.index ?? 0] ??= {id: "", type: "function", function: {name: "", arguments: ""}});
      call.id = part.id ?? call.id;
      call.function.name += part.function?.name ?? "";
      call.function.arguments += part.function?.arguments ?? "";
    }
    if (this.thinkingSince && !this.thoughtMs && (delta.content || delta.tool_calls)) this.endThought(now);
    this.drawn = drawn;
    if (!this.frame) this.frame = requestAnimationFrame(() => this.drawFrame());
  }

  endThought(now) {
    this.thoughtMs = Math.max(1, Math.round(now - this.thinkingSince));
    this.thought.open = false;
  }

  drawFrame() {
    const begun = performance.now();
    if (begun < this.restUntil) {
      this.frame = requestAnimationFrame(() => this.drawFrame());
      return;
    }
    this.frame = 0;
    if (this.thinking && this.thought.hidden) this.thought.open = !this.thoughtMs;
    this.draw();
    this.drawn();
    this.restUntil = performance.now() + (performance.now() - begun) * (1 / kDrawShare - 1);
  }

  draw() {
    if (this.thinking) {
      this.thought.hidden = false;
      if (this.thinking !== this.thinkingShown) this.thoughtView.show(this.thinking);
      this.thinkingShown = this.thinking;
    }
    this.title.textContent = !this.thoughtMs ? "Thinking" : `Thought for ${threeDigits(this.thoughtMs / 1000)} s`;
    if (this.content !== this.contentShown) this.wordsView.show(this.content);
    this.contentShown = this.content;
    const calls = JSON.stringify(this.calls);
    if (calls !== this.callsShown) {
      this.callList.replaceChildren(...this.calls.filter(Boolean).map(({function: {name, arguments: text}}) =>
        element("div", {class: "call", role: "group", "aria-label": `Call of ${name}`}, element("p", {}, "Calls ", element("code", {}, name)),
          element("pre", {tabindex: "0"}, prettyArguments(text)))));
    }
    this.callsShown = calls;
  }

  // Nothing more comes.
  finish() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.calls = this.calls.filter(Boolean);
    if (this.thinking && !this.thoughtMs) {
      if (this.thinkingSince) this.endThought(performance.now());
      else this.thoughtMs = 1;
    }
    this.draw();
  }

  // As it goes into a conversation.
  message() {
    const message = {role: "assistant", content: this.content};
    if (this.thinking) Object.assign(message, {reasoning_content: this.thinking, thought_ms: this.thoughtMs});
    if (this.calls.length > 0) message.tool_calls = this.calls;
    if (this.facts.textContent) message.facts = this.facts.textContent;
    return message;
  }
}
