// The chart: candles, volume, the last price and one's own orders, by lightweight-charts. What the canvas shows is said in the
// legend as text too, for the bar under the pointer or, by the arrow keys, any other.

import { CandlestickSeries, HistogramSeries, createChart } from "../vendor/lightweight-charts.mjs";
import { formatDecimal, parseDecimal } from "./decimal.js";
import { dayAndClock, element, invalidate, setText } from "./dom.js";

const OLDER_WITHIN_BARS = 20;
const MINUTE_MS = 60_000;

export class Chart {
  /** @param {HTMLElement} container */
  constructor(container) {
    this.container = container;
    this.chart = createChart(container, { autoSize: true, localization: { timeFormatter: (/** @type {number} */ time) => dayAndClock(time * 1000) } });
    this.chart.timeScale().applyOptions({ timeVisible: true, secondsVisible: false, rightOffset: 4, tickMarkFormatter: tickMark });
    this.series = this.chart.addSeries(CandlestickSeries, {});
    this.volume = this.chart.addSeries(HistogramSeries, { priceFormat: { type: "volume" }, priceLineVisible: false, lastValueVisible: false }, 1);
    /** @type {import("./candles.js").Candles | null} */
    this.candles = null;
    this.digits = { price: 2, quantity: 2 };
    /** @type {any[]} */
    this.lines = [];
    this.linesText = "";
    this.isFirst = true;
    this.last = -1;
    this.colours = { up: "", down: "", buy: "", sell: "" };
    /** @type {number | null} the bar that the pointer or the keys chose */
    this.chosen = null;
    this.chart.subscribeCrosshairMove((/** @type {any} */ at) => {
      const time = typeof at.time === "number" ? at.time * 1000 : null;
      if (time === this.chosen) return;
      this.chosen = time;
      invalidate();
    });
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((/** @type {any} */ range) => {
      if (!range || range.from > OLDER_WITHIN_BARS || this.isFirst) return;
      this.candles?.readOlder().then(invalidate, (error) => console.warn("older candles:", error.message));
    });
    container.addEventListener("keydown", (event) => this.key(event));
    this.recolour();
  }

  /** @param {any} info @param {{price: number, quantity: number}} digits */
  setSymbol(info, digits) {
    this.digits = digits;
    this.series.applyOptions({ priceFormat: { type: "price", precision: digits.price, minMove: 10 ** -digits.price } });
    this.candles = null;
  }

  /** The palette's colours, which the canvas cannot take from the style sheet by itself. */
  recolour() {
    const style = getComputedStyle(document.documentElement);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
    const [up, down] = [colour("up"), colour("down")];
    this.colours = { up: colour("up-bar"), down: colour("down-bar"), buy: up, sell: down };
    this.chart.applyOptions({
      layout: {
        background: { type: "solid", color: colour("panel") }, textColor: colour("text"), fontFamily: "system-ui, sans-serif",
        panes: { separatorColor: colour("line"), separatorHoverColor: colour("line") },
      },
      grid: { vertLines: { color: colour("grid") }, horzLines: { color: colour("grid") } },
      rightPriceScale: { borderColor: colour("line") },
      timeScale: { borderColor: colour("line") },
      crosshair: { vertLine: { labelBackgroundColor: colour("label") }, horzLine: { labelBackgroundColor: colour("label") } },
    });
    this.series.applyOptions({ upColor: up, downColor: down, borderUpColor: up, borderDownColor: down, wickUpColor: up, wickDownColor: down });
    this.linesText = "";
    if (this.candles) this.candles.isNew = true;
    invalidate();
  }

  /** @param {import("./candles.js").Candles} candles @param {import("./account.js").Order[]} orders */
  paint(candles, orders) {
    if (candles !== this.candles) {
      this.candles = candles;
      candles.isNew = true;
      this.isFirst = true;
      this.chosen = null;
    }
    const { isNew, candles: changed } = candles.take();
    if (isNew) {
      this.series.setData(changed.map((candle) => this.bar(candle)));
      this.volume.setData(changed.map((candle) => this.column(candle)));
      this.last = changed.at(-1)?.time ?? -1;
      if (this.isFirst && changed.length > 0) {
        this.isFirst = false;
        this.chart.timeScale().setVisibleLogicalRange({ from: changed.length - 120, to: changed.length + 4 });
        this.chart.panes()[1]?.setStretchFactor(0.25);
      }
    } else {
      for (const candle of changed) {
        // An older bar may be corrected, but only if the series is told that it is an older one.
        const isOlder = candle.time < this.last;
        this.series.update(this.bar(candle), isOlder);
        this.volume.update(this.column(candle), isOlder);
        this.last = Math.max(this.last, candle.time);
      }
    }
    this.paintLegend(candles);
    this.paintOrders(orders);
  }

