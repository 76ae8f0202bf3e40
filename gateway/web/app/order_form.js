// The order form: every kind of order, checked against the symbol's filters before it is sent.

import { floorTo, formatDecimal, isDecimal, parseDecimal, per, plainDecimal, shortDecimal, times } from "./decimal.js";
import { announce, element, setProperty, setText } from "./dom.js";
import { checkIceberg, checkNotional, checkPrice, checkQuantity, checkTotal, checkTrailing, filterOf } from "./filters.js";
import { Refusal } from "./requests.js";
import { words } from "./account.js";

/** Which fields each kind shows, and what it is called in the API. */
const KINDS = /** @type {Record<string, {name: string, type: string, fields: string[]}>} */ ({
  limit: { name: "Limit", type: "LIMIT", fields: ["price", "quantity", "tif", "iceberg", "post-only"] },
  market: { name: "Market", type: "MARKET", fields: ["quantity", "total"] },
  "stop-limit": { name: "Stop limit", type: "STOP_LOSS_LIMIT", fields: ["stop", "price", "quantity", "tif", "iceberg"] },
  "stop-market": { name: "Stop market", type: "STOP_LOSS", fields: ["stop", "quantity"] },
  "take-profit-limit": { name: "Take profit limit", type: "TAKE_PROFIT_LIMIT", fields: ["stop", "price", "quantity", "tif", "iceberg"] },
  "take-profit": { name: "Take profit", type: "TAKE_PROFIT", fields: ["stop", "quantity"] },
  trailing: { name: "Trailing stop", type: "STOP_LOSS", fields: ["delta", "stop", "quantity"] },
  pegged: { name: "Pegged to the best", type: "PEGGED", fields: ["peg", "peg-levels", "quantity", "tif"] },
  oco: { name: "OCO: limit or stop", type: "OCO", fields: ["price", "stop", "stop-price", "quantity"] },
  oto: { name: "OTO: then another", type: "OTO", fields: ["price", "quantity", "then-price"] },
  otoco: { name: "OTOCO: then profit or stop", type: "OTOCO", fields: ["price", "quantity", "then-price", "then-stop"] },
  opo: { name: "OPO: then sell what was bought", type: "OPO", fields: ["price", "quantity", "then-price"] },
  opoco: { name: "OPOCO: then profit or stop for it", type: "OPOCO", fields: ["price", "quantity", "then-price", "then-stop"] },
});
const ALL_FIELDS = ["delta", "stop", "price", "stop-price", "peg", "peg-levels", "quantity", "total", "then-price", "then-stop", "tif", "iceberg", "post-only"];
const DECIMALS = ["stop", "price", "stop-price", "delta", "peg-levels", "quantity", "total", "then-price", "then-stop", "iceberg"];
const ATTEMPTS = 2;

