
// What comes from the server: the live events, and answers to what is asked of it.

// The key that the server asks for, kept as long as this tab.
const apiKey = {
  get() {
    try {
      return sessionStorage.getItem("odmoe-api-key") || "";
    } catch {
      return this.unsaved || "";
    }
  },
  set(key) {
    this.unsaved = key;
    try {
      sessionStorage.setItem("odmoe-api-key", key);
    } catch {
      // No storage: it is asked for again after a reload.
    }
  },
};

function ask(path, options = {}) {
  const headers = {...options.headers};
  if (apiKey.get()) headers.Authorization = "Bearer " + apiKey.get();
  return fetch(path, {...options, headers, credentials: "omit", cache: "no-store"});
}

// What an answer that is not a success says.
async function errorText(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return "the server answered with status " + response.status;
  }
}

// Calls take(name, data) for every event of a stream (text/event-stream), data being text.
async function readEvents(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    held += value;
    let end;
    while ((end = held.indexOf("\n\n")) >= 0) {
      let name = "message";
      let data = "";
      for (const line of held.slice(0, end).split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        if (line.startsWith("data: ")) data += line.slice(6);
      }
      held = held.slice(end + 2);
      if (data) take(name, data);
    }
  }
}

// Listens to the live events for as long as the page is to be seen, and begins anew when they break off.
class Feed {
  // on: {status(state, text), keyWanted(), model(data), state(data)}
  constructor(on) {
    this.on = on;
    this.again = 0;
    this.abort = null;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.start()));
  }

  start() {
    this.stop();
    this.abort = new AbortController();
    this.listen(this.abort);
  }

  stop() {
    clearTimeout(this.again);
    this.abort?.abort();
    this.abort = null;
  }

  async listen(abort) {
    let why = "the connection broke off";
    try {
      const response = await ask("v1/events", {signal: abort.signal});
      if (response.status === 401) {
        this.on.status("error", apiKey.get() ? "the key was not accepted" : "a key is needed");
        this.on.keyWanted();
        return;
      }
      if (!response.ok) {
        why = await errorText(response);
      } else {
        await readEvents(response, (name, data) => {
          if (name === "loading") this.on.status("connecting", "the model is loading");
          if (name === "end") why = JSON.parse(data).reason;
          if (name === "model") this.on.model(JSON.parse(data));
          if (name === "state") {
            this.on.status("live", "live");
            this.on.state(JSON.parse(data));
          }
        });
      }
    } catch (error) {
      if (abort.signal.aborted) return;
      if (!(error instanceof TypeError)) throw error; // TypeError: the network
      why = "the server cannot be reached";
    }
    if (abort.signal.aborted) return;
    this.on.status("error", why + "; trying again");
    this.again = setTimeout(() => this.start(), 2000);
  }
}
