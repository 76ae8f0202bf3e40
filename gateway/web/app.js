// The trading page: one symbol's book, trades and ticker, live from the public API, as any other client sees them.
//
// Rules kept here:
// - The book follows the documented rules of a local order book (Book, Market.synchronise). Where they cannot be kept,
//   the page says so and starts the book again; it never shows a book as live that may be broken.
// - Prices and quantities are decimal strings or scaled BigInts; Number is for pixels, ids and times.
// - Messages only change state. One animation frame paints it, into rows made once, and only text that differs.
// - Data reaches the document as text nodes, never as markup.

const BOOK_ROWS = 15;
const TRADE_ROWS = 60;
const SNAPSHOT_LEVELS = 1000;
const BUFFERED_EVENTS_MAX = 5000;
const OPEN_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 10_000;
const SILENCE_BEFORE_PROBE_MS = 4000;
const SILENCE_BEFORE_RECONNECT_MS = 3000;
const BACKOFF_FIRST_MS = 250;
const BACKOFF_MAX_MS = 5000;
const SYMBOLS_EVERY_MS = 30_000;

// ---- Decimals -------------------------------------------------------------------------------------------------------

const SCALE = 18;

/** "12.5" as a BigInt of 10^-18ths. */
function parseDecimal(text) {
  const [whole, fraction = ""] = text.split(".");
  return BigInt(whole + fraction.padEnd(SCALE, "0").slice(0, SCALE));
}

/** A scaled BigInt, not below zero, with `digits` decimals (cut, not rounded) and grouped thousands. */
function formatDecimal(value, digits) {
  const text = value.toString().padStart(SCALE + 1, "0");
  const whole = text.slice(0, -SCALE).replace(/\B(?=(\d{3})+$)/g, ",");
  return digits === 0 ? whole : `${whole}.${text.slice(-SCALE).slice(0, digits)}`;
}

/** How many decimals a step such as "0.01000000" asks for; 8 where the step is switched off. */
function decimalsOf(step) {
  const [whole, fraction = ""] = step.split(".");
  const kept = fraction.replace(/0+$/, "").length;
  return kept === 0 && /^0*$/.test(whole) ? 8 : kept;
}

// ---- The book -------------------------------------------------------------------------------------------------------

/** One side of the book: prices from the best on, and the quantity at each. */
class BookSide {
  constructor(isBetter, levels) {
    this.isBetter = isBetter;
    this.prices = [];
    this.quantities = new Map();
    for (const [price, quantity] of levels) this.set(price, quantity);
  }

  /** The quantity at a level is this now; zero removes it. */
  set(priceText, quantityText) {
    const price = parseDecimal(priceText);
    const quantity = parseDecimal(quantityText);
    const known = this.quantities.has(price);
    if (quantity === 0n) {
      if (!known) return;
      this.quantities.delete(price);
      this.prices.splice(this.position(price), 1);
    } else {
      this.quantities.set(price, quantity);
      if (!known) this.prices.splice(this.position(price), 0, price);
    }
  }

  /** Where the price stands, or would stand, in `prices`. */
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
}

/** A local order book: a snapshot, kept up to date by depth events. */
class Book {
  constructor(snapshot) {
    this.lastUpdateId = snapshot.lastUpdateId;
    this.bids = new BookSide((a, b) => a > b, snapshot.bids);
    this.asks = new BookSide((a, b) => a < b, snapshot.asks);
  }

  /** Applies a depthUpdate; false where there is a hole before it, and then changes nothing. */
  apply(event) {
    if (event.u <= this.lastUpdateId) return true;
    if (event.U > this.lastUpdateId + 1) return false;
    for (const [price, quantity] of event.b) this.bids.set(price, quantity);
    for (const [price, quantity] of event.a) this.asks.set(price, quantity);
    this.lastUpdateId = event.u;
    return true;
  }
}

// ---- Requests -------------------------------------------------------------------------------------------------------

