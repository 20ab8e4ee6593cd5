
// A conversation with the model, or text that it goes on with where it knows no conversations.
const kSuggestions = {
  chat: ["Who are you?", "Tell me a story about a king."],
  text: ["Once upon a time", "KING RICHARD:"],
};

class Chat {
  constructor(keyWanted) {
    this.keyWanted = keyWanted;
    this.messages = [];
    this.abort = null;
    this.converses = true;
    byId("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(byId("say").value);
    });
    byId("say").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send(byId("say").value);
    });
    byId("stop").addEventListener("click", () => this.abort?.abort());
    byId("clear").addEventListener("click", () => this.clear());
    this.suggest();
  }

  // Whether the server knows the model's way of conversing.
  setConverses(converses) {
    if (converses === this.converses) return;
    this.converses = converses;
    byId("say-label").textContent = converses ? "Message" : "Text to go on with (the model's chat template is not known)";
    this.suggest();
  }

  suggest() {
    byId("suggestions").replaceChildren(...kSuggestions[this.converses ? "chat" : "text"].map((text) => {
      const button = element("button", {type: "button"}, text);
      button.addEventListener("click", () => this.send(text));
      return button;
    }));
  }

  clear() {
    this.abort?.abort();
    this.messages = [];
    for (const said of document.querySelectorAll("#log .said")) said.remove();
    byId("chat-empty").hidden = false;
    byId("say").focus();
  }

  add(kind, ...children) {
    byId("chat-empty").hidden = true;
    const said = element("div", {class: "said " + kind}, ...children);
    byId("log").append(said);
    this.scroll(true);
    return said;
  }

  // Follows what is written, unless the reader went back.
  scroll(always = false) {
    const log = byId("log");
    if (always || log.scrollHeight - log.scrollTop - log.clientHeight < 80) log.scrollTop = log.scrollHeight;
  }

  request(text) {
    const number = (id) => {
      const value = Number.parseFloat(byId(id).value);
      return Number.isFinite(value) ? value : undefined;
    };
    const common = {
      stream: true,
      stream_options: {include_usage: true},
      max_tokens: number("max-tokens"),
      temperature: number("temperature"),
    };
    return this.converses ? ["v1/chat/completions", {messages: this.messages, ...common}]
      : ["v1/completions", {prompt: text, ...common}];
  }

  async send(text) {
    if (this.abort || text.trim() === "") return;
    byId("say").value = "";
    this.add("user", text);
    this.messages.push({role: "user", content: text});
    const thought = element("div", {class: "thought"});
    const words = element("span", {class: "words"});
    const facts = element("small", {class: "facts"});
    const answer = this.add("model writing", thought, words, facts);
    this.busy(new AbortController());
    const begun = performance.now();
    let first = 0;
    let usage = null;
    let failure = "";
    try {
      const [path, body] = this.request(text);
      const response = await ask(path, {
        method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json"}, signal: this.abort.signal,
      });
      if (response.status === 401) this.keyWanted();
      if (!response.ok) {
        failure = await errorText(response);
      } else {
        await readEvents(response, (name, data) => {
          if (data === "[DONE]") return;
          const chunk = JSON.parse(data);
          if (chunk.error) failure = chunk.error.message;
          usage = chunk.usage ?? usage;
          const choice = chunk.choices?.[0];
          const said = choice?.delta?.content ?? choice?.text ?? "";
          const thinking = choice?.delta?.reasoning_content ?? "";
          if (!said && !thinking) return;
          first ||= performance.now();
          thought.append(thinking);
          words.append(said);
          this.scroll();
        });
      }
    } catch (error) {
      if (!this.abort.signal.aborted) failure = "the connection broke off: " + error.message;
    }
    const stopped = this.abort.signal.aborted;
    const now = performance.now();
    answer.classList.remove("writing");
    this.busy(null);
    if (words.textContent || thought.textContent) {
      this.messages.push({role: "assistant", content: words.textContent});
      facts.textContent = this.facts(usage, first - begun, now - first, stopped);
    } else {
      this.messages.pop(); // what was not answered is not a part of the conversation
      answer.remove();
    }
    if (failure) this.add("error", failure);
    this.scroll();
  }

  facts(usage, firstMs, writingMs, stopped) {
    const said = [];
    if (usage) said.push(`${countText(usage.completion_tokens)} tokens`);
    if (usage && usage.completion_tokens > 1) said.push(`${threeDigits(((usage.completion_tokens - 1) * 1000) / writingMs)} tokens/s`);
    said.push(`first after ${threeDigits(firstMs / 1000)} s`);
    if (stopped) said.push("stopped");
    return said.join(", ");
  }

  busy(abort) {
    this.abort = abort;
    byId("send").hidden = abort !== null;
    byId("stop").hidden = abort === null;
    byId("log").setAttribute("aria-busy", String(abort !== null));
    if (abort === null && document.activeElement === document.body) byId("say").focus();
  }
}