  /** @param {import("./candles.js").Candle} candle */
  bar(candle) {
    return {
      time: candle.time / 1000, open: Number(candle.open), high: Number(candle.high), low: Number(candle.low), close: Number(candle.close),
    };
  }

  /** @param {import("./candles.js").Candle} candle */
  column(candle) {
    const rose = Number(candle.close) >= Number(candle.open);
    return { time: candle.time / 1000, value: Number(candle.volume), color: rose ? this.colours.up : this.colours.down };
  }

  /** @param {import("./candles.js").Candles} candles */
  paintLegend(candles) {
    const candle = candles.byTime.get(this.chosen ?? this.last);
    const price = (/** @type {string} */ text) => formatDecimal(parseDecimal(text), this.digits.price);
    const text = candle
      ? `${dayAndClock(candle.time)}  O ${price(candle.open)}  H ${price(candle.high)}  L ${price(candle.low)}  C ${price(candle.close)}`
        + `  V ${formatDecimal(parseDecimal(candle.volume), this.digits.quantity)}`
      : "No candle yet";
    setText(element("legend"), text);
  }

  /** @param {import("./account.js").Order[]} orders */
  paintOrders(orders) {
    const marked = orders.filter((order) => Number(order.price) > 0 || Number(order.stop) > 0);
    const text = marked.map((order) => `${order.id} ${order.price} ${order.stop} ${order.quantity} ${order.executed}`).join();
    if (text === this.linesText) return;
    this.linesText = text;
    this.lines.forEach((line) => this.series.removePriceLine(line));
    this.lines = marked.map((order) => this.series.createPriceLine({
      price: Number(order.price) || Number(order.stop), color: order.side === "BUY" ? this.colours.buy : this.colours.sell,
      lineStyle: 2, lineWidth: 1, axisLabelVisible: false, title: `${order.side === "BUY" ? "▲ buy" : "▼ sell"} ${Number(order.quantity)}`,
    }));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range || !this.candles || event.altKey || event.ctrlKey || event.metaKey) return;
    const width = range.to - range.from;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const times = [...this.candles.byTime.keys()].sort((a, b) => a - b);
      const at = times.indexOf(this.chosen ?? this.last) + (event.key === "ArrowLeft" ? -1 : 1);
      const candle = this.candles.byTime.get(times[Math.max(0, Math.min(times.length - 1, at))]);
      if (!candle) return;
      this.chart.setCrosshairPosition(Number(candle.close), candle.time / 1000, this.series);
      this.chosen = candle.time;
      setText(element("legend-live"), element("legend").textContent);
    } else if (event.key === "ArrowUp") {
      scale.setVisibleLogicalRange({ from: range.from + width * 0.1, to: range.to });
    } else if (event.key === "ArrowDown") {
      scale.setVisibleLogicalRange({ from: range.from - width * 0.1, to: range.to });
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    invalidate();
    requestAnimationFrame(() => setText(element("legend-live"), element("legend").textContent));
  }

  /** The newest bar at the right again. */
  recentre() { this.chart.timeScale().scrollToRealTime(); }
}

/** @param {number} time @param {number} kind */
function tickMark(time, kind) {
  const date = new Date(time * 1000);
  if (kind === 0) return String(date.getFullYear());
  if (kind === 1) return date.toLocaleDateString(undefined, { month: "short" });
  if (kind === 2) return date.toLocaleDateString(undefined, { month: "short", day: "numeric" });
  const [hours, minutes, seconds] = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0"));
  return time * 1000 % MINUTE_MS === 0 ? `${hours}:${minutes}` : `${hours}:${minutes}:${seconds}`;
}
