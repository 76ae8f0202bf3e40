// A stand-in exchange that plays what was recorded of a real one: `<time in ns> <message>` a line, one depth snapshot among
// them. It answers as the exchange would have: book, trades and candles are made from the messages by the plainest code there is.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const INTERVALS = { "1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000 };
const NOTHING = "0.00000000";

/** Decimal strings of 8 decimals, added exactly. */
const add = (a, b) => fixed(units(a) + units(b));
const units = (text) => BigInt(text.replace(".", ""));
const fixed = (value) => { const text = String(value).padStart(9, "0"); return `${text.slice(0, -8)}.${text.slice(-8)}`; };

export class Recorded {
  /** What files hold. @param {string[]} files */
  static of(files) {
    return new Recorded(files.flatMap((file) => gunzipSync(readFileSync(file)).toString().trim().split("\n")));
  }

  /** @param {string[]} lines */
  constructor(lines) {
    this.lines = lines.map((line) => {
      const space = line.indexOf(" ");
      return { at: Number(line.slice(0, space)) / 1e6, text: line.slice(space + 1) };
    });
    const snapshot = this.lines.findIndex(({ text }) => text.startsWith('{"lastUpdateId"'));
    const { lastUpdateId, bids, asks } = JSON.parse(this.lines[snapshot].text);
    this.lines.splice(snapshot, 1);
    this.book = { lastUpdateId, bids: new Map(bids), asks: new Map(asks) };
    this.trades = [];
    this.candles = new Map(Object.keys(INTERVALS).map((interval) => [interval, new Map()]));
    this.next = 0;
    this.sent = 0;
    this.sockets = new Map();
    this.now = this.lines[0].at;
    /** What was sent of each kind. */
    this.counts = {};
  }

