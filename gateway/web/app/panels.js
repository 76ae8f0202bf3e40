// The panels that show: book, trades, ticker, the user's tables and the status line.

import { formatDecimal, parseDecimal, per, plainDecimal, shortDecimal, times, ONE } from "./decimal.js";
import { TRADES_SHOWN } from "./market.js";
import { clock, dayAndClock, element, makeRows, setClass, setProperty, setText } from "./dom.js";
import { filterOf } from "./filters.js";
import { isClosed, words } from "./account.js";

export const BOOK_ROWS = 15;
const GROUPS = [1n, 10n, 100n, 1000n];

const shown = {
  asks: makeRows(element("asks"), BOOK_ROWS, 3),
  bids: makeRows(element("bids"), BOOK_ROWS, 3),
  trades: makeRows(element("trades"), TRADES_SHOWN, 3),
};

/** How the book is shown. */
export const view = { group: 0, isQuote: false };

/** @typedef {import("./market.js").Market} Market */

const STATE_TEXT = /** @type {Record<string, (since: Date) => string>} */ ({
  connecting: () => "Connecting",
  synchronising: () => "Synchronising",
  resynchronising: () => "Resynchronising",
  live: () => "Live",
  stopping: (since) => `Server is stopping since ${clock(since)}`,
  reconnecting: (since) => `Reconnecting since ${clock(since)}`,
});

/** @param {Market} market */
export function paintConnection(market) {
  setText(element("conn"), STATE_TEXT[market.state](market.since));
  if (element("conn").dataset.state !== market.state) element("conn").dataset.state = market.state;
  document.body.classList.toggle("stale", market.state !== "live");
  setText(element("update-id"), market.book ? String(market.book.lastUpdateId) : "–");
  setText(element("resyncs"), String(market.resyncs));
  setText(element("reconnects"), String(market.reconnects));
}

/** The step that levels are laid together by. @param {any} info */
export function groupStep(info) {
  return parseDecimal(filterOf(info, "PRICE_FILTER")?.tickSize ?? "0") * GROUPS[view.group];
}

/** One group wider or finer. @param {number} by */
export function changeGroup(by) {
  view.group = Math.max(0, Math.min(GROUPS.length - 1, view.group + by));
}

/** @param {Market} market @param {import("./account.js").Order[]} own */
export function paintBook(market, own) {
  const { book, info } = market;
  const { digits } = info;
  const step = groupStep(info);
  const asks = book?.asks.levels(BOOK_ROWS, step, true) ?? [];
  const bids = book?.bids.levels(BOOK_ROWS, step, false) ?? [];
  const totals = [asks, bids].map((levels) => levels.at(-1)?.total ?? 0n);
  const deepest = totals[0] > totals[1] ? totals[0] : totals[1];
  const marks = { BUY: new Set(), SELL: new Set() };
  for (const order of own) {
    const price = parseDecimal(order.price);
    if (price === 0n || order.type.startsWith("STOP") || order.type.startsWith("TAKE")) continue;
    const rest = step > 0n ? price % step : 0n;
    if (order.side === "BUY") marks.BUY.add(price - rest);
    else marks.SELL.add(rest === 0n ? price : price - rest + step);
  }
  shown.asks.forEach((row, index) => paintLevel(row, asks[BOOK_ROWS - 1 - index], deepest, digits, marks.SELL));
  shown.bids.forEach((row, index) => paintLevel(row, bids[index], deepest, digits, marks.BUY));
  const [ask, bid] = [book?.asks.prices[0], book?.bids.prices[0]];
  if (ask !== undefined && bid !== undefined) {
    const spread = ask - bid;
    setText(element("spread"), spread < 0n ? "crossed" : formatDecimal(spread, digits.price));
    setText(element("spread-percent"), spread < 0n ? "" : `${formatDecimal((spread * 100n * ONE) / ask, 4)} %`);
  } else {
    setText(element("spread"), "–");
    setText(element("spread-percent"), "");
  }
  setText(element("group"), shortDecimal(plainDecimal(step, 8)));
  setProperty(element("group-finer"), "disabled", view.group === 0);
  setProperty(element("group-wider"), "disabled", view.group === GROUPS.length - 1);
}

