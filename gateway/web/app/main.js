// The trading page: wires what is known (market, account, session) to what shows it.

import { Account } from "./account.js";
import { INTERVALS } from "./candles.js";
import { Chart } from "./chart.js";
import { DepthChart } from "./depth_chart.js";
import { decimalsOf, formatDecimal, parseDecimal } from "./decimal.js";
import { announce, clock, element, invalidate, onPaint, painted, setProperty, setText } from "./dom.js";
import { filterOf } from "./filters.js";
import { startKeys } from "./keys.js";
import { Market } from "./market.js";
import { OrderForm } from "./order_form.js";
import { changeGroup, paintAccount, paintBook, paintConnection, paintTicker, paintTrades, view } from "./panels.js";
import { backoff, requestJson } from "./requests.js";
import { Session } from "./session.js";
import { startSettings } from "./settings.js";

const SYMBOLS_EVERY_MS = 10_000;
const NARROW = matchMedia("(max-width: 899px)");

/** @type {Market | null} */
let market = null;
/** @type {Account | null} */
let account = null;
/** @type {Map<string, any>} */
let symbols = new Map();
const session = new Session();
const chart = new Chart(element("chart"));
const depthChart = new DepthChart(element("depth-canvas"));
const statusOf = () => symbols.get(market?.symbol ?? "")?.status ?? "TRADING";
const form = new OrderForm(() => ({ market, account, session, status: statusOf() }));

// ---- Painting -------------------------------------------------------------------------------------------------------

onPaint(() => {
  if (!market) return;
  const own = (account?.open() ?? []).filter((order) => order.symbol === market?.symbol);
  paintConnection(market);
  paintBook(market, own);
  paintTrades(market);
  paintTicker(market);
  if (element("chart-view-depth").checked) depthChart.paint(market.book, market.info.digits);
  else chart.paint(market.candles, own);
  paintAccount(account, market, symbols);
  form.paint();
});

function paintEverySecond() {
  if (!market) return;
  setText(element("message-rate"), String(market.messages));
  market.messages = 0;
  const ms = (/** @type {number | null} */ value) => (value === null ? "–" : value.toFixed(1));
  setText(element("lag"), `${ms(market.lag.quantile(0.5))} / ${ms(market.lag.quantile(0.99))} ms`);
  setText(element("round-trip"), `${ms(session.roundTrips.quantile(0.5))} / ${ms(session.roundTrips.quantile(0.99))} ms`);
  setText(element("server-time"), clock(market.clock.now()));
  const last = market.trades[0]?.price ?? market.ticker?.last;
  const price = last ? `${formatDecimal(parseDecimal(last), market.info.digits.price)} ` : "";
  setProperty(document, "title", `${price}${market.symbol} – Rialto`);
}

// ---- Symbols --------------------------------------------------------------------------------------------------------

async function readSymbols() {
  const { symbols: listed } = await requestJson("/api/v3/exchangeInfo");
  symbols = new Map(listed.map((/** @type {any} */ info) => {
    info.digits = {
      price: decimalsOf(filterOf(info, "PRICE_FILTER")?.tickSize ?? "0"),
      quantity: decimalsOf(filterOf(info, "LOT_SIZE")?.stepSize ?? "0"),
    };
    return [info.symbol, info];
  }));
  const names = [...symbols.keys()];
  const picker = element("symbol");
  if (names.join() !== Array.from(picker.options, (/** @type {HTMLOptionElement} */ option) => option.value).join()) {
    const chosen = picker.value;
    picker.replaceChildren(...names.map((name) => new Option(name, name)));
    if (symbols.has(chosen)) picker.value = chosen;
  }
  picker.disabled = names.length === 0;
  const info = market && symbols.get(market.symbol);
  if (market && info) market.info = info;
  paintStatus();
}

function paintStatus() {
  const status = statusOf();
  element("symbol-status").hidden = status === "TRADING";
  setText(element("symbol-status"), status);
  invalidate();
}

