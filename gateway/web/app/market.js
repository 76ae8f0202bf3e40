// One symbol, live: book, trades, ticker and candles from the public API, as any other client sees them.
//
// The book follows the documented rules of a local order book. Where they cannot be kept the page says so and starts the book
// again; it never shows a book as live that may be broken.

import { Book } from "./book.js";
import { Candles } from "./candles.js";
import { announce, invalidate } from "./dom.js";
import { Pulse, STREAM_BASE, Samples, ServerClock, backoff, requestJson, sleep } from "./requests.js";

export const TRADES_SHOWN = 60;
const SNAPSHOT_LEVELS = 1000;
const BUFFERED_EVENTS_MAX = 5000;
const OPEN_TIMEOUT_MS = 2000;

/** @typedef {{id: number, price: string, quantity: string, time: number, sold: boolean}} Trade */
/** @typedef {{socket: WebSocket, abort: AbortController, signal: AbortSignal, buffer: any[] | null, pulse: Pulse,
 *   isReadingTrades: boolean, timeout: any}} Link */

export class Market {
  /** @param {any} info @param {string} interval */
  constructor(info, interval) {
    this.info = info;
    this.symbol = info.symbol;
    /** @type {Book | null} */
    this.book = null;
    /** @type {Trade[]} newest first, ids without a hole */
    this.trades = [];
    /** @type {any} */
    this.ticker = null;
    this.interval = interval;
    this.candles = this.makeCandles();
    this.state = "connecting";
    this.since = new Date();
    /** @type {Link | null} the present connection; handlers of an older one find that they are not it */
    this.link = null;
    /** @type {any} */
    this.retry = undefined;
    this.attempt = 0;
    this.resyncs = 0;
    this.reconnects = 0;
    this.messages = 0;
    this.lag = new Samples();
    this.clock = new ServerClock();
    this.connect();
  }

  stop() {
    clearTimeout(this.retry);
    this.drop();
  }

