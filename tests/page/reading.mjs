// The page that is only looked at: connection, book, candles, trades. On the demo market, and on what was recorded of a real one.

import assert from "node:assert/strict";
import { Page, eight, units } from "./browser.mjs";
import { check, quick } from "./checks.mjs";
import { Origin } from "./origin.mjs";
import { Recorded } from "./recorded.mjs";

const ROWS = 15;
const FIRST_LOAD_MAX = 150_000;

/** That the page shows this book: price, quantity and running total of all rows. */
function assertBook(shown, { bids, asks }) {
  for (const [side, levels] of Object.entries({ bids, asks })) {
    let total = 0n;
    const wanted = levels.slice(0, ROWS).map(([price, quantity]) => {
      total += units(quantity);
      return [units(price), units(quantity), total];
    });
    assert.deepEqual(shown[side].map((row) => row.map((text) => units(text.replace(" ◆", "")))), wanted, side);
  }
}

function assertTrades(shown, known) {
  const byId = new Map(known.map((trade) => [trade.id, trade]));
  assert.ok(shown.length > 0);
  shown.forEach(({ id, price, size }, at) => {
    if (at > 0) assert.equal(id, shown[at - 1].id - 1, "no id is missing");
    const trade = byId.get(id);
    if (!trade) return;
    assert.equal(price[0], trade.isBuyerMaker ? "▼" : "▲");
    assert.equal(eight(price.slice(2)), trade.price);
    assert.equal(eight(size), trade.qty);
  });
}

/** That the chart has just these candles. */
function assertCandles(shown, rows) {
  const wanted = rows.map(([time, open, high, low, close]) => ({
    time: time / 1000, open: Number(open), high: Number(high), low: Number(low), close: Number(close),
  }));
  assert.deepEqual(shown.map(({ time, open, high, low, close }) => ({ time, open, high, low, close })), wanted);
}

const candles = (page) => page.tab.evaluate(() => globalThis.__probe.candles());

/** Asks again until the market stood still for as long as the asking took. */
async function unlessItMoves(attempt) {
  for (let left = 60; ; left -= 1) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 0 || error.code !== "ERR_ASSERTION") throw error;
    }
  }
}

