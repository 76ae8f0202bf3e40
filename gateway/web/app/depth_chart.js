// The depth chart: both sides of the book, cumulated away from the middle. The tooltip says price, total and how far it is.

import { ONE, formatDecimal } from "./decimal.js";
import { element, setText } from "./dom.js";

/** The part of each side's levels that is shown: those far away would leave no room for the others. */
const PART_SHOWN = 0.95;

export class DepthChart {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.pointer = -1;
    canvas.addEventListener("pointermove", (event) => { this.pointer = event.offsetX; this.again(); });
    canvas.addEventListener("pointerleave", () => { this.pointer = -1; this.again(); });
    this.again = () => {};
  }

  /** @param {import("./book.js").Book | null} book @param {{price: number, quantity: number}} digits */
  paint(book, digits) {
    this.again = () => this.paint(book, digits);
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0 || height === 0) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    if (!context) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const bids = book?.bids.levels(5000, 0n, false) ?? [];
    const asks = book?.asks.levels(5000, 0n, true) ?? [];
    if (bids.length === 0 || asks.length === 0) return setText(element("depth-legend"), "One side of the book is empty");
    // For pixels.
    const number = (/** @type {bigint} */ value) => Number(value) / Number(ONE);
    const middle = (number(bids[0].price) + number(asks[0].price)) / 2;
    const reach = (/** @type {import("./book.js").Level[]} */ levels) => Math.abs(number(levels[Math.floor((levels.length - 1) * PART_SHOWN)].price) - middle);
    const span = Math.max(reach(bids), reach(asks));
    const within = (/** @type {import("./book.js").Level} */ level) => Math.abs(number(level.price) - middle) <= span;
    const [shownBids, shownAsks] = [bids.filter(within), asks.filter(within)];
    const most = Math.max(number(shownBids.at(-1)?.total ?? 1n), number(shownAsks.at(-1)?.total ?? 1n));
    const style = getComputedStyle(document.documentElement);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
    const x = (/** @type {number} */ price) => width / 2 + ((price - middle) / span) * (width / 2);
    const y = (/** @type {number} */ total) => height - (total / most) * (height - 24);
    for (const [levels, line, area] of /** @type {const} */ ([[shownBids, "up", "up-bar"], [shownAsks, "down", "down-bar"]])) {
      if (levels.length === 0) continue;
      const edge = levels === shownBids ? 0 : width;
      context.beginPath();
      context.moveTo(x(number(levels[0].price)), height);
      let before = height;
      for (const level of levels) {
        const at = x(number(level.price));
        context.lineTo(at, before);
        before = y(number(level.total));
        context.lineTo(at, before);
      }
      context.lineTo(edge, before);
      context.lineTo(edge, height);
      context.fillStyle = colour(area);
      context.fill();
      context.strokeStyle = colour(line);
      context.stroke();
    }
    context.fillStyle = colour("quiet");
    context.fillRect(width / 2, 0, 1, height);
    if (this.pointer >= 0) context.fillRect(this.pointer, 0, 1, height);
    this.paintLegend(shownBids, shownAsks, digits, this.pointer >= 0 ? middle + ((this.pointer - width / 2) / (width / 2)) * span : null, middle, number);
  }

  /** @param {import("./book.js").Level[]} bids @param {import("./book.js").Level[]} asks @param {{price: number, quantity: number}} digits
   *  @param {number | null} price @param {number} middle @param {(value: bigint) => number} number */
  paintLegend(bids, asks, digits, price, middle, number) {
    const say = (/** @type {import("./book.js").Level | undefined} */ level) => (level
      ? `${formatDecimal(level.total, digits.quantity)} to ${formatDecimal(level.price, digits.price)}` : "nothing");
    if (price === null) {
      return setText(element("depth-legend"), `Bids ${say(bids.at(-1))} · asks ${say(asks.at(-1))}`);
    }
    const reached = price < middle
      ? bids.findLast((level) => number(level.price) >= price) : asks.findLast((level) => number(level.price) <= price);
    const away = ((price / middle - 1) * 100).toFixed(2);
    setText(element("depth-legend"), `${price.toFixed(digits.price)} (${away} % from the middle): ${say(reached)}`);
  }
}