  /** Plays the messages up to that one to whoever listens, at `speed` times their pace, or as fast as `perSecond` says. */
  async play(until, { perSecond }) {
    const started = performance.now();
    const from = this.next;
    while (this.next < until && this.next < this.lines.length) {
      const due = from + Math.floor(((performance.now() - started) / 1000) * perSecond);
      while (this.next < Math.min(due, until, this.lines.length)) this.step(this.lines[this.next++]);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    this.flushCandles();
  }

  /** Plays for so many seconds; where the recording ends it begins again, its ids and times going on. */
  async loop(seconds, perSecond) {
    const started = performance.now();
    let played = 0;
    while (performance.now() - started < seconds * 1000) {
      const due = Math.floor(((performance.now() - started) / 1000) * perSecond);
      for (; played < due; played += 1) {
        if (this.next === this.lines.length) this.shift();
        this.step(this.lines[this.next++]);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** The recording once more, after itself. */
  shift() {
    const parsed = this.lines.map(({ text }) => JSON.parse(text));
    const ids = (name) => parsed.map(({ data }) => data[name]).filter((id) => id !== undefined);
    const [first, last] = [this.lines[0].at, this.lines.at(-1).at];
    const later = Math.ceil((last - first) / 60_000) * 60_000;
    const updates = this.book.lastUpdateId + 1 - ids("U").reduce((a, b) => Math.min(a, b));
    const trades = this.trades.at(-1).t + 1 - ids("t").reduce((a, b) => Math.min(a, b));
    this.lines = parsed.map(({ stream, data }, index) => {
      const moved = { ...data, E: data.E + later };
      if (data.e === "depthUpdate") Object.assign(moved, { U: data.U + updates, u: data.u + updates });
      if (data.e === "trade") Object.assign(moved, { t: data.t + trades, T: data.T + later });
      return { at: this.lines[index].at + later, text: JSON.stringify({ stream, data: moved }) };
    });
    this.next = 0;
  }

  step({ at, text }) {
    const message = JSON.parse(text);
    const { stream, data } = message;
    this.now = data.E ?? at;
    if (data.e === "depthUpdate") {
      // What the snapshot holds already is of no use to anybody.
      if (data.u <= this.book.lastUpdateId) return;
      for (const side of ["b", "a"]) {
        const levels = side === "b" ? this.book.bids : this.book.asks;
        for (const [price, quantity] of data[side]) quantity === NOTHING ? levels.delete(price) : levels.set(price, quantity);
      }
      this.book.lastUpdateId = data.u;
    } else if (data.e === "trade") {
      this.trade(data);
    } else {
      return;
    }
    this.send(stream, text);
  }

  trade(trade) {
    this.trades.push(trade);
    for (const [interval, candles] of this.candles) {
      const width = INTERVALS[interval];
      const start = trade.T - (trade.T % width);
      let candle = candles.get(start);
      if (!candle) {
        const last = [...candles.values()].at(-1);
        // The one before closes, and so do empty ones between, each with its closing message, as the exchange sends them.
        for (let time = last ? last.t : start; time < start; time += width) {
          const closing = candles.get(time) ?? empty(time, width, last.c);
          candles.set(time, closing);
          this.sendCandle(interval, closing, true);
        }
        candle = { ...empty(start, width, trade.p), o: trade.p, h: trade.p, l: trade.p };
        candles.set(start, candle);
      }
      if (units(trade.p) > units(candle.h)) candle.h = trade.p;
      if (units(trade.p) < units(candle.l)) candle.l = trade.p;
      candle.c = trade.p;
      candle.v = add(candle.v, trade.q);
      candle.n += 1;
      this.changed = true;
      if (!this.flushedAt || this.now - this.flushedAt >= 1000) this.flushCandles();
    }
  }

  /** The open candles, as the exchange sends them every so often. */
  flushCandles() {
    this.flushedAt = this.now;
    for (const [interval, candles] of this.candles) {
      const last = [...candles.values()].at(-1);
      if (last) this.sendCandle(interval, last, false);
    }
  }

  sendCandle(interval, candle, isClosed) {
    const stream = `btcusdt@kline_${interval}`;
    const k = { ...candle, s: "BTCUSDT", i: interval, x: isClosed, q: NOTHING, V: NOTHING, Q: NOTHING, B: "0" };
    this.send(stream, JSON.stringify({ stream, data: { e: "kline", E: Math.floor(this.now), s: "BTCUSDT", k } }));
  }

  send(stream, text) {
    for (const [socket, streams] of this.sockets) if (streams.has(stream)) socket.send(text);
    this.sent += 1;
  }

  connect(socket, url) {
    const streams = new Set((url.searchParams.get("streams") ?? "").split("/"));
    this.sockets.set(socket, streams);
    socket.on("message", (data) => {
      const { method, params, id } = JSON.parse(String(data));
      for (const stream of params ?? []) method === "SUBSCRIBE" ? streams.add(stream) : streams.delete(stream);
      socket.send(JSON.stringify({ result: method === "LIST_SUBSCRIPTIONS" ? [...streams] : null, id }));
    });
    socket.on("close", () => this.sockets.delete(socket));
  }

  /** What the exchange answers; undefined for what is not asked of it. */
  answer(path, query) {
    const limit = Number(query.get("limit") ?? 500);
    switch (path) {
      case "/api/v3/time": return { serverTime: Math.floor(this.now) };
      case "/api/v3/exchangeInfo": return { symbols: [SYMBOL] };
      case "/api/v3/depth": return { lastUpdateId: this.book.lastUpdateId, ...this.depth(limit) };
      case "/api/v3/trades": return this.trades.slice(-limit).map((one) => ({ id: one.t, price: one.p, qty: one.q, time: one.T, isBuyerMaker: one.m }));
      case "/api/v3/klines": return this.klines(query.get("interval"), limit, Number(query.get("endTime") ?? Infinity));
      case "/api/v3/ticker/24hr": return {
        lastPrice: this.trades.at(-1)?.p ?? NOTHING, priceChangePercent: "0.100", highPrice: "62000.00", lowPrice: "61000.00", volume: "1.0", quoteVolume: "1.0",
      };
    }
  }

  depth(limit) {
    const side = (levels, sign) => [...levels].sort(([a], [b]) => sign * Number(units(a) - units(b))).slice(0, limit);
    return { bids: side(this.book.bids, -1), asks: side(this.book.asks, 1) };
  }

  klines(interval, limit, end) {
    const rows = [...this.candles.get(interval).values()].filter((one) => one.t <= end).slice(-limit);
    return rows.map((one) => [one.t, one.o, one.h, one.l, one.c, one.v, one.T, NOTHING, one.n, NOTHING, NOTHING, "0"]);
  }
}

function empty(start, width, price) {
  return { t: start, T: start + width - 1, o: price, h: price, l: price, c: price, v: NOTHING, n: 0 };
}

const SYMBOL = {
  symbol: "BTCUSDT", status: "TRADING", baseAsset: "BTC", quoteAsset: "USDT", defaultSelfTradePreventionMode: "NONE", allowedSelfTradePreventionModes: ["NONE"],
  filters: [
    { filterType: "PRICE_FILTER", minPrice: "0.01000000", maxPrice: "1000000.00000000", tickSize: "0.01000000" },
    { filterType: "LOT_SIZE", minQty: "0.00001000", maxQty: "9000.00000000", stepSize: "0.00001000" },
    { filterType: "NOTIONAL", minNotional: "5.00000000", applyMinToMarket: true, maxNotional: "9000000.00000000", applyMaxToMarket: false, avgPriceMins: 5 },
  ],
};
