// What the user has: balances, open orders, closed ones and fills; read over REST, kept up to date by the user's own stream.
// Both tell of the same order, and the one that knows of more of it filled, or of its end, is the newer one.

import { announce, invalidate } from "./dom.js";
import { formatDecimal, parseDecimal, shortDecimal } from "./decimal.js";
import { Pulse, Refusal, STREAM_BASE, backoff, sleep } from "./requests.js";

const KEEP_ALIVE_MS = 20 * 60_000;
const HISTORY_MAX = 200;
const CLOSED = new Set(["FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH", "REJECTED"]);

/** @typedef {{id: number, name: string, symbol: string, side: string, type: string, price: string, stop: string, trailing: string,
 *   quantity: string, executed: string, quote: string, status: string, time: number, changed: number, list: number}} Order */
/** @typedef {{id: number, order: number, symbol: string, side: string, price: string, quantity: string, quote: string, fee: string,
 *   feeAsset: string, maker: boolean, time: number}} Fill */

export class Account {
  /** @param {import("./session.js").Session} session @param {string} symbol */
  constructor(session, symbol) {
    this.session = session;
    this.symbol = symbol;
    /** @type {Map<number, Order>} open ones of all symbols, closed ones of this one */
    this.orders = new Map();
    /** @type {Map<number, Fill>} of this symbol */
    this.fills = new Map();
    /** @type {Map<string, {free: string, locked: string}>} */
    this.balances = new Map();
    /** @type {{maker: string, taker: string} | null} */
    this.fees = null;
    this.isCurrent = false;
    this.version = 0;
    this.abort = new AbortController();
    this.run();
  }

  get signal() { return this.abort.signal; }

  stop() {
    this.abort.abort();
    this.changed();
  }

  changed() {
    this.version += 1;
    invalidate();
  }

  /** Connects again and again, and reads everything each time. */
  async run() {
    for (let attempt = 0; !this.signal.aborted; attempt += 1) {
      try {
        await this.follow(() => { attempt = 0; });
      } catch (error) {
        if (this.signal.aborted) return;
        console.warn("account:", /** @type {Error} */ (error).message);
        if (error instanceof Refusal && error.status === 401) return;
      }
      this.isCurrent = false;
      this.changed();
      await sleep(backoff(attempt), this.signal);
    }
  }

  /** One connection, until it is over. @param {() => void} isConnected */
  async follow(isConnected) {
    const { listenKey } = await this.session.call("POST", "/api/v3/userDataStream");
    const socket = new WebSocket(`${STREAM_BASE}/ws/${listenKey}`);
    const close = () => socket.close();
    this.signal.addEventListener("abort", close);
    const keepAlive = setInterval(() => {
      this.session.call("PUT", "/api/v3/userDataStream", { listenKey }).catch(() => socket.close());
    }, KEEP_ALIVE_MS);
    /** @type {any[] | null} */
    let waiting = [];
    const over = new Promise((resolve) => socket.addEventListener("close", resolve));
    /** @type {() => void} */
    let giveUp = () => {};
    const lost = new Promise((resolve) => { giveUp = () => resolve(undefined); });
    const pulse = new Pulse(socket, giveUp);
    socket.addEventListener("message", ({ data }) => {
      pulse.heard();
      const event = JSON.parse(data);
      if (event.e === "listenKeyExpired" || event.e === "eventStreamTerminated") socket.close();
      else if (waiting) waiting.push(event);
      else this.receive(event);
    });
    try {
      await Promise.race([new Promise((resolve) => socket.addEventListener("open", resolve)), over]);
      if (socket.readyState !== WebSocket.OPEN) return;
      const readAt = await this.readAll();
      for (const event of waiting) if (event.e !== "outboundAccountPosition" || event.u >= readAt) this.receive(event);
      waiting = null;
      isConnected();
      this.isCurrent = true;
      this.changed();
      // A socket that nobody answers closes late.
      await Promise.race([over, lost]);
    } finally {
      clearInterval(keepAlive);
      pulse.stop();
      this.signal.removeEventListener("abort", close);
      socket.close();
    }
  }

  /** Everything anew; the time of the balances. */
  async readAll() {
    const symbol = this.symbol;
    const [account, open, all, trades] = await Promise.all([
      this.session.call("GET", "/api/v3/account", { omitZeroBalances: "true" }),
      this.session.call("GET", "/api/v3/openOrders"),
      this.session.call("GET", "/api/v3/allOrders", { symbol, limit: String(HISTORY_MAX) }),
      this.session.call("GET", "/api/v3/myTrades", { symbol, limit: String(HISTORY_MAX) }),
    ]);
    if (this.signal.aborted) throw new Error("no longer wanted");
    this.orders = new Map([...all, ...open].map((row) => [row.orderId, ofRest(row)]));
    this.fills = new Map(trades.map((/** @type {any} */ row) => [row.id, {
      id: row.id, order: row.orderId, symbol, side: row.isBuyer ? "BUY" : "SELL", price: row.price, quantity: row.qty,
      quote: row.quoteQty, fee: row.commission, feeAsset: row.commissionAsset, maker: row.isMaker, time: row.time,
    }]));
    this.balances = new Map(account.balances.map((/** @type {any} */ row) => [row.asset, { free: row.free, locked: row.locked }]));
    this.session.call("GET", "/api/v3/account/commission", { symbol }).then((answer) => {
      this.fees = answer.standardCommission;
      this.changed();
    }, () => {});
    return account.updateTime;
  }

