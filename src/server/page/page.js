
// Puts the parts of the page together.
function modelText(model) {
  const [value, unit] = bytesOf(model.file_bytes);
  return [element("b", {}, model.name || model.id),
    ` \u00b7 ${model.architecture} \u00b7 ${value}\u00a0${unit} \u00b7 context ${countText(model.context)}`];
}

function setTheme(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
  }
}

function savedTheme() {
  try {
    return localStorage.getItem("odmoe-theme") || "auto";
  } catch {
    return "auto";
  }
}

function saveTheme(choice) {
  try {
    localStorage.setItem("odmoe-theme", choice);
  } catch {
    // It holds until the page is closed.
  }
}

setTheme(savedTheme());
const figures = new Figures(byId("figures"));
const map = new ExpertMap(byId("map"), byId("map-readout"), byId("map-empty"));

for (const button of document.querySelectorAll("[data-theme-choice]")) {
  button.addEventListener("click", () => {
    setTheme(button.dataset.themeChoice);
    saveTheme(button.dataset.themeChoice);
    map.recolor();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => map.recolor());

function askForKey() {
  const dialog = byId("key-dialog");
  if (dialog.open) return;
  byId("key-text").value = "";
  dialog.showModal();
}

const chat = new Chat(askForKey);
const feed = new Feed({
  status(state, text) {
    if (byId("status").dataset.state === state && byId("status-text").textContent === text) return;
    byId("status").dataset.state = state;
    byId("status-text").textContent = text;
    if (map.layers.length === 0) byId("map-empty").textContent = text[0].toUpperCase() + text.slice(1) + ".";
  },
  keyWanted: askForKey,
  model(model) {
    byId("model").replaceChildren(...modelText(model));
    document.title = `${model.id} \u00b7 odmoe`;
    map.setModel(model.layers);
    byId("map-shape").textContent = `${model.layers.length} layers of ${map.columns}; a token takes ${model.n_expert_used} of each`;
    chat.setModel(model);
  },
  state(state) {
    figures.update(state);
    const counts = map.update(state.map, state.whole);
    for (const place in counts) byId("count-" + place).textContent = countText(counts[place]);
    byId("map").setAttribute("aria-label", `Map of the experts: ${counts.r} in memory, ${counts.l} loading, ${counts.e} evicted, ${counts.a} never used`);
  },
});

// The conversation alone, or beside the figures and the map.
byId("wide").addEventListener("click", () => {
  const wide = document.body.classList.toggle("wide");
  byId("wide").setAttribute("aria-pressed", String(wide));
});

byId("key").addEventListener("click", askForKey);
byId("key-cancel").addEventListener("click", () => byId("key-dialog").close(""));
byId("key-dialog").addEventListener("close", () => {
  if (byId("key-dialog").returnValue !== "use") return;
  apiKey.set(byId("key-text").value.trim());
  feed.start();
});
feed.start();
