
// A conversation with the model, or text that it goes on with where it knows no conversations.
const kSuggestions = {
  chat: ["Who are you?", "Tell me a story about a king."],
  text: ["Once upon a time", "KING RICHARD:"],
};
const kTitleLength = 60;

// As the server takes it: without what only this page knows.
function sentMessage({role, content, reasoning_content, tool_calls, tool_call_id}) {
  return {role, content, reasoning_content, tool_calls, tool_call_id};
}

class Chat {
  constructor(keyWanted) {
    this.keyWanted = keyWanted;
    this.abort = null;
    this.converses = true;
    this.editing = null; // the number of the message that the next one replaces
    this.settings = new Settings();
    this.kept = new Conversations();
    this.history = new ConversationList(byId("history-list"), {
      list: () => this.kept.list(),
      current: () => this.current.id,
      open: (id) => this.open(this.kept.get(id)),
      rename: (id, title) => this.rename(id, title),
      remove: (id) => this.remove(id),
    });
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
    byId("cancel-edit").addEventListener("click", () => this.edit(null));
    byId("new").addEventListener("click", () => this.startNew());
    byId("system").addEventListener("change", () => {
      this.current.system = byId("system").value;
      this.keep();
    });
    byId("history-open").addEventListener("click", () => this.showHistory(byId("history").hidden));
    byId("history-close").addEventListener("click", () => this.showHistory(false));
    byId("settings-open").addEventListener("click", () => this.showSettings(byId("settings").hidden));
    document.addEventListener("keydown", (event) => event.key === "Escape" && !event.isComposing && this.escape());
    // What was written so far is kept when the page goes away in the middle of it.
    window.addEventListener("pagehide", () => {
      if (this.abort && !this.answering.empty) this.keep([...this.current.messages, this.answering.message()]);
    });
    window.addEventListener("storage", () => this.history.refresh()); // another tab
    this.suggest();
    this.open(this.kept.get(this.rememberedId()) ?? Conversations.make(""));
  }

  // Whether the server knows the model's way of conversing, and how long a text can be.
  setModel({chat: converses, context}) {
    this.settings.setContext(context);
    this.converses = converses;
    for (const id of ["thinking", "tools", "system"]) byId(id).disabled = !converses;
    this.suggest();
    this.label();
  }

  suggest() {
    byId("suggestions").replaceChildren(...kSuggestions[this.converses ? "chat" : "text"].map((text) => {
      const button = element("button", {type: "button"}, text);
      button.addEventListener("click", () => this.send(text));
      return button;
    }));
  }

  // ---- Which conversation ----

  rememberedId() {
    try {
      return sessionStorage.getItem("odmoe-chat") ?? "";
    } catch {
      return "";
    }
  }

  open(conversation) {
    if (!conversation) {
      this.history.refresh(); // another tab has deleted it
      return;
    }
    this.abort?.abort();
    this.current = conversation;
    this.editing = null;
    try {
      sessionStorage.setItem("odmoe-chat", conversation.id);
    } catch {
      // After a reload a new one is begun.
    }
    byId("system").value = conversation.system;
    this.show();
    this.showHistory(document.body.classList.contains("wide") && !byId("history").hidden);
  }

  startNew() {
    this.open(Conversations.make(this.current.system));
    byId("say").focus();
  }

  rename(id, title) {
    const conversation = id === this.current.id ? this.current : this.kept.get(id);
    if (conversation) {
      conversation.title = title;
      this.kept.keep(conversation);
    }
    this.named();
  }

  remove(id) {
    const isCurrent = id === this.current.id;
    if (isCurrent) {
      this.abort?.abort();
      this.current.deleted = true; // an answer that is being written does not bring it back
    }
    this.kept.remove(id);
    if (isCurrent) {
      const listed = !byId("history").hidden;
      this.open(Conversations.make(this.current.system));
      this.showHistory(listed);
    }
    this.named();
  }

  keep(messages = this.current.messages, conversation = this.current) {
    if (messages.length === 0) return;
    const kept = this.kept.keep({...conversation, messages});
    byId("not-kept").hidden = kept || conversation !== this.current;
    this.named();
  }

  named() {
    byId("chat-title").textContent = this.current.title || "New conversation";
    this.history.refresh();
  }

