
// Numbers as people read them.
const kUnknown = "\u2013";

// Three digits, as many behind the point as that leaves.
function threeDigits(value) {
  if (value === 0) return "0";
  return value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2);
}

// [number, unit]
function bytesOf(value) {
  if (value === null || value === undefined) return [kUnknown, ""];
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    ++unit;
  }
  return [unit === 0 ? String(Math.round(value)) : threeDigits(value), units[unit]];
}

function bytesText(value) {
  return bytesOf(value).join("\u00a0");
}

function percentOf(share) {
  return share === null || share === undefined ? [kUnknown, ""] : [(100 * share).toFixed(1), "%"];
}

function percentText(share) {
  return percentOf(share).join("\u00a0").trim();
}

function countText(value) {
  return value.toLocaleString("en");
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function byId(id) {
  return document.getElementById(id);
}