/** @param {string} name */
function choose(name) {
  const info = symbols.get(name);
  if (market?.symbol === name || !info) return;
  market?.stop();
  element("symbol").value = name;
  for (const node of document.querySelectorAll("[data-asset]")) {
    setText(node, info[/** @type {HTMLElement} */ (node).dataset.asset === "base" ? "baseAsset" : "quoteAsset"]);
  }
  for (const id of ["ticker-change", "ticker-high", "ticker-low", "ticker-volume", "ticker-quote-volume"]) setText(element(id), "–");
  element("trades-scroll").scrollTop = 0;
  chart.setSymbol(info, info.digits);
  market = new Market(info, chosenInterval());
  openAccount();
  form.setSymbol();
  paintStatus();
  history.replaceState(null, "", `/trade/${encodeURIComponent(name)}`);
}

function openSymbols() {
  const dialog = element("symbols-dialog");
  element("symbols-search").value = "";
  listSymbols();
  dialog.showModal();
}

function listSymbols() {
  const wanted = element("symbols-search").value.toUpperCase().replace(/[^A-Z0-9]/g, "");
  const found = [...symbols.keys()].filter((name) => name.includes(wanted)).slice(0, 50);
  element("symbols-found").replaceChildren(...found.map((name) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
    button.addEventListener("click", () => { element("symbols-dialog").close(); choose(name); });
    return Object.assign(document.createElement("li")).appendChild(button).parentElement;
  }));
}

// ---- Account --------------------------------------------------------------------------------------------------------

function openAccount() {
  account?.stop();
  account = session.user?.uid != null && market ? new Account(session, market.symbol) : null;
  invalidate();
}

function paintUser() {
  setText(element("account-button"), session.user ? `Log out ${session.user.name}` : "Log in");
}

/** @param {string} what @param {Promise<unknown>} doing */
async function tell(what, doing) {
  try {
    await doing;
  } catch (error) {
    const { code, message } = /** @type {import("./requests.js").Refusal} */ (error);
    const text = `${what} failed${code ? ` ${code}` : ""}: ${message}`;
    setText(element("result"), text);
    element("result").dataset.kind = "bad";
    announce(text);
  }
}

/** @param {import("./account.js").Order | undefined} order */
function cancel(order) {
  if (!order || !account) return announce("There is no open order");
  tell(`Canceling order ${order.id}`, account.cancel(order));
}

function askToCancelAll() {
  if (!account || account.open().length === 0) return announce("There is no open order");
  setText(element("cancel-all-count"), String(account.open().length));
  element("cancel-all-dialog").showModal();
}

// ---- What people do -------------------------------------------------------------------------------------------------

const chosenInterval = () => /** @type {HTMLInputElement | null} */ (document.querySelector("input[name=interval]:checked"))?.value ?? "1m";

/** @param {string} interval */
function chooseInterval(interval) {
  element(`interval-${interval}`).checked = true;
  market?.setInterval(interval);
}

/** On a narrow screen one part is shown at a time. @param {string} part */
function showPart(part) {
  document.body.dataset.part = part;
  for (const button of document.querySelectorAll("#parts button")) {
    button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.part === part));
  }
  invalidate();
}

/** @param {string} side */
function goToForm(side) {
  if (NARROW.matches) showPart("form");
  form.setSide(side);
  if (form.has("price")) form.setPrice(form.bestPrice());
  element("quantity").focus();
}

