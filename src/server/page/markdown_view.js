
// What was read of Markdown as elements.  They are made one by one, and text is only ever text: nothing that a model writes
// is read as HTML.
const kMostInline = 16; // marks in each other; what is deeper is not marked

function inlineNodes(text) {
  const root = document.createDocumentFragment();
  const open = [root];
  let deeper = 0;
  for (const token of readInline(text)) {
    if (token.open) {
      if (open.length > kMostInline) {
        deeper++;
        continue;
      }
      const made = element(token.open, token.open === "a" ? {href: token.href, rel: "noopener noreferrer", target: "_blank"} : {});
      open.at(-1).append(made);
      open.push(made);
    } else if (token.close) {
      if (deeper > 0) deeper--;
      else open.pop();
    } else if (token.code !== undefined) {
      open.at(-1).append(element("code", {}, token.code));
    } else {
      open.at(-1).append(token.line ? element("br") : token.text);
    }
  }
  return root;
}

// Where there is no clipboard (a page that came over HTTP from another machine) the text is selected and copied as by hand.
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = element("textarea", {class: "unseen", "aria-hidden": "true"});
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("nothing was copied");
}

function copyButton(label, text) {
  const button = element("button", {type: "button", class: "plain", "aria-label": label}, "Copy");
  button.addEventListener("click", async () => {
    try {
      await copyText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

// Code with its language and a button that copies it; it can grow at its end.
class CodeBlock {
  constructor(language, text) {
    this.language = language;
    this.text = text;
    this.shown = document.createTextNode(text);
    this.root = element("div", {class: "code"},
      element("div", {class: "code-head"}, element("span", {}, language.slice(0, 40) || "text"), copyButton("Copy the code", () => this.text)),
      element("pre", {tabindex: "0"}, element("code", {}, this.shown)));
    CodeBlock.of.set(this.root, this);
  }

  // Becomes the block that is now read where this one was: longer, or without what was a part of the fence at its end.
  // False: it is another.
  becomes(block) {
    if (block.kind !== "code" || block.language !== this.language) return false;
    if (block.text.startsWith(this.text)) this.shown.appendData(block.text.slice(this.text.length));
    else if (this.text.startsWith(block.text)) this.shown.deleteData(block.text.length, this.text.length);
    else return false;
    this.text = block.text;
    return true;
  }
}
CodeBlock.of = new WeakMap(); // element -> its CodeBlock

function tableNode({align, head, rows}) {
  const row = (tag, cells) => element("tr", {}, ...cells.map((cell, i) => {
    const made = element(tag, align[i] ? {class: align[i]} : {});
    made.append(inlineNodes(cell));
    return made;
  }));
  return element("div", {class: "table", role: "region", "aria-label": "Table", tabindex: "0"},
    element("table", {}, element("thead", {}, row("th", head)), element("tbody", {}, ...rows.map((cells) => row("td", cells)))));
}

function listNode({number, loose, items}) {
  const list = number === null ? element("ul") : element("ol", number === 1 ? {} : {start: number});
  for (const {task, blocks} of items) {
    const item = element("li", task === null ? {} : {class: "task"});
    if (task !== null) item.append(element("span", {role: "img", "aria-label": task ? "done" : "to do"}, task ? "\u2611" : "\u2610"), " ");
    for (const block of blocks) item.append(!loose && block.kind === "paragraph" ? inlineNodes(block.text) : blockNode(block));
    list.append(item);
  }
  return list;
}

function blockNode(block) {
  const filled = (name) => {
    const made = element(name);
    made.append(inlineNodes(block.text));
    return made;
  };
  switch (block.kind) {
    case "heading": return filled("h" + Math.min(block.level + 2, 6)); // below those of the page
    case "rule": return element("hr");
    case "code": return new CodeBlock(block.language, block.text).root;
    case "quote": return element("blockquote", {}, ...block.blocks.map(blockNode));
    case "list": return listNode(block);
    case "table": return tableNode(block);
    default: return filled("p");
  }
}

// A text that grows.  Blocks that nothing more can change are made once; show() makes anew what comes after them, and
// code that grows is only added to.
class MarkdownView {
  constructor(root) {
    this.root = root;
    this.stable = 0; // characters of the text before the tail
    this.tail = [];
  }

  // The whole text: what it was, and more.
  show(text) {
    const lines = text.slice(this.stable).split("\n");
    const blocks = readBlocks(lines);
    // Whether a block begins on a line depends on that one and the next, and the last one may still grow.
    const first = Math.max(0, blocks.findLastIndex((block) => block.begin <= lines.length - 3));
    const made = blocks.map((block, i) => {
      const before = i === 0 && this.tail.length > 0 ? CodeBlock.of.get(this.tail[0]) : undefined;
      return before?.becomes(block) ? before.root : blockNode(block);
    });
    for (const old of this.tail) {
      if (old !== made[0]) old.remove();
    }
    this.root.append(...(made[0]?.parentNode === this.root ? made.slice(1) : made));
    this.tail = made.slice(first);
    for (let i = 0; blocks.length > 0 && i < blocks[first].begin; ++i) this.stable += lines[i].length + 1;
  }
}