  showHistory(shown) {
    if (shown) this.history.refresh();
    const had = byId("history").contains(document.activeElement);
    byId("history").hidden = !shown;
    byId("history-open").setAttribute("aria-expanded", String(shown));
    if (shown) byId("history").querySelector("button").focus();
    else if (had) byId("history-open").focus();
  }

  showSettings(shown) {
    byId("settings").hidden = !shown;
    byId("settings-open").setAttribute("aria-expanded", String(shown));
    if (shown) byId("system").focus();
  }

  escape() {
    if (byId("key-dialog").open) return;
    if (this.abort) this.abort.abort();
    else if (this.editing !== null) this.edit(null);
    else if (!byId("history").hidden) this.showHistory(false);
    else if (!byId("settings").hidden) this.showSettings(false);
  }

  // ---- What is to be seen ----

  show() {
    for (const said of document.querySelectorAll("#log > .said")) said.remove();
    byId("chat-empty").hidden = this.current.messages.length > 0;
    byId("not-kept").hidden = true;
    this.current.messages.forEach((message, i) => this.add(this.node(message, i)));
    this.named();
    this.label();
  }

  node(message, i) {
    if (message.role === "assistant") {
      const answer = Answer.of(message);
      this.addActions(answer);
      return answer.root;
    }
    if (message.role === "tool") {
      return element("article", {class: "said tool", "aria-label": "Result of a call"},
        element("p", {}, "Result of ", element("code", {}, message.name ?? "the call")), element("pre", {tabindex: "0"}, message.content));
    }
    const edit = element("button", {type: "button", class: "plain"}, "Edit");
    edit.addEventListener("click", () => this.edit(i));
    return element("article", {class: "said user", "aria-label": "You"}, element("div", {class: "words"}, message.content),
      element("span", {class: "actions"}, edit));
  }

  addActions(answer) {
    const again = element("button", {type: "button", class: "plain again"}, "Regenerate");
    again.addEventListener("click", () => this.regenerate());
    answer.actions.append(copyButton("Copy the answer", () => answer.content), again);
  }

  add(node) {
    byId("chat-empty").hidden = true;
    byId("log").append(node);
    this.scroll(true);
    return node;
  }

  error(text) {
    this.add(element("div", {class: "said error", role: "alert"}, text));
  }

  // Follows what is written, unless the reader went back.
  scroll(always = false) {
    const log = byId("log");
    if (always || log.scrollHeight - log.scrollTop - log.clientHeight < 120) log.scrollTop = log.scrollHeight;
  }

  // What the field is for.
  label() {
    const call = this.pendingCall();
    const text = this.editing !== null ? "In place of your earlier message"
      : call ? `Result of ${call.function.name}`
        : this.converses ? "Message" : "Text to go on with (the model's chat template is not known)";
    byId("say-label").textContent = text;
    byId("say-label").classList.toggle("unseen", text === "Message");
    byId("cancel-edit").hidden = this.editing === null;
    document.querySelectorAll("#log > .said").forEach((node, i) => {
      node.classList.toggle("leaving", this.editing !== null && i >= this.editing);
    });
  }

  // ---- What is said ----

  // The call that waits for its result, if there is one.
  pendingCall() {
    const {messages} = this.current;
    const at = messages.findLastIndex((message) => message.role !== "tool");
    return messages[at]?.tool_calls?.[messages.length - 1 - at] ?? null;
  }

  // Takes the message up to write another in its place, and leaves out what came after it; null: not after all.
  edit(i) {
    if (this.abort) return;
    if (i !== null || this.editing !== null) byId("say").value = i === null ? "" : this.current.messages[i].content;
    this.editing = i;
    this.label();
    byId("say").focus();
  }

  async send(text) {
    if (this.abort || text.trim() === "") return;
    for (const said of document.querySelectorAll("#log > .error")) said.remove();
    const {messages} = this.current;
    if (this.editing !== null) {
      messages.length = this.editing;
      this.editing = null;
      this.show();
    }
    const call = this.pendingCall();
    messages.push(call ? {role: "tool", tool_call_id: call.id, name: call.function.name, content: text} : {role: "user", content: text});
    this.add(this.node(messages.at(-1), messages.length - 1));
    this.current.title ||= text.trim().split("\n", 1)[0].slice(0, kTitleLength);
    this.current.at = Date.now();
    byId("say").value = "";
    this.keep();
    this.label();
    if (this.pendingCall() === null) await this.answer(null);
  }