function listen() {
  element("symbol").addEventListener("change", () => choose(element("symbol").value));
  element("trades-scroll").addEventListener("scroll", invalidate, { passive: true });
  for (const interval of INTERVALS) element(`interval-${interval}`).addEventListener("change", () => chooseInterval(interval));
  for (const name of ["candles", "depth"]) {
    element(`chart-view-${name}`).addEventListener("change", () => {
      const isDepth = element("chart-view-depth").checked;
      element("chart").hidden = isDepth;
      element("depth").hidden = !isDepth;
      element("legend").hidden = isDepth;
      invalidate();
    });
  }
  element("group-finer").addEventListener("click", () => { changeGroup(-1); invalidate(); });
  element("group-wider").addEventListener("click", () => { changeGroup(1); invalidate(); });
  element("unit").addEventListener("click", () => {
    view.isQuote = !view.isQuote;
    element("unit").setAttribute("aria-pressed", String(view.isQuote));
    invalidate();
  });
  element("book-table").addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const price = /** @type {Element} */ (event.target).closest("tr")?.dataset.price;
    if (!price) return;
    if (NARROW.matches) showPart("form");
    form.setPrice(price);
    element("quantity").focus();
  });
  element("open-orders").addEventListener("click", (/** @type {MouseEvent} */ event) => {
    const button = /** @type {Element} */ (event.target).closest("button");
    if (button) cancel(account?.orders.get(Number(button.closest("tr")?.dataset.id)));
  });
  element("cancel-all").addEventListener("click", askToCancelAll);
  element("cancel-all-dialog").addEventListener("close", () => {
    if (element("cancel-all-dialog").returnValue === "yes" && account) tell("Canceling all orders", account.cancelAll());
    element("cancel-all-dialog").returnValue = "";
  });
  listenForTabs();
  element("account-button").addEventListener("click", () => {
    if (session.user) session.logOut();
    else element("login-dialog").showModal();
  });
  element("login-form").addEventListener("submit", logIn);
  for (const button of document.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => /** @type {HTMLDialogElement} */ (button.closest("dialog")).close());
  }
  element("keys-button").addEventListener("click", () => element("keys-dialog").showModal());
  element("symbols-search").addEventListener("input", listSymbols);
  element("symbols-form").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    element("symbols-found").querySelector("button")?.click();
  });
  for (const button of document.querySelectorAll("#parts button")) {
    button.addEventListener("click", () => showPart(/** @type {HTMLElement} */ (button).dataset.part ?? "chart"));
  }
  for (const side of ["BUY", "SELL"]) element(`go-${side}`).addEventListener("click", () => goToForm(side));
  addEventListener("online", () => { if (market && !market.link) market.connect(); });
  addEventListener("resize", invalidate);
  session.onChange = () => { paintUser(); openAccount(); };
  startKeys({
    symbols: openSymbols,
    help: () => element("keys-dialog").showModal(),
    side: goToForm,
    cancelNewest: () => cancel(account?.open()[0]),
    cancelAll: askToCancelAll,
    interval: (index) => chooseInterval(INTERVALS[index]),
    recentre: () => { chart.recentre(); element("trades-scroll").scrollTop = 0; },
    part: (percent) => form.setPart(percent),
    leave: () => { if (document.activeElement instanceof HTMLElement) document.activeElement.blur(); },
  });
}

/** The tabs of the user's tables: arrow keys move between them. */
function listenForTabs() {
  const tabs = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[role=tab]")]);
  const select = (/** @type {HTMLElement} */ chosen) => {
    for (const tab of tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      element(tab.getAttribute("aria-controls") ?? "").hidden = !isChosen;
    }
  };
  tabs.forEach((tab, at) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      const next = tabs[(at + by + tabs.length) % tabs.length];
      select(next);
      next.focus();
    });
  });
}

/** @param {Event} event */
async function logIn(event) {
  event.preventDefault();
  setText(element("login-fault"), "");
  element("login-submit").disabled = true;
  try {
    await session.logIn(element("login-name").value, element("login-password").value, element("login-code").value);
    element("login-form").reset();
    element("login-dialog").close();
    announce(`Logged in as ${session.user?.name}`);
  } catch (error) {
    setText(element("login-fault"), /** @type {Error} */ (error).message);
  } finally {
    element("login-submit").disabled = false;
  }
}

// ---- The start ------------------------------------------------------------------------------------------------------

async function start() {
  startSettings(() => chart.recolour());
  listen();
  showPart("chart");
  const resumed = session.resume();
  for (let attempt = 0; symbols.size === 0; attempt += 1) {
    try {
      await readSymbols();
    } catch (error) {
      console.warn("symbols:", /** @type {Error} */ (error).message);
      setText(element("conn"), "Server does not answer; trying again");
    }
    if (symbols.size === 0) await new Promise((resolve) => setTimeout(resolve, backoff(attempt)));
  }
  const path = /^\/trade\/([^/]+)/.exec(location.pathname)?.[1];
  const wanted = (path ? decodeURIComponent(path) : new URLSearchParams(location.search).get("symbol"))?.toUpperCase() ?? "";
  choose(symbols.has(wanted) ? wanted : /** @type {string} */ (symbols.keys().next().value));
  await resumed;
  setInterval(() => readSymbols().catch((error) => console.warn("symbols:", error.message)), SYMBOLS_EVERY_MS);
  setInterval(paintEverySecond, 1000);
}

/** What tests look at: the same state that is painted. */
Object.assign(globalThis, {
  __probe: {
    market: () => market,
    account: () => account,
    painted,
    candles: () => chart.series.data(),
    colours: () => ({ up: chart.series.options().upColor, down: chart.series.options().downColor }),
  },
});

start();
