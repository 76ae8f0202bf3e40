// The page that trades, on an exchange where nothing happens but what the test does: orders, refusals, keys, two people.

import assert from "node:assert/strict";
import { Page, eight, units } from "./browser.mjs";
import { check, quick } from "./checks.mjs";

const ASKS = ["60010.00", "60010.01", "60025.50"];
const BIDS = ["59990.00", "59989.99", "59950.00"];
const E8 = 100_000_000n;

const orderRequests = (page) => page.requests.filter(({ method, url }) => method === "POST" && url.includes("/order"));

/** What the table of balances shows, against what the exchange says. */
async function assertBalances(page, user) {
  await page.tab.click("#tab-balances");
  const { balances } = await user.call("GET", "/api/v3/account");
  const wanted = balances.filter(({ free, locked }) => units(free) + units(locked) > 0n).map(({ asset, free, locked }) => [asset, free, locked]);
  await page.until("the balances", (rows) => {
    const shown = [...document.getElementById("balances").rows].map((row) => [...row.cells].slice(0, 3).map((cell) => cell.textContent.replaceAll(",", "")));
    return JSON.stringify(shown) === JSON.stringify(rows);
  }, wanted);
  await page.tab.click("#tab-open");
}

const isOpen = (id) => [...document.querySelectorAll("#open-orders tr[data-id]")].some((row) => row.dataset.id === String(id) && row.textContent.includes("NEW"));
const openCount = (count) => Number(document.getElementById("open-count").textContent) === count;