  async regenerate() {
    if (this.abort || this.current.messages.at(-1)?.role !== "assistant") return;
    const before = this.current.messages.pop();
    this.show();
    await this.answer(before);
  }

  // Asks for the answer to what is said; where there is none, `before` is the answer again, or the text goes back into the field.
  async answer(before) {
    const conversation = this.current;
    const answer = new Answer();
    this.answering = answer;
    answer.root.classList.add("writing");
    this.add(answer.root);
    const abort = new AbortController();
    this.busy(abort);
    const begun = performance.now();
    const state = {first: 0, usage: null, finish: "", failure: ""};
    try {
      await this.ask(answer, state, abort.signal);
    } catch (error) {
      if (!abort.signal.aborted) state.failure = error.message;
    }
    const now = performance.now();
    answer.finish();
    answer.root.classList.remove("writing");
    this.busy(null);
    if (!answer.empty) {
      answer.facts.textContent = this.facts(state, state.first - begun, now - state.first, abort.signal.aborted);
      this.addActions(answer);
      conversation.messages.push(answer.message());
    } else {
      answer.root.remove();
      this.takeBack(conversation, before);
    }
    if (conversation.deleted) return;
    if (conversation.messages.length > 0) this.keep(conversation.messages, conversation);
    else this.kept.remove(conversation.id);
    if (conversation !== this.current) return;
    if (state.failure) this.error(state.failure);
    this.named();
    this.label();
    this.scroll();
  }

  // What was not answered is not a part of the conversation, but is not lost either.
  takeBack(conversation, before) {
    if (before) {
      conversation.messages.push(before);
    } else {
      const {content} = conversation.messages.pop() ?? {content: ""};
      if (conversation === this.current && byId("say").value === "") byId("say").value = content;
    }
    if (conversation === this.current) this.show();
  }

  async ask(answer, state, signal) {
    const {messages, system} = this.current;
    const common = {stream: true, stream_options: {include_usage: true}, ...this.settings.request(this.converses)};
    const said = (system.trim() ? [{role: "system", content: system}] : []).concat(messages.map(sentMessage));
    const [path, body] = this.converses ? ["v1/chat/completions", {messages: said, ...common}]
      : ["v1/completions", {prompt: messages.at(-1).content, ...common}];
    const response = await ask(path, {method: "POST", body: JSON.stringify(body), headers: {"Content-Type": "application/json"}, signal})
      .catch((error) => {
        throw new Error("the server cannot be reached: " + error.message);
      });
    if (response.status === 401) this.keyWanted();
    if (!response.ok) throw new Error(await errorText(response));
    await readEvents(response, (name, data) => {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      state.usage = chunk.usage ?? state.usage;
      const choice = chunk.choices?.[0];
      state.finish = choice?.finish_reason ?? state.finish;
      const delta = choice?.delta ?? {content: choice?.text};
      if (!delta.content && !delta.reasoning_content && !delta.tool_calls) return;
      state.first ||= performance.now();
      answer.take(delta, () => this.scroll());
    });
  }

  facts({usage, finish}, firstMs, writingMs, stopped) {
    const said = [];
    if (usage) said.push(`${countText(usage.completion_tokens)} tokens`);
    if (usage && usage.completion_tokens > 1) said.push(`${threeDigits(((usage.completion_tokens - 1) * 1000) / writingMs)} tokens/s`);
    said.push(`first after ${threeDigits(firstMs / 1000)} s`);
    if (finish === "length") said.push("cut at the most tokens");
    if (stopped) said.push("stopped");
    return said.join(", ");
  }

  busy(abort) {
    this.abort = abort;
    byId("send").hidden = abort !== null;
    byId("stop").hidden = abort === null;
    byId("log").setAttribute("aria-busy", String(abort !== null));
    byId("log").classList.toggle("busy", abort !== null);
    if (abort === null && document.activeElement === document.body) byId("say").focus();
  }
}
