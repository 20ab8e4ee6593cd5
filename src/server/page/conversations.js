
// Conversations as the browser keeps them: each under a name of its own, so that several tabs do not undo each other.
const kMostConversations = 60;
const kMostKept = 1_500_000; // characters of all together; browsers give about five million
const kKeptPrefix = "odmoe-chat:";

// {id, title, at (ms), system, messages: [{role, content, ...}]}
class Conversations {
  constructor() {
    this.unsaved = new Map(); // where the browser keeps nothing
    try {
      localStorage.length;
      this.storage = localStorage;
    } catch {
      this.storage = null;
    }
  }

  static make(system) {
    return {id: crypto.getRandomValues(new Uint32Array(2)).join("-"), title: "", at: Date.now(), system, messages: []};
  }

  keys() {
    if (!this.storage) return [...this.unsaved.keys()];
    return Object.keys(this.storage).filter((key) => key.startsWith(kKeptPrefix));
  }

  text(key) {
    return (this.storage ? this.storage.getItem(key) : this.unsaved.get(key)) ?? null;
  }

  read(key) {
    try {
      const kept = JSON.parse(this.text(key));
      const strings = ["id", "title", "system"].every((name) => typeof kept[name] === "string");
      const said = kept.messages.every((message) => typeof message.role === "string" && typeof message.content === "string");
      return strings && said && Number.isFinite(kept.at) ? kept : null;
    } catch {
      return null; // of another version of this page, or damaged
    }
  }

  // The latest first.
  list() {
    return this.keys().map((key) => this.read(key)).filter((kept) => kept !== null).sort((a, b) => b.at - a.at);
  }

  get(id) {
    return this.read(kKeptPrefix + id);
  }

  remove(id) {
    if (this.storage) this.storage.removeItem(kKeptPrefix + id);
    else this.unsaved.delete(kKeptPrefix + id);
  }

  // Makes room by forgetting the oldest others; false: it is too long to be kept.
  keep(conversation) {
    const key = kKeptPrefix + conversation.id;
    const text = JSON.stringify(conversation);
    if (text.length > kMostKept) return false;
    const others = this.list().filter(({id}) => id !== conversation.id);
    let sum = text.length + others.reduce((length, {id}) => length + this.text(kKeptPrefix + id).length, 0);
    const forget = () => {
      const {id} = others.pop();
      sum -= this.text(kKeptPrefix + id).length;
      this.remove(id);
    };
    while (others.length >= kMostConversations || sum > kMostKept) forget();
    for (;;) {
      try {
        if (this.storage) this.storage.setItem(key, text);
        else this.unsaved.set(key, text);
        return true;
      } catch { // full, of what else is kept for this address
        if (others.length === 0) return false;
        forget();
      }
    }
  }
}