/** @param {any} browser @param {any} demo @param {number} seconds */
export async function onDemo(browser, demo, seconds) {
  const origin = new Origin({ upstream: demo.url });
  await origin.listen();
  const page = await Page.open(browser, origin.url);

  await check("1, 2 on the demo market: live at once, small, alone", async () => {
    quick("live after navigation", page.liveAfter, 2000);
    await page.tab.waitForLoadState("networkidle").catch(() => {});
    const first = page.loaded;
    console.log(`      first load: ${first} bytes`);
    assert.ok(first < FIRST_LOAD_MAX, `first load: ${first} bytes`);
    await page.tab.waitForTimeout(seconds * 1000);
    assert.equal(await page.text("#resyncs"), "0");
    assert.equal(await page.text("#reconnects"), "0");
  });

  await check("3 on the demo market: the book shown is the exchange's", async () => {
    await unlessItMoves(async () => {
      const [shown, book] = await page.tab.evaluate(async () => {
        const rows = (id) => [...document.getElementById(id).rows].map((row) => [...row.cells].map((cell) => cell.textContent));
        const answer = await (await fetch("/api/v3/depth?symbol=BTCUSDT&limit=15")).json();
        const market = globalThis.__probe.market();
        for (let left = 30; market.book.lastUpdateId < answer.lastUpdateId && left > 0; left -= 1) await globalThis.__probe.painted();
        await globalThis.__probe.painted();
        const same = market.book.lastUpdateId === answer.lastUpdateId;
        return [same ? { asks: rows("asks").reverse(), bids: rows("bids") } : null, answer];
      });
      assert.ok(shown, "the book moved on");
      assertBook(shown, book);
    });
  });

  await check("4 on the demo market: the candles are the exchange's, at 1m and at 5m", async () => {
    for (const interval of ["1m", "5m", "1m"]) {
      await page.tab.check(`#interval-${interval}`, { force: true });
      await page.until("candles", (wanted) => globalThis.__probe.market().candles.interval === wanted && globalThis.__probe.candles().length > 0, interval);
      await unlessItMoves(async () => {
        const rows = await demo.get(`/api/v3/klines?symbol=BTCUSDT&interval=${interval}&limit=500`);
        await page.painted();
        assertCandles(await candles(page), rows);
      });
    }
  });

  await check("5 on the demo market: the trades are the exchange's, newest first", async () => {
    await page.until("a full list", () => document.querySelectorAll("#trades tr[data-id]:not([data-id=''])").length >= 10);
    const shown = await page.trades();
    assertTrades(shown, await demo.get("/api/v3/trades?symbol=BTCUSDT&limit=1000"));
  });

  await check("5: scrolling down pauses the list, the top resumes it, no trade lost", async () => {
    await page.until("enough to scroll", () => document.querySelectorAll("#trades tr[data-id]:not([data-id=''])").length >= 30);
    await page.tab.evaluate(() => { document.getElementById("trades-scroll").scrollTop = 100; });
    await page.painted();
    assert.equal(await page.tab.isVisible("#trades-paused"), true);
    const before = await page.trades();
    await page.until("trades meanwhile", (id) => globalThis.__probe.market().trades[0].id >= id + 3, before[0].id);
    assert.deepEqual(await page.trades(), before);
    await page.tab.evaluate(() => { document.getElementById("trades-scroll").scrollTop = 0; });
    await page.until("the newest", (id) => Number(document.querySelector("#trades tr").dataset.id) >= id + 3, before[0].id);
    assert.equal(await page.tab.isVisible("#trades-paused"), false);
    assertTrades(await page.trades(), await demo.get("/api/v3/trades?symbol=BTCUSDT&limit=1000"));
  });

  await check("12: a depth message that is lost costs one resync", async () => {
    const before = Number(await page.text("#resyncs"));
    let isLost = false;
    origin.passes = (text) => {
      if (isLost || !text.includes('"depthUpdate"')) return true;
      isLost = true;
      return false;
    };
    await page.until("a resync", (count) => Number(document.getElementById("resyncs").textContent) > count, before);
    quick("live again after a lost message", await page.until("live", () => document.getElementById("conn").dataset.state === "live"), 1000);
    await page.tab.waitForTimeout(500);
    assert.equal(Number(await page.text("#resyncs")), before + 1);
  });

  await check("3: prices laid together by group, and sizes in the quote asset", async () => {
    await page.tab.click("#group-wider");
    await page.tab.click("#group-wider");
    for (const isQuote of [false, true]) {
      if (isQuote) await page.tab.click("#unit");
      await page.painted();
      const [shown, bids, asks] = await page.tab.evaluate(async () => {
        await globalThis.__probe.painted();
        const rows = (id) => [...document.getElementById(id).rows].map((row) => [...row.cells].map((cell) => cell.textContent)).filter(([price]) => price);
        const { bids, asks } = globalThis.__probe.market().book;
        const levels = (side) => side.prices.map((price) => [String(price / 10n ** 10n), String(side.quantities.get(price) / 10n ** 10n)]);
        return [{ asks: rows("asks").reverse(), bids: rows("bids") }, levels(bids), levels(asks)];
      });
      const step = 100_000_000n; // a hundred ticks of 0.01, in 10^-8ths
      for (const [side, levels] of Object.entries({ bids, asks })) {
        const groups = new Map();
        for (const [price, quantity] of levels.map((level) => level.map(BigInt))) {
          const group = ((price + (side === "asks" ? step - 1n : 0n)) / step) * step;
          groups.set(group, (groups.get(group) ?? 0n) + quantity);
        }
        let total = 0n;
        const wanted = [...groups].slice(0, ROWS).map(([price, quantity]) => {
          total += quantity;
          const size = (amount) => (isQuote ? (amount * price) / 10n ** 16n * 10n ** 8n : amount);
          return [price, size(quantity), size(total)];
        });
        assert.ok(wanted.length > 5);
        assert.deepEqual(shown[side].map((row) => row.map((text) => units(text.replace(" ◆", "")))), wanted, `${side} ${isQuote}`);
      }
    }
    await page.tab.click("#unit");
    await page.tab.click("#group-finer");
    await page.tab.click("#group-finer");
  });

  await check("11: silence is noticed, and asked about", async () => {
    origin.passes = () => false;
    const noticed = await page.until("it is noticed", () => document.getElementById("conn").dataset.state === "reconnecting");
    console.log(`      noticed after ${noticed.toFixed(0)} ms`);
    origin.passes = () => true;
    await page.until("live", () => document.getElementById("conn").dataset.state === "live");
  });

  await check("11: the exchange is killed and comes back", async () => {
    await page.logIn("demo-trader-1");
    await page.order({ side: "BUY", price: "30000.00", quantity: "0.00100" });
    assert.match(await page.result(), /^NEW/);
    const errors = page.errors.length;
    await demo.kill();
    const noticed = await page.until("it is noticed", () => document.getElementById("conn").dataset.state === "reconnecting");
    quick("noticed after", noticed, 3000);
    assert.match(await page.text("#conn"), /^Reconnecting since \d\d:\d\d:\d\d$/);
    await page.painted();
    assert.equal(await page.tab.evaluate(() => document.body.classList.contains("stale")), true);
    assert.equal(await page.tab.isDisabled("#submit"), true);
    await demo.start();
    origin.upstream = demo.url;
    quick("live again after the restart", await page.until("live", () => document.getElementById("conn").dataset.state === "live"), 5000);
    await page.ready();
    await page.painted();
    assert.equal(await page.tab.isDisabled("#submit"), false);
    const open = await page.rows("open-orders");
    assert.equal(open.length, 1);
    assert.ok(open[0].includes("NEW") && open[0].includes("30,000.00"), String(open[0]));
    assertTrades(await page.trades(), await demo.get("/api/v3/trades?symbol=BTCUSDT&limit=1000"));
    await page.tab.click("#open-orders button");
    await page.until("it is canceled", () => document.querySelector("#open-orders .empty") !== null);
    await page.tab.click("#account-button");
    // That nobody answered while nobody was there is no error of the page.
    page.errors = page.errors.filter((text, at) => at < errors || !/ERR_|WebSocket connection/.test(text));
  });

  await check("1 on the demo market: no error, no request elsewhere", async () => {
    assert.deepEqual(page.errors, []);
    const host = new URL(origin.url).host;
    const elsewhere = page.requests.filter(({ url }) => !url.startsWith("data:") && new URL(url).host !== host);
    assert.deepEqual(elsewhere, []);
    assert.ok(page.requests.some(({ method }) => method === "SOCKET"));
  });
  await page.close();
  origin.close();
}

