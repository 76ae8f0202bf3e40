// How the page is painted: state changes at any time, an animation frame shows it, and only text that differs is written.
// Data reaches the document as text nodes, never as markup.

/** @param {string} id @returns {any} */
export const element = (id) => document.getElementById(id);

/** Nobody reads quicker, and a busy market leaves time for the rest. */
const PAINT_EVERY_MS = 50;

/** @type {(() => void)[]} */
const painters = [];
/** @type {(() => void)[]} */
let waiting = [];
let isDue = false;
let paintedAt = -Infinity;

/** What is to run with each frame after something changed. @param {() => void} paint */
export function onPaint(paint) { painters.push(paint); }

/** Something changed: paint it with one of the next frames, however much changes until then. */
export function invalidate() {
  if (isDue) return;
  isDue = true;
  const wait = paintedAt + PAINT_EVERY_MS - performance.now();
  if (wait > 0) setTimeout(() => requestAnimationFrame(paintAll), wait);
  else requestAnimationFrame(paintAll);
}

function paintAll() {
  isDue = false;
  paintedAt = performance.now();
  const done = waiting;
  waiting = [];
  for (const paint of painters) paint();
  done.forEach((tell) => tell());
}

/** Once what is known now is painted. */
export function painted() {
  return new Promise((resolve) => {
    waiting.push(() => resolve(undefined));
    invalidate();
  });
}

/** @param {Node} node @param {string} text */
export function setText(node, text) {
  if (node instanceof Text) { if (node.data !== text) node.data = text; }
  else if (node.textContent !== text) node.textContent = text;
}

/** @param {Element} target @param {string} name */
export function setClass(target, name) {
  if (target.className !== name) target.className = name;
}

/** @param {any} target @param {string} property @param {any} value */
export function setProperty(target, property, value) {
  if (target[property] !== value) target[property] = value;
}

/** @typedef {{row: HTMLTableRowElement, cells: Text[]}} Row */

/** So many rows of so many empty cells. @param {HTMLTableSectionElement} body @param {number} rows @param {number} columns @returns {Row[]} */
export function makeRows(body, rows, columns) {
  return Array.from({ length: rows }, () => {
    const row = body.insertRow();
    return { row, cells: Array.from({ length: columns }, () => row.insertCell().appendChild(document.createTextNode(""))) };
  });
}

/** Says it to those who listen to the page instead of looking at it. @param {string} text */
export function announce(text) { setText(element("announcements"), text); }

/** The hours, minutes and seconds of a time, here. @param {number | Date} time */
export function clock(time) {
  const date = new Date(time);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** The day as well. @param {number} time */
export function dayAndClock(time) {
  const date = new Date(time);
  return `${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")} ${clock(date)}`;
}
