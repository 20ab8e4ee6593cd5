
// The tiles: a number, a line that explains it, a curve of the last minute.
const kCurvePoints = 240; // a minute of four a second

// Of several machines (docs/scale.md) what the others hold, and how long they were waited for.
function ranksText(ranks) {
  return ranks.slice(1).map((one) =>
    `; rank ${one.rank} (${one.host}): ${bytesText(one.arena_bytes)}, hit rate ${percentText(one.hit_rate)}, read ${bytesText(one.read_bytes)}, ` +
    `waited for ${threeDigits(one.wait_us * 1e-6)} s`).join("");
}

// How memory is divided, as shares of so many bytes.
function partsOf(memory, bytes) {
  return ["dense", "kv", "arena", "buffer"].map((name) => [name, memory[name + "_bytes"] / bytes]);
}

function deviceBytes(device) {
  return device.dense_bytes + device.kv_bytes + device.arena_bytes + device.buffer_bytes;
}

// `when`: whether there is anything to show; always, where it is missing.  `divided`: `parts` instead of a curve.
const kFigures = [
  {
    id: "speed", label: "Writing",
    tip: "Tokens written per second of decoding, all sessions together, over the last three seconds.",
    show: (s) => ({
      value: [s.now.tokens_per_second === null ? kUnknown : threeDigits(s.now.tokens_per_second), "tokens/s"],
      note: s.now.prefill_tokens_per_second === null
        ? `${countText(s.total.tokens)} tokens since the start`
        : `prompts: ${threeDigits(s.now.prefill_tokens_per_second)} tokens/s`,
      point: s.now.tokens_per_second,
    }),
  },
  {
    id: "hits", label: "Hit rate", most: 1,
    tip: "Of the experts that tokens asked for in the last three seconds, the share that was in memory. Each of the others waits for the drive.",
    show: (s) => ({
      value: percentOf(s.now.hit_rate),
      note: `since the start ${percentText(s.total.hit_rate)}`,
      point: s.now.hit_rate,
    }),
  },
  {
    id: "late", label: "Late hits", most: 1,
    tip: "Experts that were asked for while they were being read already, for a guess or for another session: part of the wait was saved.",
    show: (s) => ({
      value: percentOf(s.now.late_hit_rate),
      note: `since the start ${percentText(s.total.late_hit_rate)}`,
      point: s.now.late_hit_rate,
    }),
  },
  {
    id: "stall", label: "Stall", most: 1,
    tip: "The share of the computing time that the processor waited for reads. At 0 % memory is not a limit; near 100 % the drive sets the speed.",
    show: (s) => ({
      value: percentOf(s.now.stall_share),
      note: "of the time, waiting for the drive",
      point: s.now.stall_share,
    }),
  },
  {
    id: "reads", label: "Reads",
    tip: "Bytes of experts read per second, over the last three seconds. The dashed line is what the drive could do when it was tried out.",
    show: (s) => {
      const [value, unit] = bytesOf(s.now.read_bytes_per_second);
      const probed = s.drive.probed_bytes_per_second;
      const failed = s.drive.failed_copies > 0 ? ` (${s.drive.failed_copies} copies failed)` : "";
      return {
        value: [value, unit && unit + "/s"],
        note: (probed === null ? "the drive was not tried out" : `of ${bytesText(probed)}/s that it can do`) + failed,
        point: s.now.read_bytes_per_second,
        limit: probed,
      };
    },
  },
  {
    id: "ahead", label: "Read ahead", most: 1,
    tip: "Experts of the layers to come are guessed and read early where trials show that it pays. The number is the share of them that was then used.",
    show: (s) => ({
      value: s.predictor.accuracy === null ? [s.predictor.prefetching ? kUnknown : "off", ""]
        : percentOf(s.predictor.accuracy),
      note: s.predictor.name === "none" ? "there is no predictor"
        : `${s.predictor.name}, ${s.predictor.prefetching ? "on" : "off: it does not pay now"}`,
      point: s.predictor.accuracy,
    }),
  },
  {
    id: "memory", label: "Memory", divided: true,
    tip: "What the process holds, of the budget that it was given. The bar is how the budget is divided: dense weights (grey), KV caches (amber), experts (blue), buffers (pale).",
    show: (s) => ({
      value: bytesOf(s.memory.resident_bytes),
      note: `of ${bytesText(s.memory.budget_bytes)}, room for ${countText(s.memory.slots)} experts` + ranksText(s.cluster.ranks),
      parts: partsOf(s.memory, s.memory.budget_bytes),
    }),
  },
  {
    id: "device", label: "Device memory", divided: true, when: (s) => s.device.name !== null,
    tip: "What is taken of the memory of the device that computes all but the routed experts, and how it is divided: dense weights (grey), KV caches (amber), experts (blue), buffers (pale).",
    show: (s) => ({
      value: bytesOf(deviceBytes(s.device)),
      note: s.device.name + (s.device.budget_bytes > 0 ? `, of ${bytesText(s.device.budget_bytes)}` : "") +
        (s.device.shares_host_memory ? ", counted in the memory beside it" : ""),
      parts: partsOf(s.device, Math.max(s.device.budget_bytes, deviceBytes(s.device))),
    }),
  },
  {
    id: "on-device", label: "On the device", most: 1, when: (s) => s.device.slots > 0,
    tip: "Of the experts that were asked for since the start, the share that was in the device's own memory. The others are copied there from the host's, and those that make room may still be in the host's.",
    show: (s) => ({
      value: percentOf(s.device.hit_rate),
      note: `${countText(s.device.experts)} of ${countText(s.device.slots)} experts; ${bytesText(s.device.copied_bytes)} copied, ` +
        `${countText(s.device.evictions)} made room, ${countText(s.device.evicted_to_host)} of them still on the host`,
      point: s.device.hit_rate,
    }),
  },
  {
    id: "exchange", label: "Exchange", when: (s) => s.device.sent_bytes_per_layer !== null,
    tip: "What a layer of experts takes between the host and the device while tokens are written, since the start: the time to give bytes and graphs to the driver, and to wait for it.",
    show: (s) => {
      const us = s.device.exchange_us_per_layer + s.device.launch_us_per_layer + s.device.wait_us_per_layer;
      return {
        value: [threeDigits(us / 1000), "ms/layer"],
        note: `${bytesText(s.device.sent_bytes_per_layer)} there, ${bytesText(s.device.fetched_bytes_per_layer)} back; ` +
          `${threeDigits(s.device.graphs_per_token)} graphs for each token`,
        point: us,
      };
    },
  },
  {
    id: "sessions", label: "Sessions",
    tip: "Texts being written now, of as many as can be at once, and requests that wait for their turn.",
    show: (s) => ({
      value: [String(s.sessions.running), "of " + s.sessions.most],
      note: `${s.sessions.queued} waiting, ${s.sessions.most_queued} may`,
      point: s.sessions.running + s.sessions.queued,
      limit: s.sessions.most,
    }),
  },
];

