
// Markdown as models write it, read into plain objects; nothing here touches the page.
//
// It is CommonMark with GitHub's tables, ~~strokes~~, tasks and bare addresses, but: a line's end is a line's end, four
// spaces do not make code, `===` and `---` below a text do not make a heading, HTML is text except <br>, and what is
// between \( \), \[ \] or $$ is left as it stands.  Every text is read in about linear time.
const kMostNested = 12; // quotes and lists in each other; what is deeper is text
const kMostCells = 6000; // a larger table is shown as it was written
const kMostAddress = 2000; // characters

// The address where a link may lead to it, else null: nothing but other pages and mail.
function safeAddress(text) {
  if (text.length > kMostAddress) return null;
  try {
    const url = new URL(text);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

// ---- Blocks ----

function isBlank(line) {
  return line.trim() === "";
}

// [columns, characters] of the white space at the beginning.
function indentOf(line) {
  let columns = 0;
  let at = 0;
  for (; at < line.length; ++at) {
    if (line[at] === " ") columns++;
    else if (line[at] === "\t") columns += 4 - (columns % 4);
    else break;
  }
  return [columns, at];
}

// The line without so many columns of white space, or with all that it has removed.
function withoutIndent(line, columns) {
  const [have, length] = indentOf(line);
  return " ".repeat(Math.max(0, have - columns)) + line.slice(length);
}

function fenceOf(line) {
  const match = /^( {0,3})(`{3,}|~{3,})(.*)$/.exec(line);
  if (!match || (match[2][0] === "`" && match[3].includes("`"))) return null;
  return {indent: match[1].length, mark: match[2][0], length: match[2].length, language: match[3].trim().split(/\s/, 1)[0]};
}

function closesFence(line, fence) {
  const [indent, at] = indentOf(line);
  const rest = line.slice(at).trimEnd();
  return indent < 4 && rest.startsWith(fence.mark.repeat(fence.length)) && [...rest].every((c) => c === fence.mark);
}

function headingOf(line) {
  const match = /^ {0,3}(#{1,6})(?=[ \t]|$)/.exec(line);
  if (!match) return null;
  let text = line.slice(match[0].length).trim();
  let end = text.length;
  while (end > 0 && text[end - 1] === "#") end--;
  if (end === 0 || text[end - 1] === " " || text[end - 1] === "\t") text = text.slice(0, end).trimEnd();
  return {kind: "heading", level: match[1].length, text};
}

function isRule(line) {
  return /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/.test(line);
}

function itemOf(line) {
  const match = /^( {0,3})([-*+]|\d{1,9}[.)])(?=[ \t]|$)/.exec(line);
  if (!match || isRule(line)) return null;
  const [spaces] = indentOf(line.slice(match[0].length));
  const rest = line.slice(match[0].length);
  const content = match[0].length + (isBlank(rest) || spaces > 4 ? 1 : spaces);
  const number = Number.parseInt(match[2], 10);
  return {
    indent: match[1].length, content, kind: match[2].at(-1), number: Number.isNaN(number) ? null : number,
    text: withoutIndent(rest, content - match[0].length),
  };
}

function isQuote(line) {
  return /^ {0,3}>/.test(line);
}

function cellsOf(line) {
  let text = line.trim();
  if (text.startsWith("|")) text = text.slice(1);
  if (text.endsWith("|") && !text.endsWith("\\|")) text = text.slice(0, -1);
  return text.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

// How the columns of a table that begins here are aligned; null: none does.
function tableAt(lines, i) {
  if (i + 1 >= lines.length || !lines[i].includes("|") || !lines[i + 1].includes("|")) return null;
  if (!/^\|?[ \t]*:?-[-:| \t]*$/.test(lines[i + 1].trim())) return null;
  const rule = cellsOf(lines[i + 1]);
  if (!rule.every((cell) => /^:?-+:?$/.test(cell)) || rule.length !== cellsOf(lines[i]).length) return null;
  return rule.map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : cell.startsWith(":") ? "left" : ""));
}

// Whether a line ends the paragraph before it.
function startsBlock(lines, i) {
  const item = itemOf(lines[i]);
  return (item !== null && item.text !== "" && (item.number === null || item.number === 1)) || fenceOf(lines[i]) !== null ||
    headingOf(lines[i]) !== null || isRule(lines[i]) || isQuote(lines[i]) || tableAt(lines, i) !== null;
}

// -> blocks, each with the line it begins at: paragraph {text}, heading {level, text}, rule, code {language, text},
// quote {blocks}, list {number (null: bullets), loose, items: [{task, blocks}]}, table {align, head, rows}.
function readBlocks(lines, depth = 0) {
  const blocks = [];
  let i = 0;
  while (i < lines.length) {
    if (isBlank(lines[i])) {
      ++i;
      continue;
    }
    const begin = i;
    const [block, end] = readBlock(lines, i, depth);
    i = end;
    blocks.push({begin, ...block});
  }
  return blocks;
}

// -> [block, the line after it]
function readBlock(lines, i, depth) {
  const fence = fenceOf(lines[i]);
  if (fence) return readCode(lines, i, fence);
  const heading = headingOf(lines[i]);
  if (heading) return [heading, i + 1];
  if (isRule(lines[i])) return [{kind: "rule"}, i + 1];
  if (depth < kMostNested && isQuote(lines[i])) return readQuote(lines, i, depth);
  if (depth < kMostNested && itemOf(lines[i])) return readList(lines, i, depth);
  const align = tableAt(lines, i);
  if (align) return readTable(lines, i, align);
  let end = i + 1;
  while (end < lines.length && !isBlank(lines[end]) && !startsBlock(lines, end)) ++end;
  return [{kind: "paragraph", text: lines.slice(i, end).map((line) => line.trimStart()).join("\n").trimEnd()}, end];
}

// To its end, or to that of the text.
function readCode(lines, i, fence) {
  let end = i + 1;
  while (end < lines.length && !closesFence(lines[end], fence)) ++end;
  const whole = end < lines.length || lines[end - 1] !== "" || end === i + 1; // else the next line has not begun
  const text = lines.slice(i + 1, whole ? end : end - 1).map((line) => (fence.indent ? withoutIndent(line, fence.indent) : line));
  return [{kind: "code", language: fence.language, text: text.join("\n")}, Math.min(end + 1, lines.length)];
}

function readQuote(lines, i, depth) {
  const inside = [];
  for (; i < lines.length && !isBlank(lines[i]); ++i) {
    if (isQuote(lines[i])) inside.push(lines[i].replace(/^ {0,3}> ?/, ""));
    else if (!isBlank(inside.at(-1)) && !startsBlock(lines, i)) inside.push(lines[i]);
    else break;
  }
  return [{kind: "quote", blocks: readBlocks(inside, depth + 1)}, i];
}

function readList(lines, i, depth) {
  const first = itemOf(lines[i]);
  const items = [];
  let loose = false;
  for (let item = first; item && item.kind === first.kind;) {
    const task = /^\[([ xX])\](?=\s)/.exec(item.text);
    const inside = [task ? item.text.slice(3).trimStart() : item.text];
    const needed = Math.min(item.content, item.indent + 2);
    let fence = fenceOf(inside[0]);
    for (++i; i < lines.length; ++i) {
      const line = lines[i];
      if (isBlank(line)) {
        inside.push("");
        continue;
      }
      if (indentOf(line)[0] >= needed) inside.push(withoutIndent(line, item.content));
      else if (!fence && !isBlank(inside.at(-1)) && !itemOf(line) && !startsBlock(lines, i)) inside.push(line);
      else break;
      if (fence) fence = closesFence(inside.at(-1), fence) ? null : fence;
      else fence = fenceOf(inside.at(-1));
    }
    const apart = isBlank(inside.at(-1));
    while (inside.length > 1 && isBlank(inside.at(-1))) inside.pop();
    const blocks = readBlocks(inside, depth + 1);
    items.push({task: task ? task[1] !== " " : null, blocks});
    item = i < lines.length ? itemOf(lines[i]) : null;
    loose ||= (apart && item?.kind === first.kind) || blocks.filter((block) => block.kind === "paragraph").length > 1;
  }
  return [{kind: "list", number: first.number, loose, items}, i];
}

function readTable(lines, i, align) {
  const head = cellsOf(lines[i]);
  const rows = [];
  let end = i + 2;
  for (; end < lines.length && !isBlank(lines[end]) && !startsBlock(lines, end); ++end) {
    if ((rows.length + 2) * head.length > kMostCells) continue;
    const cells = cellsOf(lines[end]).slice(0, head.length);
    while (cells.length < head.length) cells.push("");
    rows.push(cells);
  }
  if ((end - i) * head.length > kMostCells) return [{kind: "code", language: "", text: lines.slice(i, end).join("\n")}, end];
  return [{kind: "table", align, head, rows}, end];
}

// ---- Text ----

const kEntities = {amp: "&", lt: "<", gt: ">", quot: "\"", apos: "'", nbsp: "\u00a0", ndash: "\u2013", mdash: "\u2014", hellip: "\u2026",
  copy: "\u00a9", times: "\u00d7", rarr: "\u2192", larr: "\u2190", le: "\u2264", ge: "\u2265", ne: "\u2260"};
const kMarkTags = {"*": ["em", "strong"], "_": ["em", "strong"], "~": [null, "del"]};
const kRaw = [["\\(", "\\)"], ["\\[", "\\]"], ["$$", "$$"]];

// [address, where it ends] of what follows the ] of a link; null: no link.
function destinationAt(text, at) {
  if (text[at] !== "(") return null;
  let i = at + 1;
  while (text[i] === " ") ++i;
  const begin = i;
  let open = 0;
  for (;; ++i) {
    if (i >= text.length || i - begin > kMostAddress || text[i] === "\n" || text[i] === "<") {
      if (text[i] !== "<" || i !== begin) return null;
    }
    if (text[i] === "(") open++;
    if (text[i] === " " || (text[i] === ")" && open-- === 0)) break;
  }
  const address = text.slice(begin, i).replace(/^<(.*)>$/, "$1");
  const title = /\s{0,9}(?:"[^"]{0,500}"|'[^']{0,500}')?\s{0,9}\)/y;
  title.lastIndex = i;
  return title.test(text) ? [address, title.lastIndex] : null;
}

// Finds pairs among the marks after `bottom`, as CommonMark does, and takes them out of the chain.
function pairMarks(bottom) {
  const floors = new Map();
  const takeOut = (mark) => {
    mark.prev.next = mark.next;
    if (mark.next) mark.next.prev = mark.prev;
  };
  for (let closer = bottom.next; closer;) {
    if (!closer.closes) {
      closer = closer.next;
      continue;
    }
    const key = `${closer.mark}${closer.opens}${closer.length % 3}`;
    const floor = floors.get(key) ?? bottom;
    let opener = closer.prev;
    while (opener !== bottom && opener !== floor) {
      const odd = (opener.closes || closer.opens) && (opener.length + closer.length) % 3 === 0 &&
        (opener.length % 3 !== 0 || closer.length % 3 !== 0);
      if (opener.mark === closer.mark && opener.opens && !odd) break;
      opener = opener.prev;
    }
    if (opener === bottom || opener === floor) {
      floors.set(key, closer.prev);
      if (!closer.opens) takeOut(closer);
      closer = closer.next;
      continue;
    }
    const used = opener.left >= 2 && closer.left >= 2 ? 2 : 1;
    const tag = kMarkTags[closer.mark][used - 1];
    opener.left -= used;
    closer.left -= used;
    opener.begins.unshift(tag);
    closer.ends.push(tag);
    opener.next = closer; // those between have found no other
    closer.prev = opener;
    if (opener.left === 0) takeOut(opener);
    if (closer.left === 0) {
      takeOut(closer);
      closer = closer.next;
    }
  }
  bottom.next = null;
}

// -> tokens: {text}, {code}, {line: true}, {open: "em" | "strong" | "del" | "a", href}, {close: the same}.
function readInline(text) {
  const nodes = []; // tokens, and marks: {mark, left, begins, ends}
  const chain = {next: null}; // before the first mark that may yet find another
  let last = chain;
  const brackets = [];
  const raws = kRaw.map(() => true); // false: no further end of this kind
  const plain = /[^\\`*_~[\]!<&$\n]+/y;
  const ticks = new Map(); // length of a run of ` -> where such begin, the nearest last
  for (const run of [...text.matchAll(/`+/g)].reverse()) {
    if (!ticks.has(run[0].length)) ticks.set(run[0].length, []);
    ticks.get(run[0].length).push(run.index);
  }
  let at = 0;
  const say = (said) => nodes.push({text: said});
  const sticky = (expression) => {
    expression.lastIndex = at;
    return expression.exec(text);
  };
  next: while (at < text.length) {
    const run = sticky(plain);
    if (run) {
      say(run[0]);
      at += run[0].length;
      continue;
    }
    for (const [kind, [begin, end]] of kRaw.entries()) {
      if (!raws[kind] || !text.startsWith(begin, at)) continue;
      const to = text.indexOf(end, at + 2);
      raws[kind] = to >= 0;
      if (to < 0) continue;
      nodes.push({code: text.slice(at, to + 2)});
      at = to + 2;
      continue next;
    }
    const c = text[at];
    if (c === "\n") {
      nodes.push({line: true});
      ++at;
    } else if (c === "\\") {
      const escaped = text[at + 1] ?? "";
      if (escaped === "\n") {
        ++at; // the line's end is one anyway
      } else if (/[!-/:-@[-`{-~]/.test(escaped)) {
        say(escaped);
        at += 2;
      } else {
        say(c);
        ++at;
      }
    } else if (c === "`") {
      let length = 1;
      while (text[at + length] === "`") ++length;
      const places = ticks.get(length);
      while (places.at(-1) <= at) places.pop();
      if (places.length === 0) {
        say("`".repeat(length));
        at += length;
      } else {
        const end = places.at(-1);
        const code = text.slice(at + length, end).replaceAll("\n", " ");
        nodes.push({code: code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "" ? code.slice(1, -1) : code});
        at = end + length;
      }
    } else if (c in kMarkTags) {
      let length = 1;
      while (text[at + length] === c) ++length;
      const before = text[at - 1] ?? " ";
      const after = text[at + length] ?? " ";
      const letter = /[\p{L}\p{N}]/u;
      const opens = !/\s/.test(after) && (c !== "_" || !letter.test(before));
      const closes = !/\s/.test(before) && (c !== "_" || !letter.test(after));
      if ((c === "~" && length !== 2) || (!opens && !closes)) {
        say(c.repeat(length));
      } else {
        const mark = {mark: c, length, left: length, opens, closes, begins: [], ends: [], prev: last, next: null};
        last.next = mark;
        last = mark;
        nodes.push(mark);
      }
      at += length;
    } else if (c === "[" || (c === "!" && text[at + 1] === "[")) {
      const sign = c === "[" ? "[" : "![";
      say(sign);
      brackets.push({node: nodes.length - 1, bottom: last});
      at += sign.length;
    } else if (c === "]") {
      const bracket = brackets.pop();
      const found = bracket ? destinationAt(text, at + 1) : null;
      const href = found && safeAddress(found[0]);
      if (!href) {
        say("]");
        ++at;
        continue;
      }
      pairMarks(bracket.bottom);
      last = bracket.bottom;
      // No page but this server's is asked for anything: an image is a link to it.
      nodes[bracket.node] = {open: "a", href};
      if (nodes.length === bracket.node + 1) say(href);
      nodes.push({close: "a"});
      brackets.length = 0; // no link in a link
      at = found[1];
    } else if (c === "<") {
      const address = sticky(/<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/iy);
      const href = address && safeAddress(address[1]);
      const line = sticky(/<br\s{0,9}\/?>/iy);
      if (href) nodes.push({open: "a", href}, {text: address[1]}, {close: "a"});
      else if (line) nodes.push({line: true});
      else say(c);
      at += href ? address[0].length : line ? line[0].length : 1;
    } else if (c === "&") {
      const entity = sticky(/&(?:(\w{1,9})|#(\d{1,7})|#[xX]([\da-fA-F]{1,6}));/y);
      const code = entity && Number.parseInt(entity[2] ?? entity[3], entity[2] ? 10 : 16);
      const named = entity && Object.hasOwn(kEntities, entity[1] ?? "") ? kEntities[entity[1]] : null;
      const said = named ?? (code > 0 && code < 0x110000 ? String.fromCodePoint(code) : null);
      say(said ?? c);
      at += said === null ? 1 : entity[0].length;
    } else { // ! and $
      say(c);
      ++at;
    }
  }
  pairMarks(chain);
  return flatten(nodes);
}

// Marks become what they begin and end, neighbouring texts one, and addresses in them links.
function flatten(nodes) {
  const tokens = [];
  let held = "";
  let links = 0;
  const say = () => {
    if (held === "") return;
    tokens.push(...(links > 0 ? [{text: held}] : withLinks(held)));
    held = "";
  };
  const push = (token) => {
    say();
    tokens.push(token);
  };
  for (const node of nodes) {
    if (node.text !== undefined) {
      held += node.text;
    } else if (node.mark) {
      for (const tag of node.ends) push({close: tag});
      held += node.mark.repeat(node.left);
      for (const tag of node.begins) push({open: tag});
    } else {
      push(node);
      if (node.open) links++;
      if (node.close) links--;
    }
  }
  say();
  return tokens;
}

function withLinks(text) {
  if (!text.includes("://")) return [{text}];
  const tokens = [];
  let from = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"`]{1,2000}/gi)) {
    let address = match[0];
    let open = address.split("(").length - address.split(")").length;
    for (; /[.,;:!?'*_~)\]}|\u3001\u3002\uff0c]$/.test(address.slice(-1)); address = address.slice(0, -1)) {
      if (address.endsWith(")") && open++ >= 0) break;
    }
    const href = safeAddress(address);
    if (!href) continue;
    if (match.index > from) tokens.push({text: text.slice(from, match.index)});
    tokens.push({open: "a", href}, {text: address}, {close: "a"});
    from = match.index + address.length;
  }
  if (from < text.length) tokens.push({text: text.slice(from)});
  return tokens;
}