/** Made-up trades minutes apart: what closes between is told in one go, between two frames. @param {any} browser @param {string} assets */
export async function onMadeUp(browser, assets) {
  const start = 1_700_000_040_000;
  const trade = (id, minute, price) => {
    const time = start + minute * 60_000;
    const data = { e: "trade", E: time, s: "BTCUSDT", t: id, p: `${price}.00000000`, q: "0.10000000", T: time, m: id % 2 === 0, M: true };
    return `${time}000000 ${JSON.stringify({ stream: "btcusdt@trade", data })}`;
  };
  const made = new Recorded([
    `${start}000000 {"lastUpdateId":1,"bids":[["99.00000000","1.00000000"]],"asks":[["101.00000000","1.00000000"]]}`,
    ...[[0, 100], [0, 103], [1, 101], [4, 98], [4, 99], [5, 97], [12, 102], [30, 110]].map(([minute, price], id) => trade(id + 1, minute, price)),
  ]);
  const origin = new Origin({ upstream: assets, answer: (path, query) => made.answer(path, query), connect: (socket, url) => made.connect(socket, url) });
  await origin.listen();
  await made.play(2, { perSecond: 1e9 });
  await check("4: empty minutes, and those that close between two frames", async () => {
    const page = await Page.open(browser, origin.url);
    await page.until("a candle", () => globalThis.__probe.candles().length === 1);
    await made.play(made.lines.length, { perSecond: 1e9 });
    for (const [interval, count] of [["1m", 31], ["5m", 7]]) {
      await page.tab.check(`#interval-${interval}`, { force: true });
      await page.until("all candles", (wanted) => globalThis.__probe.candles().length === wanted, count);
      assertCandles(await candles(page), made.klines(interval, 500, Infinity));
    }
    assert.deepEqual(page.errors, []);
    await page.close();
  });
  origin.close();
}

/** @param {any} browser @param {any} recorded @param {string} assets @param {number} messages @param {number} perSecond */
export async function onRecorded(browser, recorded, assets, messages, perSecond) {
  const origin = new Origin({
    upstream: assets, answer: (path, query) => recorded.answer(path, query), connect: (socket, url) => recorded.connect(socket, url),
  });
  await origin.listen();
  await recorded.play(200, { perSecond: 1e9 });
  const page = await Page.open(browser, origin.url);
  for (const part of [1, 2, 3]) {
    await check(`1, 3, 4, 5 on recorded data, part ${part}: ${perSecond} messages a second`, async () => {
      if (part === 3) await page.tab.check("#interval-5m", { force: true });
      await recorded.play(Math.floor((messages * part) / 3), { perSecond });
      const id = recorded.book.lastUpdateId;
      await page.until("the last update", (wanted) => globalThis.__probe.market().book.lastUpdateId === wanted, id);
      await page.until("the last trade", (wanted) => globalThis.__probe.market().trades[0].id === wanted, recorded.trades.at(-1).t);
      await page.painted();
      assertBook(await page.book(), recorded.depth(ROWS));
      assertTrades(await page.trades(), recorded.answer("/api/v3/trades", new URLSearchParams("limit=100")));
      const interval = part === 3 ? "5m" : "1m";
      assertCandles(await candles(page), recorded.klines(interval, 500, Infinity));
      assert.equal(await page.text("#resyncs"), "0");
      assert.deepEqual(page.errors, []);
    });
  }
  await page.close();
  origin.close();
}