/** @param {import("./dom.js").Row} shownRow @param {import("./book.js").Level | undefined} level @param {bigint} deepest
 *  @param {{price: number, quantity: number}} digits @param {Set<unknown>} marks */
function paintLevel({ row, cells }, level, deepest, digits, marks) {
  const isOwn = level !== undefined && marks.has(level.price);
  const size = (/** @type {bigint} */ quantity) => (view.isQuote && level
    ? formatDecimal(times(quantity, level.price), 0) : formatDecimal(quantity, digits.quantity));
  setText(cells[0], level ? formatDecimal(level.price, digits.price) : "");
  setText(cells[1], level ? `${size(level.quantity)}${isOwn ? " ◆" : ""}` : "");
  setText(cells[2], level ? size(level.total) : "");
  setClass(row, isOwn ? "own" : "");
  const price = level ? plainDecimal(level.price, digits.price) : "";
  if (row.dataset.price !== price) row.dataset.price = price;
  const bar = level ? `${Number((level.total * 1000n) / deepest) / 10}%` : "0%";
  if (row.style.getPropertyValue("--bar") !== bar) row.style.setProperty("--bar", bar);
}

/** @param {Market} market */
export function paintTrades({ trades, info }) {
  const isPaused = element("trades-scroll").scrollTop > 4;
  setProperty(element("trades-paused"), "hidden", !isPaused);
  if (isPaused) return;
  shown.trades.forEach(({ row, cells }, index) => {
    const trade = trades[index];
    const id = trade ? String(trade.id) : "";
    if (row.dataset.id === id) return;
    row.dataset.id = id;
    setText(cells[0], trade ? clock(trade.time) : "");
    setText(cells[1], trade ? `${trade.sold ? "▼" : "▲"} ${formatDecimal(parseDecimal(trade.price), info.digits.price)}` : "");
    setText(cells[2], trade ? formatDecimal(parseDecimal(trade.quantity), info.digits.quantity) : "");
    setClass(/** @type {Element} */ (cells[1].parentNode), trade ? (trade.sold ? "down" : "up") : "");
  });
}

/** @param {Market} market */
export function paintTicker({ ticker, trades, info }) {
  const { digits } = info;
  const last = trades[0]?.price ?? ticker?.last;
  setText(element("last-price"), last ? formatDecimal(parseDecimal(last), digits.price) : "–");
  const before = trades.find((trade) => trade.price !== trades[0].price);
  const rose = before !== undefined && parseDecimal(trades[0].price) > parseDecimal(before.price);
  setText(element("last-arrow"), before ? (rose ? "▲" : "▼") : "");
  setClass(element("last"), before ? `last ${rose ? "up" : "down"}` : "last");
  if (!ticker) return;
  const fell = ticker.change.startsWith("-");
  setText(element("ticker-change"), `${fell ? "" : "+"}${ticker.change} %`);
  setClass(element("ticker-change"), fell ? "down" : "up");
  setText(element("ticker-high"), formatDecimal(parseDecimal(ticker.high), digits.price));
  setText(element("ticker-low"), formatDecimal(parseDecimal(ticker.low), digits.price));
  setText(element("ticker-volume"), formatDecimal(parseDecimal(ticker.volume), Math.min(digits.quantity, 2)));
  setText(element("ticker-quote-volume"), formatDecimal(parseDecimal(ticker.quoteVolume), 0));
}

// ---- The user's tables ----------------------------------------------------------------------------------------------

/** @typedef {{text: string, class?: string}} Cell */

/** As many rows as there is to show; those that are there are used again. @param {HTMLTableSectionElement} body
 *  @param {{id: string, cells: Cell[]}[]} rows @param {string} empty @param {string} [action] what a button at the end of each row says */
