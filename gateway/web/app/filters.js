// What the exchange would refuse, said before it is asked: the symbol's filters, by their names.

import { formatDecimal, isDecimal, parseDecimal, shortDecimal, times } from "./decimal.js";

/** @param {any} info @param {string} type @returns {any} */
export const filterOf = (info, type) => info.filters.find((/** @type {any} */ filter) => filter.filterType === type);

/** What is wrong with a field, or null. @typedef {{field: string, text: string} | null} Fault */

/** @param {any} info @param {string} field @param {string} text @returns {Fault} */
export function checkPrice(info, field, text) {
  const filter = filterOf(info, "PRICE_FILTER");
  return checkStep(field, text, "PRICE_FILTER", "price", filter?.minPrice, filter?.maxPrice, filter?.tickSize, filter?.minPrice);
}

/** @param {any} info @param {string} field @param {string} text @param {boolean} isMarket @returns {Fault} */
export function checkQuantity(info, field, text, isMarket) {
  for (const name of isMarket ? ["LOT_SIZE", "MARKET_LOT_SIZE"] : ["LOT_SIZE"]) {
    const filter = filterOf(info, name);
    const fault = checkStep(field, text, name, "quantity", filter?.minQty, filter?.maxQty, filter?.stepSize, filter?.minQty);
    if (fault) return fault;
  }
  return null;
}

/** That price times quantity is worth it. @param {any} info @param {string} field @param {string | null} price
 *  @param {string} quantity @param {boolean} isMarket @returns {Fault} */
export function checkNotional(info, field, price, quantity, isMarket) {
  const filter = filterOf(info, "NOTIONAL") ?? filterOf(info, "MIN_NOTIONAL");
  if (!filter || price === null || !isDecimal(price) || !isDecimal(quantity)) return null;
  return checkTotal(info, field, times(parseDecimal(price), parseDecimal(quantity)), isMarket);
}

/** @param {any} info @param {string} field @param {bigint} total @param {boolean} isMarket @returns {Fault} */
export function checkTotal(info, field, total, isMarket) {
  const filter = filterOf(info, "NOTIONAL") ?? filterOf(info, "MIN_NOTIONAL");
  if (!filter) return null;
  const isMinOn = !isMarket || (filter.applyMinToMarket ?? filter.applyToMarket);
  if (isMinOn && total < parseDecimal(filter.minNotional ?? "0")) {
    return { field, text: `${filter.filterType}: the total must be at least ${shortDecimal(filter.minNotional)} ${info.quoteAsset}` };
  }
  const isMaxOn = filter.maxNotional && (!isMarket || filter.applyMaxToMarket);
  if (isMaxOn && total > parseDecimal(filter.maxNotional)) {
    return { field, text: `${filter.filterType}: the total must be at most ${shortDecimal(filter.maxNotional)} ${info.quoteAsset}` };
  }
  return null;
}

/** @param {any} info @param {string} field @param {string} text @param {string} quantity @returns {Fault} */
export function checkIceberg(info, field, text, quantity) {
  const fault = checkQuantity(info, field, text, false);
  if (fault) return fault;
  const parts = filterOf(info, "ICEBERG_PARTS")?.limit ?? 0;
  const shown = parseDecimal(text);
  const whole = isDecimal(quantity) ? parseDecimal(quantity) : 0n;
  if (shown > whole) return { field, text: "ICEBERG_PARTS: what is shown must not be more than the quantity" };
  if (parts > 0 && (whole + shown - 1n) / shown > BigInt(parts)) {
    return { field, text: `ICEBERG_PARTS: at most ${parts} parts, so show more at a time` };
  }
  return null;
}

/** @param {any} info @param {string} field @param {string} text @param {boolean} isAbove @returns {Fault} */
export function checkTrailing(info, field, text, isAbove) {
  const filter = filterOf(info, "TRAILING_DELTA");
  const name = isAbove ? "Above" : "Below";
  const [min, max] = [filter?.[`minTrailing${name}Delta`] ?? 1, filter?.[`maxTrailing${name}Delta`] ?? 10_000];
  const delta = /^\d{1,6}$/.test(text) ? Number(text) : -1;
  if (delta >= min && delta <= max) return null;
  return { field, text: `TRAILING_DELTA: from ${min} to ${max} basis points` };
}

/** @param {string} field @param {string} text @param {string} name @param {string} what @param {string} [min] @param {string} [max]
 *  @param {string} [step] @param {string} [from] @returns {Fault} */
function checkStep(field, text, name, what, min, max, step, from) {
  if (!isDecimal(text)) return { field, text: `${name}: the ${what} is missing` };
  const value = parseDecimal(text);
  if (value === 0n) return { field, text: `${name}: the ${what} must be above zero` };
  const [low, high, unit, base] = [min, max, step, from].map((bound) => parseDecimal(bound ?? "0"));
  if (value < low) return { field, text: `${name}: the ${what} must be at least ${shortDecimal(min ?? "0")}` };
  if (high > 0n && value > high) return { field, text: `${name}: the ${what} must be at most ${formatDecimal(high, 0)}` };
  if (unit > 0n && (value - base) % unit !== 0n) return { field, text: `${name}: the ${what} must be a multiple of ${shortDecimal(step ?? "0")}` };
  return null;
}