/** GET of the public API. A refusal that says when to come back carries it as `retryAfterMs`. */
async function getJson(path, signal) {
  const response = await fetch(path, {
    signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
    cache: "no-store",
  });
  if (!response.ok) {
    const error = new Error(`${path}: ${response.status}`);
    error.retryAfterMs = Number(response.headers.get("Retry-After") ?? 0) * 1000;
    throw error;
  }
  return response.json();
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

/** Doubles from attempt to attempt, up to a bound, with jitter so that many pages do not come back as one. */
function backoff(attempt) {
  const ms = Math.min(BACKOFF_FIRST_MS * 2 ** attempt, BACKOFF_MAX_MS);
  return ms * (0.5 + Math.random() / 2);
}

// ---- One symbol, live -----------------------------------------------------------------------------------------------

/** Everything known of the chosen symbol, and the connection that keeps it so. */
class Market {
  constructor(info) {
    this.info = info;
    this.symbol = info.symbol;
    this.book = null;
    this.trades = [];            // newest first
    this.ticker = null;
    this.state = "connecting";
    this.since = new Date();
    this.link = null;            // the present connection; handlers of an older one find that they are not it
    this.attempt = 0;
    this.resyncs = 0;
    this.reconnects = 0;
    this.messages = 0;
    this.watch = setInterval(() => this.probe(), 1000);
    this.connect();
  }

  stop() {
    clearInterval(this.watch);
    clearTimeout(this.retry);
    this.drop();
  }

  setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.since = new Date();
    invalidate();
  }

  connect() {
    clearTimeout(this.retry);
    this.drop();
    const name = encodeURIComponent(this.symbol.toLowerCase());
    const streams = [`${name}@depth@100ms`, `${name}@trade`, `${name}@ticker`].join("/");
    const socket = new WebSocket(`${STREAM_BASE}/stream?streams=${streams}`);
    const abort = new AbortController();
    const link = { socket, abort, signal: abort.signal, buffer: [], heardAt: performance.now(), probed: false };
    link.timeout = setTimeout(() => this.lost(link), OPEN_TIMEOUT_MS);
    this.link = link;

    socket.addEventListener("open", () => {
      if (this.link !== link) return;
      clearTimeout(link.timeout);
      link.heardAt = performance.now();
      this.setState("synchronising");
      this.synchronise(link);
      this.loadTrades(link);
      this.loadTicker(link);
    });
    socket.addEventListener("message", ({ data }) => {
      if (this.link !== link) return;
      link.heardAt = performance.now();
      link.probed = false;
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
    link.abort.abort();
    link.socket.close();
  }

  /** The connection is gone: what is shown is stale from now on; another attempt follows. */
  lost(link) {
    if (this.link !== link) return;
    this.drop();
    this.setState("reconnecting");
    this.reconnects += 1;
    this.retry = setTimeout(() => this.connect(), backoff(this.attempt));
    this.attempt += 1;
  }

  /** A page cannot see pings, so a silent socket is asked something, and given up where nothing comes back in time. */
  probe() {
    const link = this.link;
    if (!link || link.socket.readyState !== WebSocket.OPEN) return;
    const silence = performance.now() - link.heardAt;
    if (silence > SILENCE_BEFORE_RECONNECT_MS && link.probed) {
      this.lost(link);
    } else if (silence > SILENCE_BEFORE_PROBE_MS && !link.probed) {
      link.probed = true;
      link.heardAt = performance.now();
      link.socket.send(JSON.stringify({ method: "LIST_SUBSCRIPTIONS", id: 1 }));
    }
  }

  receive(link, message) {
    const event = message.data ?? message;
    switch (event.e) {
      case "depthUpdate": return this.receiveDepth(link, event);
      case "trade": return this.addTrades([{ id: event.t, price: event.p, quantity: event.q, time: event.T, sold: event.m }]);
      case "24hrTicker":
        this.ticker = { last: event.c, change: event.P, high: event.h, low: event.l, volume: event.v, quoteVolume: event.q };
        return invalidate();
      case "serverShutdown": return this.setState("stopping");
    }
  }

  receiveDepth(link, event) {
    if (link.buffer) {
      link.buffer.push(event);
      // Forgetting the oldest is safe: the snapshot then has to be at least as new as the oldest that is kept.
      if (link.buffer.length > BUFFERED_EVENTS_MAX) link.buffer.shift();
    } else if (this.book.apply(event)) {
      invalidate();
    } else {
      this.resyncs += 1;
      link.buffer = [event];
      this.setState("resynchronising");
      this.synchronise(link);
    }
  }

  /** The documented steps: events are buffered while a snapshot is read that is not older than the first of them; those
   *  that it holds already are passed over, the others follow without a hole, or it all begins again. */
  async synchronise(link) {
    for (let attempt = 0; this.link === link; attempt += 1) {
      let wait = backoff(attempt);
      try {
        const path = `/api/v3/depth?symbol=${encodeURIComponent(this.symbol)}&limit=${SNAPSHOT_LEVELS}`;
        const snapshot = await getJson(path, link.signal);
        if (this.link !== link) return;
        if (link.buffer.length === 0 || snapshot.lastUpdateId >= link.buffer[0].U) {
          const book = new Book(snapshot);
          const hole = link.buffer.findIndex((event) => !book.apply(event));
          if (hole === -1) {
            link.buffer = null;
            this.book = book;
            this.attempt = 0;
            this.setState("live");
            return invalidate();
          }
          this.resyncs += 1;
          link.buffer.splice(0, hole);
        }
      } catch (error) {
        if (this.link !== link) return;
        console.warn("order book snapshot:", error.message);
        wait = Math.max(wait, error.retryAfterMs ?? 0);
      }
      await sleep(wait, link.signal);
    }
  }

  async loadTrades(link) {
    try {
      const rows = await getJson(`/api/v3/trades?symbol=${encodeURIComponent(this.symbol)}&limit=${TRADE_ROWS}`, link.signal);
      if (this.link !== link) return;
      this.addTrades(rows.map((row) => (
        { id: row.id, price: row.price, quantity: row.qty, time: row.time, sold: row.isBuyerMaker })));
    } catch (error) {
      if (this.link === link) console.warn("recent trades:", error.message);
    }
  }

  async loadTicker(link) {
    try {
      const row = await getJson(`/api/v3/ticker/24hr?symbol=${encodeURIComponent(this.symbol)}`, link.signal);
      if (this.link !== link) return;
      this.ticker = {
        last: row.lastPrice, change: row.priceChangePercent, high: row.highPrice, low: row.lowPrice,
        volume: row.volume, quoteVolume: row.quoteVolume,
      };
      invalidate();
    } catch (error) {
      if (this.link === link) console.warn("ticker:", error.message);
    }
  }

  /** Lays trades in by id; those read over REST and those streamed meanwhile overlap. */
  addTrades(added) {
    for (const trade of added) {
      const at = this.trades.findIndex((known) => known.id <= trade.id);
      if (at === -1) this.trades.push(trade);
      else if (this.trades[at].id !== trade.id) this.trades.splice(at, 0, trade);
    }
    this.trades.length = Math.min(this.trades.length, TRADE_ROWS);
    invalidate();
  }
}

// ---- Painting -------------------------------------------------------------------------------------------------------

const REST_BASE = `${location.origin}/api/v3`;
const STREAM_BASE = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}`;

const STATE_TEXT = {
  connecting: () => "Connecting",
  synchronising: () => "Synchronising",
  resynchronising: () => "Resynchronising",
  live: () => "Live",
  stopping: () => "Server is stopping",
  reconnecting: (since) => `Reconnecting since ${since.toLocaleTimeString()}`,
};

const element = (id) => document.getElementById(id);
const shown = {
  askRows: makeRows(element("asks"), BOOK_ROWS),
  bidRows: makeRows(element("bids"), BOOK_ROWS),
  tradeRows: makeRows(element("trades"), TRADE_ROWS),
};

let market = null;
let frame = 0;

/** Something changed: paint it with the next frame, however much changes until then. */
function invalidate() {
  frame ||= requestAnimationFrame(() => { frame = 0; if (market) paint(market); });
}

function makeRows(body, count) {
  return Array.from({ length: count }, () => {
    const row = body.insertRow();
    return { row, cells: Array.from({ length: 3 }, () => row.insertCell().appendChild(document.createTextNode(""))) };
  });
}

function setText(node, text) {
  if (node.nodeType === Node.TEXT_NODE) { if (node.data !== text) node.data = text; }
  else if (node.textContent !== text) node.textContent = text;
}

function setClass(target, name) {
  if (target.className !== name) target.className = name;
}

function paint(market) {
  const digits = market.info.digits;
  setText(element("connection"), STATE_TEXT[market.state](market.since));
  if (element("connection").dataset.state !== market.state) element("connection").dataset.state = market.state;
  document.body.classList.toggle("stale", market.state !== "live");
  paintBook(market.book, digits);
  paintTrades(market.trades, digits);
  paintTicker(market, digits);
  setText(element("update-id"), market.book ? String(market.book.lastUpdateId) : "–");
  setText(element("resyncs"), String(market.resyncs));
  setText(element("reconnects"), String(market.reconnects));
}

function paintBook(book, digits) {
  const asks = book ? depthOf(book.asks) : [];
  const bids = book ? depthOf(book.bids) : [];
  const totals = [asks, bids].map((levels) => levels.at(-1)?.total ?? 0n);
  const deepest = totals[0] > totals[1] ? totals[0] : totals[1];
  shown.askRows.forEach((row, index) => paintLevel(row, asks[BOOK_ROWS - 1 - index], deepest, digits));
  shown.bidRows.forEach((row, index) => paintLevel(row, bids[index], deepest, digits));
  if (asks.length > 0 && bids.length > 0) {
    const spread = asks[0].price - bids[0].price;
    setText(element("spread"), spread < 0n ? "crossed" : formatDecimal(spread, digits.price));
    setText(element("spread-percent"), spread < 0n ? "" : `${formatDecimal((spread * 100n * 10n ** 18n) / asks[0].price, 4)} %`);
  } else {
    setText(element("spread"), "–");
    setText(element("spread-percent"), "");
  }
}

/** The levels that are shown, each with the quantity from the best level up to it. */
function depthOf(side) {
  let total = 0n;
  return side.prices.slice(0, BOOK_ROWS).map((price) => {
    const quantity = side.quantities.get(price);
    total += quantity;
    return { price, quantity, total };
  });
}

function paintLevel({ row, cells }, level, deepest, digits) {
  setText(cells[0], level ? formatDecimal(level.price, digits.price) : "");
  setText(cells[1], level ? formatDecimal(level.quantity, digits.quantity) : "");
  setText(cells[2], level ? formatDecimal(level.total, digits.quantity) : "");
  const bar = level ? `${Number((level.total * 1000n) / deepest) / 10}%` : "0%";
  if (row.style.getPropertyValue("--bar") !== bar) row.style.setProperty("--bar", bar);
}

function paintTrades(trades, digits) {
  const paused = element("trades-scroll").scrollTop > 4;
  element("trades-paused").hidden = !paused;
  if (paused) return;
  shown.tradeRows.forEach(({ row, cells }, index) => {
    const trade = trades[index];
    setText(cells[0], trade ? clock(trade.time) : "");
    setText(cells[1], trade ? `${trade.sold ? "▼" : "▲"} ${formatDecimal(parseDecimal(trade.price), digits.price)}` : "");
    setText(cells[2], trade ? formatDecimal(parseDecimal(trade.quantity), digits.quantity) : "");
    setClass(cells[1].parentNode, trade ? (trade.sold ? "down" : "up") : "");
    if (row.dataset.id !== String(trade?.id ?? "")) row.dataset.id = trade?.id ?? "";
  });
}

function clock(time) {
  const date = new Date(time);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

function paintTicker({ ticker, trades }, digits) {
  const last = trades[0]?.price ?? ticker?.last;
  setText(element("last-price"), last ? formatDecimal(parseDecimal(last), digits.price) : "–");
  const before = trades.find((trade) => trade.price !== trades[0].price);
  const rose = before && parseDecimal(trades[0].price) > parseDecimal(before.price);
  setText(element("last-arrow"), before ? (rose ? "▲" : "▼") : "");
  setClass(element("last"), before ? `last ${rose ? "up" : "down"}` : "last");
  if (!ticker) return;
  const fell = ticker.change.startsWith("-");
  setText(element("ticker-change"), `${fell ? "" : "+"}${ticker.change} %`);
  setClass(element("ticker-change"), fell ? "down" : "up");
  setText(element("ticker-high"), formatDecimal(parseDecimal(ticker.high), digits.price));
  setText(element("ticker-low"), formatDecimal(parseDecimal(ticker.low), digits.price));
  setText(element("ticker-volume"), formatDecimal(parseDecimal(ticker.volume), digits.quantity));
  setText(element("ticker-quote-volume"), formatDecimal(parseDecimal(ticker.quoteVolume), digits.price));
}

// ---- The symbols ----------------------------------------------------------------------------------------------------

const picker = element("symbol");
let symbols = new Map();

async function loadSymbols() {
  const { symbols: listed } = await getJson("/api/v3/exchangeInfo", new AbortController().signal);
  symbols = new Map(listed.map((info) => {
    const filter = (type) => info.filters.find((candidate) => candidate.filterType === type);
    info.digits = {
      price: decimalsOf(filter("PRICE_FILTER")?.tickSize ?? "0"),
      quantity: decimalsOf(filter("LOT_SIZE")?.stepSize ?? "0"),
    };
    return [info.symbol, info];
  }));
  const names = [...symbols.keys()];
  if (names.join() !== Array.from(picker.options, (option) => option.value).join()) {
    const chosen = picker.value;
    picker.replaceChildren(...names.map((name) => new Option(name, name)));
    if (symbols.has(chosen)) picker.value = chosen;
  }
  picker.disabled = names.length === 0;
  paintStatus();
}

function paintStatus() {
  const status = symbols.get(market?.symbol)?.status ?? "TRADING";
  element("symbol-status").hidden = status === "TRADING";
  setText(element("symbol-status"), status);
}

function choose(name) {
  if (market?.symbol === name || !symbols.has(name)) return;
  market?.stop();
  const info = symbols.get(name);
  picker.value = name;
  for (const id of ["ticker-base", "book-base"]) setText(element(id), info.baseAsset);
  for (const id of ["ticker-quote", "book-quote"]) setText(element(id), info.quoteAsset);
  for (const id of ["ticker-change", "ticker-high", "ticker-low", "ticker-volume", "ticker-quote-volume"]) setText(element(id), "–");
  element("trades-scroll").scrollTop = 0;
  market = new Market(info);
  paintStatus();
  invalidate();
  history.replaceState(null, "", `?symbol=${encodeURIComponent(name)}`);
}

async function start() {
  setText(element("rest-base"), REST_BASE);
  setText(element("stream-base"), `${STREAM_BASE}/stream`);
  picker.addEventListener("change", () => choose(picker.value));
  element("trades-scroll").addEventListener("scroll", invalidate, { passive: true });
  addEventListener("online", () => { if (market && !market.link) market.connect(); });

  for (let attempt = 0; symbols.size === 0; attempt += 1) {
    try {
      await loadSymbols();
    } catch (error) {
      console.warn("symbols:", error.message);
      setText(element("connection"), "Server does not answer; trying again");
    }
    if (symbols.size === 0) await new Promise((resolve) => setTimeout(resolve, backoff(attempt)));
  }
  const wanted = new URLSearchParams(location.search).get("symbol")?.toUpperCase();
  choose(symbols.has(wanted) ? wanted : symbols.keys().next().value);

  setInterval(() => loadSymbols().catch((error) => console.warn("symbols:", error.message)), SYMBOLS_EVERY_MS);
  setInterval(() => {
    if (!market) return;
    setText(element("message-rate"), String(market.messages));
    market.messages = 0;
    const last = market.trades[0]?.price ?? market.ticker?.last;
    document.title = `${last ? `${formatDecimal(parseDecimal(last), market.info.digits.price)} ` : ""}${market.symbol} – Rialto`;
  }, 1000);
}

start();