function svg(name, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A small curve; a point that is null leaves a gap.
class Curve {
  constructor(most) {
    this.most = most;
    this.points = [];
    this.root = svg("svg", {class: "curve", viewBox: `0 0 ${kCurvePoints} 100`, preserveAspectRatio: "none", "aria-hidden": "true"});
    this.area = svg("path", {class: "area"});
    this.line = svg("path", {class: "line"});
    this.limit = svg("line", {class: "limit", x1: 0, x2: kCurvePoints, visibility: "hidden"});
    this.root.append(svg("line", {class: "base", x1: 0, x2: kCurvePoints, y1: 100, y2: 100}), this.area, this.line, this.limit);
  }

  add(point, limit) {
    this.points.push(point ?? null);
    if (this.points.length > kCurvePoints) this.points.shift();
    const known = this.points.filter((value) => value !== null);
    const most = this.most ?? Math.max(...known, limit ?? 0, 1e-9) * 1.05;
    const first = kCurvePoints - this.points.length;
    let line = "";
    let area = "";
    let open = false;
    this.points.forEach((value, i) => {
      const x = first + i;
      if (value === null) {
        if (open) area += `V100Z`;
        open = false;
        return;
      }
      const y = (100 * (1 - value / most)).toFixed(1);
      line += `${open ? "L" : "M"}${x} ${y}`;
      area += open ? `L${x} ${y}` : `M${x} 100L${x} ${y}`;
      open = true;
    });
    if (open) area += "V100Z";
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
    if (limit) {
      const y = 100 * (1 - limit / most);
      this.limit.setAttribute("y1", y);
      this.limit.setAttribute("y2", y);
    }
    this.limit.setAttribute("visibility", limit ? "visible" : "hidden");
  }
}

class Figures {
  constructor(root) {
    this.tiles = kFigures.map((figure) => {
      const value = element("p", {class: "value", id: "figure-" + figure.id}, kUnknown);
      const note = element("p", {class: "note"}, "\u00a0");
      const why = element("button", {class: "why", type: "button", "aria-label": "What is " + figure.label + "?", "aria-describedby": "tip-" + figure.id}, "?");
      const tip = element("span", {class: "tip", role: "tooltip", id: "tip-" + figure.id}, figure.tip);
      why.addEventListener("keydown", (event) => event.key === "Escape" && why.blur());
      const tile = element("article", {class: "figure"},
        element("div", {class: "figure-head"}, element("h3", {}, figure.label), why, tip), value);
      const parts = figure.divided ? element("div", {class: "parts"}) : null;
      const curve = parts ? null : new Curve(figure.most);
      tile.append(parts ?? curve.root, note);
      tile.hidden = figure.when !== undefined;
      root.append(tile);
      return {figure, tile, value, note, parts, curve};
    });
  }

  update(state) {
    for (const {figure, tile, value, note, parts, curve} of this.tiles) {
      tile.hidden = figure.when !== undefined && !figure.when(state);
      if (tile.hidden) continue;
      const shown = figure.show(state);
      value.replaceChildren(shown.value[0], element("small", {}, shown.value[1]));
      note.textContent = shown.note;
      curve?.add(shown.point, shown.limit);
      parts?.replaceChildren(...shown.parts.map(([name, share]) => {
        const part = element("span", {class: name});
        part.style.width = 100 * Math.min(share, 1) + "%";
        return part;
      }));
    }
  }
}