  /** @param {any} event */
  receive(event) {
    if (event.e === "executionReport") {
      this.receiveReport(event);
    } else if (event.e === "outboundAccountPosition") {
      for (const { a, f, l } of event.B) this.balances.set(a, { free: f, locked: l });
    }
    this.changed();
  }

  /** @param {any} event */
  receiveReport(event) {
    /** @type {Order} */
    const order = {
      id: event.i, name: event.c, symbol: event.s, side: event.S, type: event.o, price: event.p, stop: event.P,
      trailing: event.d ? String(event.d) : "", quantity: event.q, executed: event.z, quote: event.Z, status: event.X,
      time: event.O, changed: event.T, list: event.g,
    };
    const known = this.orders.get(order.id);
    const isOld = known && (isClosed(known) || parseDecimal(known.executed) > parseDecimal(order.executed));
    if (!isOld) this.orders.set(order.id, order);
    if (event.x === "TRADE" && event.s === this.symbol && !this.fills.has(event.t)) {
      this.fills.set(event.t, {
        id: event.t, order: event.i, symbol: event.s, side: event.S, price: event.L, quantity: event.l, quote: event.Y,
        fee: event.n, feeAsset: event.N ?? "", maker: event.m, time: event.T,
      });
    }
    this.forgetOldest();
    const about = `${event.S === "BUY" ? "Buy" : "Sell"} order ${event.i}, ${event.s}`;
    if (event.x === "TRADE") announce(`${about}: ${short(event.l)} at ${short(event.L)}, ${words(event.X)}`);
    else announce(`${about}: ${words(event.X)}${event.x === "REJECTED" ? ` ${event.r}` : ""}`);
  }

  forgetOldest() {
    const closed = [...this.orders.values()].filter(isClosed);
    if (closed.length > 2 * HISTORY_MAX) {
      closed.sort((a, b) => a.changed - b.changed).slice(0, HISTORY_MAX).forEach((order) => this.orders.delete(order.id));
    }
    for (const id of this.fills.keys()) if (this.fills.size > HISTORY_MAX) this.fills.delete(id);
  }

  /** Newest first. */
  open() { return [...this.orders.values()].filter((order) => !isClosed(order)).sort((a, b) => b.time - a.time || b.id - a.id); }

  /** Newest first. */
  closed() {
    const closed = [...this.orders.values()].filter((order) => isClosed(order) && order.symbol === this.symbol);
    return closed.sort((a, b) => b.time - a.time || b.id - a.id).slice(0, HISTORY_MAX);
  }

  /** Newest first. */
  lastFills() { return [...this.fills.values()].sort((a, b) => b.id - a.id); }

  /** @param {string} asset */
  free(asset) { return parseDecimal(this.balances.get(asset)?.free ?? "0"); }

  /** @param {Order} order */
  async cancel(order) {
    const isInList = order.list >= 0;
    const [path, id] = isInList ? ["/api/v3/orderList", { orderListId: String(order.list) }] : ["/api/v3/order", { orderId: String(order.id) }];
    await this.session.command("DELETE", path, { symbol: order.symbol, .../** @type {Record<string, string>} */ (id) });
  }

  /** Everything that is open, symbol by symbol. */
  async cancelAll() {
    const symbols = new Set(this.open().map((order) => order.symbol));
    await Promise.all([...symbols].map((symbol) => this.session.command("DELETE", "/api/v3/openOrders", { symbol })));
  }
}

/** @param {Order} order */
export const isClosed = (order) => CLOSED.has(order.status);

/** @param {string} decimal */
const short = (decimal) => shortDecimal(formatDecimal(parseDecimal(decimal), 8));

/** @param {string} status */
export const words = (status) => status.toLowerCase().replaceAll("_", " ");

/** @param {any} row @returns {Order} */
function ofRest(row) {
  return {
    id: row.orderId, name: row.clientOrderId, symbol: row.symbol, side: row.side, type: row.type, price: row.price,
    stop: row.stopPrice ?? "0", trailing: row.trailingDelta ? String(row.trailingDelta) : "", quantity: row.origQty,
    executed: row.executedQty, quote: row.cummulativeQuoteQty, status: row.status, time: row.time, changed: row.updateTime,
    list: row.orderListId,
  };
}