  /** @param {string} state */
  setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.since = new Date();
    invalidate();
  }

  makeCandles() {
    return new Candles(this.symbol, this.interval, (path) => requestJson(path, { signal: this.link?.signal }));
  }

  get streamName() { return encodeURIComponent(this.symbol.toLowerCase()); }

  connect() {
    clearTimeout(this.retry);
    this.drop();
    const streams = ["depth@100ms", "trade", "ticker", `kline_${this.interval}`].map((kind) => `${this.streamName}@${kind}`);
    const socket = new WebSocket(`${STREAM_BASE}/stream?streams=${streams.join("/")}`);
    const abort = new AbortController();
    /** @type {Link} */
    const link = {
      socket, abort, signal: abort.signal, buffer: [], pulse: new Pulse(socket, () => this.lost(link)), isReadingTrades: false,
      timeout: undefined,
    };
    link.timeout = setTimeout(() => this.lost(link), OPEN_TIMEOUT_MS);
    this.link = link;

    socket.addEventListener("open", () => {
      if (this.link !== link) return;
      clearTimeout(link.timeout);
      link.pulse.heard();
      this.setState("synchronising");
      this.synchronise(link);
      this.readTrades(link);
      this.readTicker(link);
      this.readCandles(link);
      this.attend(link, "server time", () => this.clock.read(link.signal));
    });
    socket.addEventListener("message", ({ data }) => {
      if (this.link !== link) return;
      link.pulse.heard();
      this.messages += 1;
      this.receive(link, JSON.parse(data));
    });
    socket.addEventListener("close", () => this.lost(link));
  }

  drop() {
    const link = this.link;
    this.link = null;
    if (!link) return;
    clearTimeout(link.timeout);
    link.pulse.stop();
    link.abort.abort();
    link.socket.close();
  }

  /** The connection is gone: what is shown is stale from now on; another attempt follows. @param {Link} link */
  lost(link) {
    if (this.link !== link) return;
    this.drop();
    if (this.state !== "reconnecting") announce("Connection lost");
    this.setState("reconnecting");
    this.reconnects += 1;
    this.retry = setTimeout(() => this.connect(), backoff(this.attempt));
    this.attempt += 1;
  }

  /** @param {string} method @param {string[]} params */
  send(method, params) {
    const socket = this.link?.socket;
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ method, params, id: 1 }));
  }

  /** Candles of another interval from now on. @param {string} interval */
  setInterval(interval) {
    if (interval === this.interval) return;
    this.send("UNSUBSCRIBE", [`${this.streamName}@kline_${this.interval}`]);
    this.interval = interval;
    this.candles = this.makeCandles();
    this.send("SUBSCRIBE", [`${this.streamName}@kline_${interval}`]);
    if (this.link) this.readCandles(this.link);
    invalidate();
  }

  /** @param {Link} link @param {any} message */
  receive(link, message) {
    const event = message.data ?? message;
    if (event.E) this.lag.add(Math.max(0, this.clock.now() - event.E));
    switch (event.e) {
      case "depthUpdate": return this.receiveDepth(link, event);
      case "trade":
        this.addTrades([{ id: event.t, price: event.p, quantity: event.q, time: event.T, sold: event.m }]);
        return;
      case "kline":
        if (!this.candles.receive(event.k)) this.readCandles(link);
        return invalidate();
      case "24hrTicker":
        this.ticker = { last: event.c, change: event.P, high: event.h, low: event.l, volume: event.v, quoteVolume: event.q };
        return invalidate();
      case "serverShutdown": return this.setState("stopping");
    }
  }

  /** @param {Link} link @param {any} event */
  receiveDepth(link, event) {
    if (link.buffer) {
      link.buffer.push(event);
      // Forgetting the oldest is safe: the snapshot then has to be at least as new as the oldest that is kept.
      if (link.buffer.length > BUFFERED_EVENTS_MAX) link.buffer.shift();
    } else if (this.book?.apply(event)) {
      invalidate();
    } else {
      this.resyncs += 1;
      link.buffer = [event];
      this.setState("resynchronising");
      this.synchronise(link);
    }
  }

  /** The documented steps: events are buffered while a snapshot is read that is not older than the first of them; those
   *  that it holds already are passed over, the others follow without a hole, or it all begins again. @param {Link} link */
  async synchronise(link) {
    for (let attempt = 0; this.link === link && link.buffer; attempt += 1) {
      let wait = backoff(attempt);
      try {
        const path = `/api/v3/depth?symbol=${encodeURIComponent(this.symbol)}&limit=${SNAPSHOT_LEVELS}`;
        const snapshot = await requestJson(path, { signal: link.signal });
        if (this.link !== link) return;
        if (link.buffer.length === 0 || snapshot.lastUpdateId >= link.buffer[0].U - 1) {
          const book = new Book(snapshot);
          const hole = link.buffer.findIndex((event) => !book.apply(event));
          if (hole === -1) {
            link.buffer = null;
            this.book = book;
            this.attempt = 0;
            if (this.state !== "live" && this.reconnects > 0) announce("Connected again");
            this.setState("live");
            return invalidate();
          }
          this.resyncs += 1;
          link.buffer.splice(0, hole);
        }
      } catch (error) {
        if (this.link !== link) return;
        console.warn("order book snapshot:", /** @type {Error} */ (error).message);
        wait = Math.max(wait, /** @type {any} */ (error).retryAfterMs ?? 0);
      }
      await sleep(wait, link.signal);
    }
  }

  /** Reads something until it is there, or the connection is another one.
   *  @param {Link} link @param {string} what @param {() => Promise<void>} read */
  async attend(link, what, read) {
    for (let attempt = 0; this.link === link; attempt += 1) {
      try {
        return await read();
      } catch (error) {
        if (this.link !== link) return;
        console.warn(`${what}:`, /** @type {Error} */ (error).message);
        await sleep(Math.max(backoff(attempt), /** @type {any} */ (error).retryAfterMs ?? 0), link.signal);
      }
    }
  }

  /** @param {Link} link */
  async readTrades(link) {
    if (link.isReadingTrades) return;
    link.isReadingTrades = true;
    await this.attend(link, "recent trades", async () => {
      const path = `/api/v3/trades?symbol=${encodeURIComponent(this.symbol)}&limit=${TRADES_SHOWN}`;
      /** @type {any[]} */
      const rows = await requestJson(path, { signal: link.signal });
      if (this.link !== link) return;
      link.isReadingTrades = false;
      this.addTrades(rows.map((row) => (
        { id: row.id, price: row.price, quantity: row.qty, time: row.time, sold: row.isBuyerMaker })));
    });
    link.isReadingTrades = false;
  }

  /** @param {Link} link */
  readTicker(link) {
    return this.attend(link, "ticker", async () => {
      const row = await requestJson(`/api/v3/ticker/24hr?symbol=${encodeURIComponent(this.symbol)}`, { signal: link.signal });
      if (this.link !== link) return;
      this.ticker = {
        last: row.lastPrice, change: row.priceChangePercent, high: row.highPrice, low: row.lowPrice,
        volume: row.volume, quoteVolume: row.quoteVolume,
      };
      invalidate();
    });
  }

  /** @param {Link} link */
  async readCandles(link) {
    const candles = this.candles;
    await this.attend(link, "candles", () => candles.read());
    if (this.candles === candles) invalidate();
  }

  /** Lays trades in by id; those read over REST and those streamed meanwhile overlap. @param {Trade[]} added */
  addTrades(added) {
    for (const trade of added) {
      const at = this.trades.findIndex((known) => known.id <= trade.id);
      if (at === -1) this.trades.push(trade);
      else if (this.trades[at].id !== trade.id) this.trades.splice(at, 0, trade);
    }
    this.trades.length = Math.min(this.trades.length, TRADES_SHOWN);
    // What is behind a hole is shown again once the hole is filled.
    const hole = this.trades.findIndex((trade, at) => at > 0 && this.trades[at - 1].id !== trade.id + 1);
    if (hole !== -1) {
      if (this.link && !this.link.isReadingTrades) this.readTrades(this.link);
      this.trades.length = hole;
    }
    invalidate();
  }
}