export class OrderForm {
  /** @param {() => {market: import("./market.js").Market | null, account: import("./account.js").Account | null,
   *  session: import("./session.js").Session, status: string}} look */
  constructor(look) {
    this.look = look;
    this.side = "BUY";
    this.isSending = false;
    /** Only what was touched is complained of while it is typed. */
    this.isChecked = false;
    const kinds = element("kind");
    kinds.replaceChildren(...Object.entries(KINDS).map(([value, kind]) => new Option(kind.name, value)));
    kinds.addEventListener("change", () => this.arrange());
    for (const field of DECIMALS) {
      input(field).addEventListener("input", () => {
        const kept = input(field).value.replace(",", ".").replace(/[^0-9.]/g, "").replace(/(\..*)\./g, "$1");
        setProperty(input(field), "value", kept);
        if (field === "quantity" && kept) input("total").value = "";
        if (field === "total" && kept) input("quantity").value = "";
        if (this.isChecked) this.show(this.check());
        this.paint();
      });
    }
    for (const side of ["BUY", "SELL"]) element(`side-${side}`).addEventListener("change", () => this.setSide(side));
    element("best").addEventListener("click", () => this.setPrice(this.bestPrice()));
    element("mid").addEventListener("click", () => this.setPrice(this.middlePrice()));
    for (const percent of [25, 50, 75, 100]) element(`percent-${percent}`).addEventListener("click", () => this.setPart(percent));
    element("order-form").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.send();
    });
    element("post-only").addEventListener("change", () => this.arrange());
    this.arrange();
  }

  get kind() { return KINDS[element("kind").value] ?? KINDS.limit; }
  get info() { return this.look().market?.info; }
  get isMarket() { return ["MARKET", "STOP_LOSS", "TAKE_PROFIT"].includes(this.kind.type); }

  /** @param {string} kind */
  setKind(kind) {
    element("kind").value = kind;
    this.arrange();
  }

  /** @param {string} side */
  setSide(side) {
    this.side = side;
    element(`side-${side}`).checked = true;
    if (this.isChecked) this.show(this.check());
    this.paint();
  }

  /** Shows the fields of this kind and no others. */
  arrange() {
    for (const field of ALL_FIELDS) element(`field-${field}`).hidden = !this.has(field);
    setText(element("label-price"), this.kind.type === "OCO" ? "Limit price" : "Price");
    setText(element("label-then-price"), this.has("then-stop") ? "Then: profit price" : "Then: price");
    setText(element("label-stop"), this.has("delta") ? "From price (if any)" : "Stop price");
    element("tif").disabled = element("post-only").checked && this.has("post-only");
    this.isChecked = false;
    this.show(null);
    this.paint();
  }

  /** @param {string} field */
  has(field) { return this.kind.fields.includes(field); }

  /** @param {string | null} price */
  setPrice(price) {
    if (price === null) return;
    if (!this.has("price")) this.setKind("limit");
    input("price").value = price;
    if (this.isChecked) this.show(this.check());
    this.paint();
  }

  /** The best price of one's own side, where an order waits first in no other's way. */
  bestPrice() {
    const book = this.look().market?.book;
    const best = this.side === "BUY" ? book?.bids.prices[0] : book?.asks.prices[0];
    return best === undefined ? null : plainDecimal(best, this.info.digits.price);
  }

  middlePrice() {
    const book = this.look().market?.book;
    if (!book || book.bids.prices.length === 0 || book.asks.prices.length === 0) return null;
    const middle = (book.bids.prices[0] + book.asks.prices[0]) / 2n;
    return plainDecimal(floorTo(middle, parseDecimal(filterOf(this.info, "PRICE_FILTER")?.tickSize ?? "0")), this.info.digits.price);
  }

  /** So much of what is available. @param {number} percent */
  setPart(percent) {
    const { account, market } = this.look();
    if (!account || !market) return;
    const { baseAsset, quoteAsset } = market.info;
    let quantity;
    if (this.side === "SELL") {
      quantity = account.free(baseAsset);
    } else {
      const price = this.expectedPrice();
      if (price === null || price === 0n) return;
      quantity = per(account.free(quoteAsset), price);
    }
    const step = parseDecimal(filterOf(market.info, "LOT_SIZE")?.stepSize ?? "0");
    input("quantity").value = plainDecimal(floorTo((quantity * BigInt(percent)) / 100n, step), market.info.digits.quantity);
    input("total").value = "";
    if (this.isChecked) this.show(this.check());
    this.paint();
  }

  /** What the order would be filled at, as far as one can say. */
  expectedPrice() {
    for (const field of ["price", "stop"]) if (this.has(field) && !this.has("delta")) return isDecimal(text(field)) ? parseDecimal(text(field)) : null;
    const book = this.look().market?.book;
    return (this.side === "BUY" ? book?.asks.prices[0] : book?.bids.prices[0]) ?? null;
  }

  /** The first thing that the exchange would refuse, or null. @returns {import("./filters.js").Fault} */
  check() {
    const info = this.info;
    for (const field of ["stop", "price", "stop-price", "then-price", "then-stop"]) {
      // A trailing stop may begin at once.
      const isLeftOut = field === "stop" && this.has("delta") && text(field) === "";
      const fault = this.has(field) && !isLeftOut ? checkPrice(info, field, text(field)) : null;
      if (fault) return fault;
    }
    if (this.has("peg-levels") && !/^\d{0,3}$/.test(text("peg-levels"))) return { field: "peg-levels", text: "How many levels behind the best: a whole number" };
    if (this.kind.type.startsWith("OPO") && this.side !== "BUY") return { field: "quantity", text: `${this.kind.type}: what is bought is sold, so begin with Buy` };
    if (this.has("delta")) {
      // A stop follows the price from below where it sells, from above where it buys.
      const fault = checkTrailing(info, "delta", text("delta"), this.side === "BUY");
      if (fault) return fault;
    }
    if (this.has("total") && text("total") && !text("quantity")) {
      if (!isDecimal(text("total"))) return { field: "total", text: "NOTIONAL: the total is missing" };
      return checkTotal(info, "total", parseDecimal(text("total")), true);
    }
    const fault = checkQuantity(info, "quantity", text("quantity"), this.isMarket);
    if (fault) return fault;
    if (this.has("iceberg") && text("iceberg")) {
      const hidden = checkIceberg(info, "iceberg", text("iceberg"), text("quantity"));
      if (hidden) return hidden;
    }
    const prices = ["price", "stop-price", "then-price"].filter((field) => this.has(field)).map(text);
    if (this.isMarket) {
      const expected = this.expectedPrice();
      if (expected !== null) prices.push(plainDecimal(expected, 18));
    }
    for (const price of prices) {
      const low = checkNotional(info, "quantity", price, text("quantity"), this.isMarket);
      if (low) return low;
    }
    return null;
  }

  /** Says what is wrong, at the field and above the button. @param {import("./filters.js").Fault} fault */
  show(fault) {
    for (const field of DECIMALS) {
      if (fault?.field === field) input(field).setAttribute("aria-invalid", "true");
      else input(field).removeAttribute("aria-invalid");
    }
    setText(element("fault"), fault?.text ?? "");
  }

  /** The call that places it. @returns {[string, Record<string, string>]} */
  request() {
    const [side, other] = this.side === "BUY" ? ["BUY", "SELL"] : ["SELL", "BUY"];
    const base = { symbol: this.info.symbol };
    const name = `web-${crypto.getRandomValues(new Uint32Array(3)).join("").slice(0, 24)}`;
    const working = {
      workingType: "LIMIT", workingSide: side, workingPrice: text("price"), workingQuantity: text("quantity"), workingTimeInForce: "GTC",
    };
    // What an OPO sells is what its first order brought.
    /** @type {Record<string, string>} */
    const pending = this.kind.type.startsWith("OPO") ? { pendingSide: other } : { pendingSide: other, pendingQuantity: text("quantity") };
    const isBuy = side === "BUY";
    switch (this.kind.type) {
      case "OCO": {
        const limit = { Type: "LIMIT_MAKER", Price: text("price") };
        const stop = { Type: "STOP_LOSS_LIMIT", StopPrice: text("stop"), Price: text("stop-price"), TimeInForce: "GTC" };
        const [above, below] = isBuy ? [stop, limit] : [limit, stop];
        return ["/api/v3/orderList/oco", {
          ...base, side, quantity: text("quantity"), listClientOrderId: name, ...prefixed("above", above), ...prefixed("below", below),
        }];
      }
      case "OTO":
      case "OPO":
        return [`/api/v3/orderList/${this.kind.type.toLowerCase()}`, {
          ...base, ...working, ...pending, listClientOrderId: name,
          pendingType: "LIMIT", pendingPrice: text("then-price"), pendingTimeInForce: "GTC",
        }];
      case "OTOCO":
      case "OPOCO": {
        const profit = { Type: "LIMIT_MAKER", Price: text("then-price") };
        const stop = { Type: "STOP_LOSS", StopPrice: text("then-stop") };
        const [above, below] = isBuy ? [profit, stop] : [stop, profit];
        return [`/api/v3/orderList/${this.kind.type.toLowerCase()}`, {
          ...base, ...working, ...pending, listClientOrderId: name, ...prefixed("pendingAbove", above), ...prefixed("pendingBelow", below),
        }];
      }
    }
    /** @type {Record<string, string>} */
    const params = { ...base, side, type: this.kind.type, newClientOrderId: name, newOrderRespType: "FULL" };
    if (this.has("price")) params.price = text("price");
    if (this.has("stop") && text("stop")) params.stopPrice = text("stop");
    if (this.has("peg")) {
      params.type = "LIMIT";
      params.pegPriceType = element("peg").value;
      if (Number(text("peg-levels")) > 0) Object.assign(params, { pegOffsetType: "PRICE_LEVEL", pegOffsetValue: text("peg-levels") });
    }
    if (this.has("delta")) params.trailingDelta = text("delta");
    if (this.has("total") && !text("quantity")) params.quoteOrderQty = text("total");
    else params.quantity = text("quantity");
    if (this.has("tif")) params.timeInForce = element("tif").value;
    if (this.has("iceberg") && text("iceberg")) params.icebergQty = text("iceberg");
    if (this.has("post-only") && element("post-only").checked) {
      params.type = "LIMIT_MAKER";
      delete params.timeInForce;
    }
    if (element("self-trade").value) params.selfTradePreventionMode = element("self-trade").value;
    return ["/api/v3/order", params];
  }

  async send() {
    if (this.isSending || element("submit").disabled) return;
    this.isChecked = true;
    const fault = this.check();
    this.show(fault);
    if (fault) {
      setText(element("result"), "");
      announce(fault.text);
      input(fault.field).focus();
      return;
    }
    this.isSending = true;
    this.paint();
    setText(element("result"), "Sending…");
    element("result").dataset.kind = "";
    const [path, params] = this.request();
    const said = await this.place(path, params);
    setText(element("result"), said.text);
    element("result").dataset.kind = said.isGood ? "good" : "bad";
    announce(said.text);
    this.isSending = false;
    this.paint();
  }

  /** Sends it; where no answer comes, once more under the same name, under which the exchange places it only once.
   *  @param {string} path @param {Record<string, string>} params */
  async place(path, params) {
    const { session } = this.look();
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await session.command("POST", path, params);
        const reports = answer.orderReports ?? [answer];
        const states = reports.map((/** @type {any} */ row) => `${row.status ?? answer.listOrderStatus} order ${row.orderId}`);
        const filled = Number(answer.executedQty ?? 0) > 0
          ? `, ${shortDecimal(answer.executedQty)} at ${formatDecimal(per(parseDecimal(answer.cummulativeQuoteQty), parseDecimal(answer.executedQty)), this.info.digits.price)}` : "";
        return { isGood: true, text: states.join("; ") + filled };
      } catch (error) {
        const isUnknown = !(error instanceof Refusal) || error.code === -1007;
        if (isUnknown && attempt < ATTEMPTS) continue;
        if (isUnknown) return { isGood: false, text: "No answer: whether the order was placed is not known. See the open orders." };
        return { isGood: false, text: `REJECTED ${error.code}: ${error.message}` };
      }
    }
  }

  paint() {
    const { market, account, session, status } = this.look();
    if (!market) return;
    const { baseAsset, quoteAsset, digits } = market.info;
    const isLive = market.state === "live";
    const why = !session.user ? "Log in to trade" : !session.canTrade ? "This login may not trade"
      : !isLive ? "Not connected: no orders now" : status !== "TRADING" ? `The symbol's status is ${status}: no orders now`
        : !account?.isCurrent ? "Reading the account" : "";
    setText(element("form-note"), why);
    setProperty(element("submit"), "disabled", why !== "" || this.isSending);
    setText(element("submit"), `${this.side === "BUY" ? "Buy" : "Sell"} ${baseAsset}`);
    if (element("order-form").dataset.side !== this.side) element("order-form").dataset.side = this.side;
    const free = (/** @type {string} */ asset, /** @type {number} */ places) => (account ? formatDecimal(account.free(asset), places) : "–");
    setText(element("available"), `${free(baseAsset, digits.quantity)} ${baseAsset} / ${free(quoteAsset, digits.price)} ${quoteAsset}`);
    const price = this.expectedPrice();
    const quantity = isDecimal(text("quantity")) ? parseDecimal(text("quantity")) : null;
    const total = quantity !== null && price !== null ? times(price, quantity) : isDecimal(text("total")) ? parseDecimal(text("total")) : null;
    setText(element("order-total"), total === null ? "–" : `${formatDecimal(total, digits.price)} ${quoteAsset}`);
    const isMaker = element("post-only").checked && this.has("post-only");
    const rate = account?.fees ? account.fees[isMaker ? "maker" : "taker"] : null;
    // A buyer pays in what is bought, a seller in what comes in.
    const [basis, asset] = this.side === "BUY" ? [quantity, baseAsset] : [total, quoteAsset];
    setText(element("order-fee"), rate === null || basis === null ? "–" : `up to ${shortDecimal(formatDecimal(times(basis, parseDecimal(rate)), 8))} ${asset}`);
    for (const id of ["quantity-unit"]) setText(element(id), baseAsset);
    for (const unit of document.querySelectorAll(".quote-unit")) setText(unit, quoteAsset);
  }

  /** What depends on the symbol. */
  setSymbol() {
    const info = this.info;
    const modes = info.allowedSelfTradePreventionModes ?? [];
    element("self-trade").replaceChildren(
      new Option(`default (${words(info.defaultSelfTradePreventionMode ?? "")})`, ""),
      ...modes.map((/** @type {string} */ mode) => new Option(words(mode), mode)),
    );
    for (const field of DECIMALS) input(field).value = "";
    setText(element("result"), "");
    this.arrange();
  }
}

/** @param {string} field @returns {HTMLInputElement} */
const input = (field) => element(field);
/** @param {string} field */
const text = (field) => input(field).value;

/** @param {string} prefix @param {Record<string, string>} fields */
function prefixed(prefix, fields) {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [prefix + name, value]));
}
