
// The map: a row for each layer with experts, a cell for each expert.

// What a letter of the feed says: where the expert is, and how much it lights up.
const kLetters = {
  a: ["a", 0], e: ["e", 0], l: ["l", 0], r: ["r", 0],
  E: ["e", 1], L: ["l", 1], R: ["r", 1],
  F: ["e", 0.4], M: ["l", 0.4], S: ["r", 0.4],
};
const kPlaces = {a: "never used", e: "evicted", l: "loading", r: "in memory"};
const kFadeMs = 700; // a light falls to a third in this time

// "rgb(1, 2, 3)" or "color(srgb ...)" as four bytes of an image.
function colorBytes(text) {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
}

class ExpertMap {
  constructor(canvas, readout, empty) {
    this.canvas = canvas;
    this.readout = readout;
    this.empty = empty;
    this.layers = []; // [number, experts]
    this.cursor = null;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.drawing = false;
    new ResizeObserver(() => this.fit()).observe(canvas.parentElement);
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.show(null));
    canvas.addEventListener("keydown", (event) => this.step(event));
    canvas.addEventListener("blur", () => this.show(null));
    this.recolor();
  }

  // After the theme changed.
  recolor() {
    const style = getComputedStyle(document.documentElement);
    const probe = element("span");
    document.body.append(probe);
    const color = (name) => {
      probe.style.color = `var(--${name})`;
      return colorBytes(getComputedStyle(probe).color);
    };
    this.colors = {a: ["absent", "absent"], e: ["evicted", "evicted-lit"], l: ["loading", "loading-lit"], r: ["resident", "resident-lit"]};
    for (const place in this.colors) this.colors[place] = this.colors[place].map(color);
    this.cursorColor = style.color;
    probe.remove();
    this.draw();
  }

  setModel(layers) {
    this.layers = layers;
    this.columns = Math.max(1, ...layers.map(([, n]) => n));
    this.starts = [];
    let n = 0;
    for (const [, experts] of layers) {
      this.starts.push(n);
      n += experts;
    }
    this.places = new Array(n).fill("a");
    this.heat = new Float32Array(n);
    this.watched = new Uint32Array(n);
    this.image = new ImageData(this.columns, Math.max(1, layers.length));
    this.small = new OffscreenCanvas(this.image.width, this.image.height);
    this.cursor = null;
    this.empty.hidden = n > 0;
    this.empty.textContent = "This model has no experts.";
    this.fit();
  }

  // Applies the changes of a state event: letters, and numbers of cells to pass over.
  update(changes, whole) {
    const counts = {a: 0, e: 0, l: 0, r: 0};
    let at = 0;
    for (const [token] of changes.matchAll(/\d+|[a-zA-Z]/g)) {
      if (/^\d/.test(token)) {
        at += Number(token);
        continue;
      }
      if (at >= this.places.length) break;
      const [place, light] = kLetters[token] ?? kLetters.a;
      if (light > 0) {
        this.heat[at] = Math.max(this.heat[at], light);
        this.watched[at]++;
      } else if (place === "e" && this.places[at] === "r" && !whole) {
        this.heat[at] = Math.max(this.heat[at], 0.5); // it went just now
      }
      this.places[at++] = place;
    }
    for (const place of this.places) counts[place]++;
    if (this.calm.matches) this.heat.fill(0);
    this.startDrawing();
    this.tell();
    return counts;
  }

  // Cells as wide as there is room, and not much higher.
  fit() {
    if (this.layers.length === 0) return;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.floor(this.canvas.parentElement.clientWidth * ratio);
    this.cellWidth = Math.max(1, width / this.columns);
    const high = Math.floor((Math.max(240, window.innerHeight - 480) * ratio) / this.layers.length);
    this.cellHeight = Math.max(Math.min(high, Math.floor(4 * this.cellWidth)), Math.ceil(3 * ratio));
    this.canvas.width = Math.round(this.cellWidth * this.columns);
    this.canvas.height = this.cellHeight * this.layers.length;
    this.canvas.style.height = this.canvas.height / ratio + "px";
    this.draw();
  }

  startDrawing() {
    if (this.drawing) return;
    this.drawing = true;
    let last = performance.now();
    const step = (now) => {
      const fade = Math.exp(-(now - last) / kFadeMs);
      last = now;
      let lit = false;
      for (let i = 0; i < this.heat.length; ++i) {
        if (this.heat[i] === 0) continue;
        this.heat[i] = this.heat[i] * fade < 0.02 ? 0 : this.heat[i] * fade;
        lit = true;
      }
      this.draw();
      this.drawing = lit;
      if (lit) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  draw() {
    if (this.layers.length === 0) return;
    const pixels = this.image.data;
    pixels.fill(0);
    this.layers.forEach(([, experts], row) => {
      for (let i = 0; i < experts; ++i) {
        const expert = this.starts[row] + i;
        const [rest, lit] = this.colors[this.places[expert]];
        const heat = this.heat[expert];
        const at = 4 * (row * this.columns + i);
        for (let c = 0; c < 3; ++c) pixels[at + c] = rest[c] + (lit[c] - rest[c]) * heat;
        pixels[at + 3] = 255;
      }
    });
    this.small.getContext("2d").putImageData(this.image, 0, 0);
    const {width, height} = this.canvas;
    const canvas = this.canvas.getContext("2d");
    canvas.imageSmoothingEnabled = false;
    canvas.clearRect(0, 0, width, height);
    canvas.drawImage(this.small, 0, 0, width, height);
    const gap = this.cellWidth >= 8 ? 2 : 1;
    if (this.cellWidth >= 4) {
      for (let x = 1; x <= this.columns; ++x) canvas.clearRect(Math.round(x * this.cellWidth) - gap, 0, gap, height);
    }
    if (this.cellHeight >= 4) {
      for (let y = 1; y <= this.layers.length; ++y) canvas.clearRect(0, y * this.cellHeight - gap, width, gap);
    }
    if (this.cursor) {
      canvas.strokeStyle = this.cursorColor;
      canvas.lineWidth = 2;
      canvas.strokeRect(Math.round(this.cursor.column * this.cellWidth) - 1, this.cursor.row * this.cellHeight - 1, this.cellWidth + 2 - gap, this.cellHeight + 2 - gap);
    }
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    this.show({
      column: Math.floor(((event.clientX - box.left) / box.width) * this.columns),
      row: Math.floor(((event.clientY - box.top) / box.height) * this.layers.length),
    });
  }

  step(event) {
    const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    if (!(event.key in moves) || this.layers.length === 0) return;
    event.preventDefault();
    const [dx, dy] = moves[event.key];
    const {column, row} = this.cursor ?? {column: -dx, row: -dy};
    const to = Math.min(Math.max(row + dy, 0), this.layers.length - 1);
    this.show({column: Math.min(Math.max(column + dx, 0), this.layers[to][1] - 1), row: to});
  }

  show(cursor) {
    const there = cursor && this.layers[cursor.row] && cursor.column >= 0 && cursor.column < this.layers[cursor.row][1];
    this.cursor = there ? cursor : null;
    this.tell();
    this.draw();
  }

  tell() {
    if (!this.cursor) {
      this.readout.textContent = "Point at an expert, or go to the map and use the arrow keys.";
      return;
    }
    const expert = this.starts[this.cursor.row] + this.cursor.column;
    this.readout.textContent = `Layer ${this.layers[this.cursor.row][0]}, expert ${this.cursor.column}: ` +
      `${kPlaces[this.places[expert]]}, lit up ${countText(this.watched[expert])} times since this page was opened`;
  }
}
