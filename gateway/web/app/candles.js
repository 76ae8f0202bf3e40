// The candles of one symbol and interval: read over REST, kept up to date by the kline stream. Both tell of the same candle,
// and the one that counts more trades knows more, so that nothing is lost in which order they come. Every candle that changed
// waits here for the next frame; none is dropped because another came before the frame did.

/** @typedef {{time: number, open: string, high: string, low: string, close: string, volume: string, count: number, closed: boolean}} Candle */

export const INTERVALS = ["1m", "5m", "15m", "1h", "4h", "1d"];
const READ_AT_ONCE = 500;
const KEPT_MAX = 20_000;

export class Candles {
  /** @param {string} symbol @param {string} interval @param {(path: string) => Promise<any>} get */
  constructor(symbol, interval, get) {
    this.symbol = symbol;
    this.interval = interval;
    this.get = get;
    /** @type {Map<number, Candle>} by open time, ascending once `take` has looked */
    this.byTime = new Map();
    /** @type {Set<number>} */
    this.changed = new Set();
    this.isNew = true;
    this.isWhole = false;
    this.isReadingOlder = false;
    this.newest = -1;
    this.stepMs = intervalMs(interval);
  }

  /** Reads the newest ones; to be called once the stream is on, and again after it was off. */
  async read() {
    const rows = await this.get(this.path(""));
    const from = rows[0]?.[0] ?? 0;
    // What is older than a hole would stand beside it as if there were none.
    if (rows.length === READ_AT_ONCE && this.newest >= 0 && this.newest < from) this.clear();
    this.lay(rows);
  }

  /** Reads those before the first one that is known, if there are any. */
  async readOlder() {
    if (this.isReadingOlder || this.isWhole || this.byTime.size === 0 || this.byTime.size >= KEPT_MAX) return;
    this.isReadingOlder = true;
    try {
      const rows = await this.get(this.path(`&endTime=${Math.min(...this.byTime.keys()) - 1}`));
      this.isWhole = rows.length === 0;
      if (rows.length > 0) this.isNew = true;
      this.lay(rows);
    } finally {
      this.isReadingOlder = false;
    }
  }

  /** A kline event; false where candles are missing before it, which then have to be read. @param {any} k */
  receive(k) {
    if (k.i !== this.interval) return true;
    const isAfterHole = this.newest >= 0 && k.t > this.newest + this.stepMs;
    this.put({ time: k.t, open: k.o, high: k.h, low: k.l, close: k.c, volume: k.v, count: k.n, closed: k.x });
    return !isAfterHole;
  }

  clear() {
    this.byTime.clear();
    this.changed.clear();
    this.newest = -1;
    this.isNew = true;
  }

  /** @param {string} more */
  path(more) {
    return `/api/v3/klines?symbol=${encodeURIComponent(this.symbol)}&interval=${this.interval}&limit=${READ_AT_ONCE}${more}`;
  }

  /** @param {any[][]} rows */
  lay(rows) {
    for (const [time, open, high, low, close, volume, , , count] of rows) {
      this.put({ time, open, high, low, close, volume, count, closed: false });
    }
  }

  /** @param {Candle} candle */
  put(candle) {
    const known = this.byTime.get(candle.time);
    if (known && (known.count > candle.count || (known.count === candle.count && known.closed))) return;
    // The chart can change bars and append them; one between others needs all laid out anew.
    if (!known && candle.time < this.newest) this.isNew = true;
    this.byTime.set(candle.time, candle);
    this.changed.add(candle.time);
    this.newest = Math.max(this.newest, candle.time);
    if (this.byTime.size > KEPT_MAX) this.forgetOldest();
  }

  /** A page that is open for weeks does not grow: the older half goes, and can be read again. */
  forgetOldest() {
    const times = [...this.byTime.keys()].sort((a, b) => a - b);
    for (const time of times.slice(0, KEPT_MAX / 2)) {
      this.byTime.delete(time);
      this.changed.delete(time);
    }
    this.isNew = true;
    this.isWhole = false;
  }

  /** All candles if those shown have to be laid out anew, else those that changed; in order of time. */
  take() {
    const isNew = this.isNew;
    const times = [...(isNew ? this.byTime.keys() : this.changed)].sort((a, b) => a - b);
    this.changed.clear();
    this.isNew = false;
    return { isNew, candles: times.map((time) => /** @type {Candle} */ (this.byTime.get(time))) };
  }
}

/** @param {string} interval */
function intervalMs(interval) {
  const unit = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 }[interval.slice(-1)] ?? 60_000;
  return Number(interval.slice(0, -1)) * unit;
}