function fill(body, rows, empty, action) {
  const heads = /** @type {HTMLTableElement} */ (body.parentElement).tHead?.rows[0].cells;
  const columns = heads?.length ?? 1;
  if (rows.length === 0) {
    if (body.rows.length === 1 && body.rows[0].cells.length === 1 && body.rows[0].cells[0].textContent === empty) return;
    body.replaceChildren();
    const cell = body.insertRow().insertCell();
    cell.colSpan = columns;
    cell.className = "empty";
    cell.textContent = empty;
    return;
  }
  if (body.rows[0]?.cells.length === 1 && columns > 1) body.replaceChildren();
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach(({ id, cells }, at) => {
    let row = body.rows[at];
    if (!row) {
      row = body.insertRow();
      cells.forEach((_, index) => {
        const cell = row.insertCell();
        cell.appendChild(document.createTextNode(""));
        // Where there is no room for a head, each cell says what it is.
        cell.dataset.label = heads?.[index]?.textContent ?? "";
      });
      if (action) row.insertCell().appendChild(Object.assign(document.createElement("button"), { type: "button", textContent: action }));
    }
    if (row.dataset.id !== id) {
      row.dataset.id = id;
      if (action) row.cells[cells.length].firstElementChild?.setAttribute("aria-label", `${action} order ${id}`);
    }
    cells.forEach((cell, index) => {
      setText(/** @type {Node} */ (row.cells[index].firstChild), cell.text);
      setClass(row.cells[index], cell.class ?? "");
    });
  });
}

let painted = { account: /** @type {unknown} */ (null), version: -1 };

/** @param {import("./account.js").Account | null} account @param {Market} market @param {Map<string, any>} symbols */
export function paintAccount(account, market, symbols) {
  if (painted.account === account && painted.version === (account?.version ?? 0)) return;
  painted = { account, version: account?.version ?? 0 };
  const nobody = "Log in to see yours";
  const open = account?.open() ?? [];
  const { digits } = market.info;
  const price = (/** @type {string} */ text, /** @type {number} */ places) => (Number(text) === 0 ? "–" : formatDecimal(parseDecimal(text), places));
  const orderCells = (/** @type {import("./account.js").Order} */ order) => {
    const places = symbols.get(order.symbol)?.digits ?? digits;
    const [quantity, executed] = [parseDecimal(order.quantity), parseDecimal(order.executed)];
    const average = executed > 0n ? per(parseDecimal(order.quote), executed) : 0n;
    return [
      { text: dayAndClock(order.time) }, { text: order.symbol }, side(order.side), { text: words(order.type) },
      { text: order.trailing ? `trail ${order.trailing}` : price(order.stop, places.price) }, { text: price(order.price, places.price) },
      { text: quantity > 0n ? formatDecimal(quantity, places.quantity) : "–" },
      { text: `${formatDecimal(executed, places.quantity)}${quantity > 0n ? ` (${(executed * 100n) / quantity} %)` : ""}` },
      { text: isClosed(order) ? (average > 0n ? formatDecimal(average, places.price) : "–") : order.status },
      ...(isClosed(order) ? [{ text: order.status }] : []),
    ];
  };
  fill(element("open-orders"), open.map((order) => ({ id: String(order.id), cells: orderCells(order) })), account ? "No open orders" : nobody, "Cancel");
  setText(element("open-count"), String(open.length));
  setProperty(element("cancel-all"), "disabled", open.length === 0);
  fill(element("order-history"), (account?.closed() ?? []).map((order) => ({ id: String(order.id), cells: orderCells(order) })), account ? "No closed orders" : nobody);
  fill(element("fills"), (account?.lastFills() ?? []).map((one) => ({ id: String(one.id), cells: [
    { text: dayAndClock(one.time) }, side(one.side), { text: formatDecimal(parseDecimal(one.price), digits.price) },
    { text: formatDecimal(parseDecimal(one.quantity), digits.quantity) }, { text: formatDecimal(parseDecimal(one.quote), 2) },
    { text: `${shortDecimal(formatDecimal(parseDecimal(one.fee), 8))} ${one.feeAsset}` }, { text: one.maker ? "maker" : "taker" },
    { text: String(one.order) },
  ] })), account ? "No fills" : nobody);
  const balances = [...(account?.balances ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
  fill(element("balances"), balances.map(([asset, { free, locked }]) => ({ id: asset, cells: [
    { text: asset }, { text: formatDecimal(parseDecimal(free), 8) }, { text: formatDecimal(parseDecimal(locked), 8) },
    { text: formatDecimal(parseDecimal(free) + parseDecimal(locked), 8) },
  ] })), account ? "No balances" : nobody);
}

/** @param {string} word @returns {Cell} */
const side = (word) => (word === "BUY" ? { text: "▲ Buy", class: "up" } : { text: "▼ Sell", class: "down" });
