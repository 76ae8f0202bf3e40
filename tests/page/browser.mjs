// The real browser, and what the tests read off the page.

import { chromium } from "playwright-core";
import { passwordOf } from "./exchange.mjs";

/** Generous: the machine may be busy. How quick it really was is printed. */
export const PATIENCE_MS = 30_000;

/** With a name for nothing but this machine, so that whatever asks elsewhere fails. @param {string} executablePath */
export function launch(executablePath) {
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking", "--js-flags=--expose-gc"],
  });
}

export class Page {
  /** @param {import("playwright-core").Browser} browser @param {string} origin @param {any} [options] */
  static async open(browser, origin, { viewport = { width: 1440, height: 900 }, colorScheme = "dark", reducedMotion = "no-preference", path = "/", enter = async (_page) => {} } = {}) {
    const context = await browser.newContext({ viewport, colorScheme, reducedMotion });
    const page = new Page(context, await context.newPage());
    page.tab.setDefaultTimeout(PATIENCE_MS);
    page.tab.on("console", (message) => { if (message.type() === "error") page.errors.push(message.text()); });
    page.tab.on("pageerror", (error) => page.errors.push(String(error)));
    page.tab.on("request", (request) => page.requests.push({ method: request.method(), url: request.url() }));
    page.tab.on("websocket", (socket) => page.requests.push({ method: "SOCKET", url: socket.url() }));
    const network = await context.newCDPSession(page.tab);
    await network.send("Network.enable");
    network.on("Network.loadingFinished", ({ encodedDataLength }) => { page.loaded += encodedDataLength; });
    const began = performance.now();
    await page.tab.goto(origin + path);
    await enter(page);
    await page.live();
    page.liveAfter = performance.now() - began;
    return page;
  }

  constructor(context, tab) {
    this.context = context;
    this.tab = tab;
    this.errors = [];
    this.requests = [];
    this.loaded = 0;
  }

  /** The operators' console asks who is there. */
  async enterConsole(token, operator = "ann") {
    await this.tab.fill("#token", token);
    await this.tab.fill("#operator", operator);
    await this.tab.click("#open");
  }

  live() { return this.tab.waitForSelector("#conn[data-state=live]", { state: "attached" }); }
  close() { return this.context.close(); }
  text(selector) { return this.tab.locator(selector).first().textContent(); }

  /** Waits until what runs in the page is true; how long that took. */
  async until(what, wanted, ...given) {
    const began = performance.now();
    await this.tab.waitForFunction(wanted, given.length > 1 ? given : given[0], { polling: 20 })
      .catch(() => { throw new Error(`never: ${what}`); });
    return performance.now() - began;
  }

  /** Once what the page knows now is painted. */
  painted() { return this.tab.evaluate(() => globalThis.__probe.painted()); }

  /** The book as it is shown: best first. */
  book() {
    return this.tab.evaluate(() => {
      const rows = (id) => [...document.getElementById(id).rows].map((row) => [...row.cells].map((cell) => cell.textContent)).filter(([price]) => price);
      return { asks: rows("asks").reverse(), bids: rows("bids") };
    });
  }

  trades() {
    return this.tab.evaluate(() => [...document.getElementById("trades").rows].filter((row) => row.dataset.id).map((row) => (
      { id: Number(row.dataset.id), price: row.cells[1].textContent, size: row.cells[2].textContent })));
  }

  rows(id) {
    return this.tab.evaluate((name) => [...document.getElementById(name).rows].map((row) => [...row.cells].map((cell) => cell.textContent)), id);
  }

  async logIn(name) {
    await this.tab.click("#account-button");
    await this.tab.fill("#login-name", name);
    await this.tab.fill("#login-password", passwordOf(name));
    await this.tab.click("#login-submit");
    await this.ready();
  }

  ready() { return this.until("the account is read", () => globalThis.__probe.account()?.isCurrent === true); }

  async order({ side = "BUY", kind = "limit", ...fields }) {
    await this.tab.check(`#side-${side}`, { force: true });
    await this.tab.selectOption("#kind", kind);
    for (const [field, value] of Object.entries(fields)) await this.tab.fill(`#${field}`, value);
    await this.tab.click("#submit");
  }

  /** What the form says of the last order. */
  async result() {
    await this.until("the order is answered", () => {
      const said = document.getElementById("result");
      return said.dataset.kind !== "" && said.textContent !== "Sending…";
    });
    return this.text("#result");
  }
}

// ---- Decimals, apart from the page's own ----------------------------------------------------------------------------

export const units = (text) => {
  const [whole, fraction = ""] = text.replaceAll(",", "").split(".");
  return BigInt(whole + fraction.padEnd(8, "0").slice(0, 8));
};
/** The text without grouping, of 8 decimals. */
export const eight = (text) => {
  const digits = String(units(text)).padStart(9, "0");
  return `${digits.slice(0, -8)}.${digits.slice(-8)}`;
};
