// A local order book, by the documented rules: a snapshot, kept up to date by depth events.

import { parseDecimal } from "./decimal.js";

/** @typedef {{price: bigint, quantity: bigint, total: bigint}} Level */

/** One side: prices from the best on, and the quantity at each. */
class BookSide {
  /** @param {(a: bigint, b: bigint) => boolean} isBetter @param {[string, string][]} levels */
  constructor(isBetter, levels) {
    this.isBetter = isBetter;
    /** @type {bigint[]} */
    this.prices = [];
    /** @type {Map<bigint, bigint>} */
    this.quantities = new Map();
    for (const [price, quantity] of levels) this.set(price, quantity);
  }

  /** The quantity at a level is this now; zero removes it. @param {string} priceText @param {string} quantityText */
  set(priceText, quantityText) {
    const price = parseDecimal(priceText);
    const quantity = parseDecimal(quantityText);
    const isKnown = this.quantities.has(price);
    if (quantity === 0n) {
      if (!isKnown) return;
      this.quantities.delete(price);
      this.prices.splice(this.position(price), 1);
    } else {
      this.quantities.set(price, quantity);
      if (!isKnown) this.prices.splice(this.position(price), 0, price);
    }
  }

  /** Where the price stands, or would stand, in `prices`. @param {bigint} price */
  position(price) {
    let low = 0;
    let high = this.prices.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.isBetter(this.prices[middle], price)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The best `count` levels, those within one `step` laid together, each with the quantity from the best up to it.
   *  Asks are rounded up and bids down, so that nothing looks better than it is.
   *  @param {number} count @param {bigint} step @param {boolean} isUp @returns {Level[]} */
  levels(count, step, isUp) {
    /** @type {Level[]} */
    const levels = [];
    let total = 0n;
    for (const exact of this.prices) {
      const rest = step > 0n ? exact % step : 0n;
      const price = rest === 0n ? exact : isUp ? exact - rest + step : exact - rest;
      const quantity = this.quantities.get(exact) ?? 0n;
      const last = levels.at(-1);
      if (last?.price !== price && levels.length === count) break;
      total += quantity;
      if (last && last.price === price) {
        last.quantity += quantity;
        last.total = total;
      } else {
        levels.push({ price, quantity, total });
      }
    }
    return levels;
  }
}

export class Book {
  /** @param {{lastUpdateId: number, bids: [string, string][], asks: [string, string][]}} snapshot */
  constructor(snapshot) {
    this.lastUpdateId = snapshot.lastUpdateId;
    this.bids = new BookSide((a, b) => a > b, snapshot.bids);
    this.asks = new BookSide((a, b) => a < b, snapshot.asks);
  }

  /** Applies a depthUpdate; false where there is a hole before it, and then changes nothing. @param {any} event */
  apply(event) {
    if (event.u <= this.lastUpdateId) return true;
    if (event.U > this.lastUpdateId + 1) return false;
    for (const [price, quantity] of event.b) this.bids.set(price, quantity);
    for (const [price, quantity] of event.a) this.asks.set(price, quantity);
    this.lastUpdateId = event.u;
    return true;
  }
}