/** @param {any} browser @param {any} exchange */
export async function trading(browser, exchange) {
  const [maker, ann, bob] = await Promise.all(["maker-one", "ann-trader", "bob-trader"].map((name) => exchange.logIn(name)));
  for (const price of ASKS) await maker.limit("SELL", "1", price);
  for (const price of BIDS) await maker.limit("BUY", "1", price);
  const page = await Page.open(browser, exchange.url, { path: "/trade/BTCUSDT" });
  await page.logIn("ann-trader");

  await check("6: a click on a price puts it into the form, and the cursor into the size", async () => {
    for (const [side, prices] of [["asks", ASKS], ["bids", BIDS]]) {
      for (const price of prices) {
        await page.tab.click(`#${side} tr[data-price="${price}"]`);
        assert.equal(await page.tab.inputValue("#price"), price);
        assert.equal(await page.tab.evaluate(() => document.activeElement.id), "quantity");
      }
    }
  });

  await check("7: an order below the ask is open and marked in the book; canceled it is gone", async () => {
    const before = await ann.balance("USDT");
    const began = performance.now();
    await page.order({ side: "BUY", price: "59995.00", quantity: "0.01" });
    const answer = await page.result();
    assert.match(answer, /^NEW order \d+$/);
    const id = Number(/\d+/.exec(answer)[0]);
    await page.until("the order is open", isOpen, id);
    await page.until("it is marked", () => {
      const row = document.querySelector('#bids tr[data-price="59995.00"]');
      return row?.classList.contains("own") && row.cells[1].textContent.includes("◆");
    });
    quick("open and marked after the click", performance.now() - began, 500);
    const [row] = await page.rows("open-orders");
    const told = await ann.call("GET", "/api/v3/order", { symbol: "BTCUSDT", orderId: id });
    assert.deepEqual([eight(row[5]), eight(row[6]), row[8]], [told.price, told.origQty, told.status]);
    await assertBalances(page, ann);
    await page.tab.click("#open-orders button");
    await page.until("it is gone", openCount, 0);
    await page.until("the mark is gone", () => document.querySelector('#bids tr[data-price="59995.00"]') === null);
    await assertBalances(page, ann);
    assert.deepEqual(await ann.balance("USDT"), before);
  });

  await check("8: a crossing order is filled at the average of its trades", async () => {
    await page.order({ side: "BUY", price: "60010.01", quantity: "1.5" });
    const answer = await page.result();
    assert.match(answer, /^FILLED order/);
    const trades = await ann.call("GET", "/api/v3/myTrades", { symbol: "BTCUSDT" });
    const id = Number(/\d+/.exec(answer)[0]);
    const mine = trades.filter((trade) => trade.orderId === id);
    assert.equal(mine.length, 2);
    const sum = (of) => mine.reduce((total, trade) => total + of(trade), 0n);
    const average = sum((trade) => units(trade.price) * units(trade.qty)) / sum((trade) => units(trade.qty));
    await page.tab.click("#tab-history");
    // The account's events may come behind the answer.
    await page.until("the order is closed", () => document.querySelector("#order-history tr")?.cells[9]?.textContent === "FILLED");
    const [row] = await page.rows("order-history");
    assert.equal(units(row[8]), average - (average % (E8 / 100n)));
    await page.tab.click("#tab-fills");
    const fills = await page.rows("fills");
    assert.deepEqual(
      fills.map((fill) => [eight(fill[2]), eight(fill[3]), fill[5].split(" ")[1], fill[6]]),
      mine.toReversed().map((trade) => [trade.price, trade.qty, trade.commissionAsset, "taker"]),
    );
    fills.forEach((fill, at) => assert.equal(eight(fill[5].split(" ")[0]), mine.toReversed()[at].commission));
    await assertBalances(page, ann);
  });

  await check("9: what a filter forbids is said by its name and not sent", async () => {
    const sent = orderRequests(page).length;
    for (const [fields, name] of [
      [{ price: "59990.001", quantity: "0.01" }, "PRICE_FILTER"],
      [{ price: "2000000", quantity: "0.01" }, "PRICE_FILTER"],
      [{ price: "59990.00", quantity: "0.000001" }, "LOT_SIZE"],
      [{ price: "59990.00", quantity: "0.010001" }, "LOT_SIZE"],
      [{ price: "59990.00", quantity: "0.00001" }, "NOTIONAL"],
      [{ price: "", quantity: "0.01" }, "PRICE_FILTER"],
      [{ kind: "trailing", delta: "5", quantity: "0.01" }, "TRAILING_DELTA"],
      [{ kind: "limit", price: "59990.00", quantity: "0.01", iceberg: "0.00001" }, "ICEBERG_PARTS"],
      [{ kind: "limit", price: "59990.00", quantity: "0.01", iceberg: "0.1" }, "ICEBERG_PARTS"],
      [{ kind: "market", quantity: "", total: "4" }, "NOTIONAL"],
    ]) {
      await page.tab.evaluate((isHidden) => { document.querySelector("details").open = isHidden; }, "iceberg" in fields);
      await page.order(fields);
      const fault = await page.text("#fault");
      if ("iceberg" in fields) await page.tab.fill("#iceberg", "");
      assert.match(fault, new RegExp(`^${name}: `), JSON.stringify(fields));
    }
    assert.equal(orderRequests(page).length, sent);
  });

  await check("9: what the exchange refuses is shown with code and text, and the form keeps its values", async () => {
    await page.order({ side: "BUY", price: "59990.00", quantity: "5000" });
    assert.equal(await page.result(), "REJECTED -2010: Account has insufficient balance for requested action.");
    assert.equal(await page.tab.inputValue("#price"), "59990.00");
    assert.equal(await page.tab.inputValue("#quantity"), "5000");
  });

  await check("every kind of order is placed as it was filled in", async () => {
    const market = await placed({ kind: "market", quantity: "0.01" });
    assert.equal(market.status, "FILLED");
    const byTotal = await placed({ kind: "market", quantity: "", total: "100" });
    assert.equal(byTotal.origQuoteOrderQty, "100.00000000");
    for (const [fields, wanted] of [
      [{ kind: "stop-limit", side: "SELL", stop: "59000", price: "58900", quantity: "0.01" }, { type: "STOP_LOSS_LIMIT", stopPrice: "59000.00000000", price: "58900.00000000" }],
      [{ kind: "stop-market", side: "SELL", stop: "59000", quantity: "0.01" }, { type: "STOP_LOSS", stopPrice: "59000.00000000" }],
      [{ kind: "take-profit-limit", side: "SELL", stop: "61000", price: "61000", quantity: "0.01" }, { type: "TAKE_PROFIT_LIMIT" }],
      [{ kind: "take-profit", side: "SELL", stop: "61000", quantity: "0.01" }, { type: "TAKE_PROFIT" }],
      [{ kind: "trailing", side: "SELL", delta: "100", stop: "", quantity: "0.01" }, { type: "STOP_LOSS", trailingDelta: 100 }],
      [{ kind: "trailing", side: "SELL", delta: "100", stop: "61000", quantity: "0.01" }, { type: "STOP_LOSS", trailingDelta: 100, stopPrice: "61000.00000000" }],
      [{ kind: "pegged", side: "BUY", "peg-levels": "1", quantity: "0.01" }, { type: "LIMIT", pegPriceType: "PRIMARY_PEG", pegOffsetValue: 1, price: BIDS[1].padEnd(14, "0") }],
    ]) {
      const order = await placed(fields);
      for (const [name, value] of Object.entries(wanted)) assert.equal(order[name], value, `${fields.kind}: ${name}`);
      assert.equal(order.status, "NEW", fields.kind);
    }
    await page.tab.selectOption("#kind", "limit");
    await page.tab.check("#post-only");
    assert.equal((await placed({ side: "BUY", price: "59000.00", quantity: "0.01" })).type, "LIMIT_MAKER");
    await page.tab.uncheck("#post-only");
    await page.tab.selectOption("#tif", "IOC");
    assert.equal((await placed({ side: "BUY", price: "59000.00", quantity: "0.01" })).status, "EXPIRED");
    await page.tab.selectOption("#tif", "GTC");
    await page.tab.evaluate(() => { document.querySelector("details").open = true; });
    assert.equal((await placed({ side: "BUY", price: "59000.00", quantity: "1", iceberg: "0.1" })).icebergQty, "0.10000000");
    await page.tab.fill("#iceberg", "");
    const open = async () => Number(await page.text("#open-count"));
    for (const [fields, more] of [
      [{ kind: "oco", side: "SELL", price: "62000", stop: "58000", "stop-price": "57900", quantity: "0.01" }, 2],
      [{ kind: "oto", side: "BUY", price: "58000", quantity: "0.01", "then-price": "63000" }, 1],
      [{ kind: "otoco", side: "BUY", price: "58000", quantity: "0.01", "then-price": "63000", "then-stop": "57000" }, 1],
      [{ kind: "opo", side: "BUY", price: "58000", quantity: "0.01", "then-price": "63000" }, 1],
      [{ kind: "opoco", side: "BUY", price: "58000", quantity: "0.01", "then-price": "63000", "then-stop": "57000" }, 1],
    ]) {
      const before = (await ann.call("GET", "/api/v3/openOrders")).length;
      await page.order(fields);
      assert.doesNotMatch(await page.result(), /REJECTED/, fields.kind);
      const now = await ann.call("GET", "/api/v3/openOrders");
      assert.ok(now.length >= before + more, fields.kind);
      await page.until("they are shown", openCount, now.length);
    }
    assert.ok(await open() > 8);
    await page.tab.click("#cancel-all");
    await page.tab.click("#cancel-all-dialog button[value=yes]");
    await page.until("all are gone", openCount, 0);
    assert.deepEqual(await ann.call("GET", "/api/v3/openOrders"), []);
    await assertBalances(page, ann);

    async function placed(fields) {
      await page.order(fields);
      const answer = await page.result();
      const id = /order (\d+)/.exec(answer)?.[1];
      assert.ok(id, `${JSON.stringify(fields)}: ${answer} ${await page.text("#fault")}`);
      return ann.call("GET", "/api/v3/order", { symbol: "BTCUSDT", orderId: id });
    }
  });

  await check("10: keys do what they say, and fields take what is typed", async () => {
    const { keyboard } = page.tab;
    const active = () => page.tab.evaluate(() => document.activeElement.id);
    await page.tab.selectOption("#kind", "limit");
    await page.tab.evaluate(() => document.activeElement.blur());
    await keyboard.press("b");
    assert.deepEqual([await active(), await page.tab.inputValue("#price"), await page.tab.isChecked("#side-BUY")], ["quantity", BIDS[0], true]);
    const sent = orderRequests(page).length;
    await page.tab.fill("#quantity", "");
    await keyboard.type("b1s.c5");
    assert.equal(await page.tab.inputValue("#quantity"), "1.5");
    assert.equal(await page.tab.isChecked("#side-BUY"), true);
    assert.equal(orderRequests(page).length, sent);
    await keyboard.press("Escape");
    assert.notEqual(await active(), "quantity");
    await keyboard.press("s");
    assert.deepEqual([await page.tab.inputValue("#price"), await page.tab.isChecked("#side-SELL")], ["60010.01", true]);
    const { free } = await ann.balance("BTC");
    for (const [digit, percent] of [["1", 25n], ["2", 50n], ["3", 75n], ["4", 100n]]) {
      await keyboard.press(`Alt+${digit}`);
      const wanted = (units(free) * percent) / 100n;
      assert.equal(units(await page.tab.inputValue("#quantity")), wanted - (wanted % 1000n), `Alt+${digit}`);
    }
    await keyboard.press("Escape");
    await keyboard.press("?");
    assert.equal(await page.tab.isVisible("#keys-dialog"), true);
    await keyboard.press("Escape");
    await keyboard.press("Control+k");
    assert.deepEqual([await page.tab.isVisible("#symbols-dialog"), await active()], [true, "symbols-search"]);
    await keyboard.type("btc");
    await keyboard.press("Enter");
    assert.equal(await page.tab.isVisible("#symbols-dialog"), false);
    await page.tab.evaluate(() => document.activeElement.blur());
    await keyboard.press("2");
    assert.equal(await page.tab.isChecked("#interval-5m"), true);
    await keyboard.press("1");
    for (const price of ["50000.00", "50001.00", "50002.00"]) {
      await page.order({ side: "BUY", price, quantity: "0.01" });
      await page.result();
    }
    await page.until("three orders", openCount, 3);
    await page.tab.evaluate(() => document.activeElement.blur());
    await keyboard.press("c");
    await page.until("the newest is canceled", openCount, 2);
    assert.ok(!(await page.rows("open-orders")).flat().includes("50,002.00"));
    await keyboard.press("?");
    await page.tab.uncheck("#keys-on");
    await keyboard.press("Escape");
    for (const key of ["c", "s", "b"]) await keyboard.press(key);
    await page.tab.waitForTimeout(300);
    assert.equal(Number(await page.text("#open-count")), 2);
    await keyboard.press("Control+k");
    await page.tab.click("#symbols-dialog [data-close]");
    await page.tab.click("#keys-button");
    await page.tab.check("#keys-on");
    await keyboard.press("Escape");
    await page.tab.evaluate(() => document.activeElement.blur());
    await keyboard.press("Shift+C");
    assert.equal(await page.tab.isVisible("#cancel-all-dialog"), true);
    await page.tab.click("#cancel-all-dialog button[value=no]");
    assert.equal(Number(await page.text("#open-count")), 2);
    await keyboard.press("Shift+C");
    await page.tab.click("#cancel-all-dialog button[value=yes]");
    await page.until("all are gone", openCount, 0);
  });

  await check("14: an order by keyboard alone, told to those who listen", async () => {
    const { keyboard } = page.tab;
    await page.tab.reload();
    await page.live();
    await page.ready();
    const until = async (id) => {
      for (let left = 120; left > 0; left -= 1) {
        if (await page.tab.evaluate((wanted) => document.activeElement.id === wanted, id)) return;
        await keyboard.press("Tab");
      }
      throw new Error(`Tab does not come to ${id}`);
    };
    await until("side-BUY");
    await until("price");
    await keyboard.type("59000.00");
    await until("quantity");
    await keyboard.type("0.02");
    await until("submit");
    await keyboard.press("Enter");
    assert.match(await page.result(), /^NEW/);
    await page.until("it is told", () => /Buy order \d+.*: new|^NEW order/.test(document.getElementById("announcements").textContent));
    await page.until("one order", openCount, 1);
    await until("cancel-all");
    await keyboard.press("Enter");
    await keyboard.press("Enter");
    await page.until("none", openCount, 0);
    await page.until("that is told too", () => /canceled/.test(document.getElementById("announcements").textContent));
  });

  await check("17: two people in two tabs, an order of one filled by the other", async () => {
    const other = await Page.open(browser, exchange.url);
    await other.logIn("bob-trader");
    await page.order({ side: "SELL", price: "60000.00", quantity: "0.5" });
    assert.match(await page.result(), /^NEW/);
    await other.order({ side: "BUY", price: "60000.00", quantity: "0.5" });
    const began = performance.now();
    assert.match(await other.result(), /^FILLED/);
    const isShown = () => [...document.getElementById("fills").rows].some((row) => row.cells[2]?.textContent === "60,000.00");
    await Promise.all([page.until("A's fill", isShown), other.until("B's fill", isShown)]);
    quick("shown in both after the answer", performance.now() - began, 500);
    const [a] = await page.rows("fills");
    const [b] = await other.rows("fills");
    assert.deepEqual([a[1], a[6], b[1], b[6]], ["▼ Sell", "maker", "▲ Buy", "taker"]);
    assert.deepEqual([a[2], a[3], a[4]], [b[2], b[3], b[4]]);
    // 0.1 % of 30,000 for the seller who waited, 0.2 % of half a coin for the buyer who came.
    assert.deepEqual([a[5], b[5]], ["30 USDT", "0.001 BTC"]);
    await page.until("A's announcement", () => /Sell order \d+, BTCUSDT: 0.5 at 60,000, filled/.test(document.getElementById("announcements").textContent));
    await assertBalances(page, ann);
    await assertBalances(other, bob);
    assert.deepEqual(other.errors, []);
    await other.close();
  });

  await check("a login that is wrong is told, and one goes on after a reload", async () => {
    await page.tab.reload();
    await page.live();
    await page.ready();
    assert.match(await page.text("#account-button"), /ann-trader/);
    await page.tab.click("#account-button");
    await page.until("nobody is logged in", () => document.getElementById("form-note").textContent === "Log in to trade");
    assert.equal(await page.tab.isDisabled("#submit"), true);
    await page.tab.click("#account-button");
    await page.tab.fill("#login-name", "ann-trader");
    await page.tab.fill("#login-password", "not the password");
    const errors = page.errors.length;
    await page.tab.click("#login-submit");
    await page.until("it is told", () => /wrong/.test(document.getElementById("login-fault").textContent));
    page.errors = page.errors.filter((text, at) => at < errors || !text.includes("401"));
    await page.tab.keyboard.press("Escape");
  });

  await check("1 while trading: no error", async () => {
    // That a request was refused is told by the browser as an error too.
    assert.deepEqual(page.errors.filter((text) => !/status of 400/.test(text)), []);
  });
  await page.close();
}
