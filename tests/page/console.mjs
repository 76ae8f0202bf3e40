// The operators' console: who gets in, what it shows of a recorded overview and of real exchanges, and what it does to them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { WebSocket } from "ws";
import { PATIENCE_MS, Page } from "./browser.mjs";
import { check } from "./checks.mjs";
import { PALETTES, THEMES, assertAccessible, picture, setLooks } from "./looks.mjs";
import { Origin } from "./origin.mjs";

const RECORDED = JSON.parse(readFileSync(path.join(import.meta.dirname, "overview.json"), "utf8"));
const PANELS = ["symbols", "stages", "slowest", "streams", "queues", "threads", "journal", "audit", "members", "rejects"];

/** @param {any} browser @param {any} exchange @param {any} [options] */
function open(browser, exchange, options = {}) {
  const { url, token } = exchange.admin;
  return Page.open(browser, url, { enter: (page) => page.enterConsole(token), ...options });
}

/** What a second later the recorded overview is. */
function later(overview, seconds) {
  const next = structuredClone(overview);
  next.time += seconds * 1000;
  next.uptimeSeconds += seconds;
  next.sequence += seconds * 1507;
  next.symbols.forEach((symbol, index) => {
    symbol.orders += seconds * Math.floor(800 / (index + 1));
    symbol.trades += seconds * Math.floor(90 / (index + 1));
  });
  next.threads.forEach((thread, index) => { thread.busyNs += seconds * [120, 310, 925][index] * 1e6; });
  next.journal.logSyncs += seconds * 610;
  next.journal.logSyncNs += seconds * 610 * 812_000;
  next.journal.logBytes += seconds * 1_204_000;
  next.sockets.messages += seconds * 9110;
  return next;
}

const cells = (page, id, key) => page.tab.evaluate(([table, name]) => {
  const row = [...document.getElementById(table).rows].find((one) => one.dataset.key === name);
  return row ? [...row.cells].map((cell) => cell.textContent) : null;
}, [id, key]);

const number = (text) => Number(text.replaceAll(",", ""));

const posts = (page) => page.requests.filter(({ method }) => method === "POST");

/** Types what is wanted, or something else, into the open question. */
async function confirm(page, text, reason = "") {
  await page.tab.fill("#confirm-text", text);
  await page.tab.fill("#confirm-reason", reason);
  await page.tab.click("#confirm-yes");
}

const isClosed = () => !document.getElementById("confirm-dialog").open;

/** @param {any} browser @param {any} demo @param {any} quiet */
export async function onConsole(browser, demo, quiet) {
  await onRecordedOverview(browser, quiet);
  await onQuiet(browser, quiet);
  await onSlowReader(browser, quiet);
  await onDemoMarket(browser, demo);
}

async function onRecordedOverview(browser, quiet) {
  let seconds = 0;
  let change = (overview) => overview;
  const origin = new Origin({
    upstream: quiet.admin.url,
    answer: (asked) => (asked === "/admin/v1/overview" ? change(later(RECORDED, seconds += 1)) : undefined),
  });
  await origin.listen();
  const enter = (page) => page.enterConsole("anything");
  const page = await Page.open(browser, origin.url, { enter });

  await check("the console shows all of an overview, and rates from two of them", async () => {
    await page.until("rates", () => document.getElementById("command-rate").textContent === "1,507");
    assert.deepEqual((await cells(page, "symbols", "BTCUSDT")).slice(0, 9),
      ["BTCUSDT", "TRADING", "800", "90.0", "18,204", "61688.04", "61688.05", "0.01", "0 s ago"]);
    assert.deepEqual((await cells(page, "symbols", "NEWUSDT")).slice(4, 9), ["0", "–", "–", "–", "–"]);
    assert.deepEqual(await cells(page, "stages", "replicate"), ["replicate", "910 µs", "2.60 ms", "9.10 ms", "3,801"]);
    assert.deepEqual(await cells(page, "stages", "snapshot"), ["snapshot", "–", "–", "–", "0"]);
    assert.deepEqual(await cells(page, "threads", "log-writer"), ["log-writer", "92.5 %"]);
    assert.deepEqual(await cells(page, "queues", "lane 2"), ["lane 2", "3,950", "4,096"]);
    assert.deepEqual(await cells(page, "journal", "Mean sync"), ["Mean sync", "812 µs"]);
    assert.deepEqual(await cells(page, "members", "3"), ["3", "follower", "10.0.0.3:7081", "1,204", "no"]);
    assert.deepEqual(await cells(page, "rejects", "-2010"), ["-2010", "412"]);
    assert.deepEqual((await cells(page, "slowest", "88120")).slice(0, 8), ["88120", "203.0.113.7:50114", "41", "7,120", "4,200 ms", "90,411", "1,204,110", "24 h 2 min"]);
    const audit = (await page.rows("audit")).map((row) => row.slice(1));
    assert.deepEqual(audit[0], ["18,220,001", "ann", "127.0.0.1", "set-status symbol=SOLUSDT status=HALT", "incident 42: prices outside are 9 % away", "yes"]);
    assert.equal(audit[1][4], "<b>does not read</b>", "what operators write is text and no markup");
    assert.equal(await page.tab.locator("#audit b").count(), 0);
    assert.equal(audit[2][5], "no");
    assert.equal(await page.text("#role"), "leader (node 2)");
    assert.equal(await page.text("#slow-disconnects"), "16");
    const long = await page.tab.evaluate(() => ["lane 0", "lane 2"].map((key) => document.querySelector(`#queues tr[data-key="${key}"]`).style.getPropertyValue("--first")));
    assert.deepEqual(long, ["0.0%", "96.4%"]);
  });

  await check("what is wrong is said in words: broken books, no leader, a full disk, no orders", async () => {
    assert.equal(await page.text("#books-text"), "Books balance");
    change = (overview) => ({
      ...overview, ready: false, haltedAll: true, conserved: false, reconciliation: { state: "broken", detail: "USDT is off by 0.01" },
      cluster: { ...overview.cluster, leader: null }, journal: { ...overview.journal, diskLow: true },
    });
    await page.until("it shows", () => document.getElementById("books-text").textContent === "BOOKS BROKEN");
    assert.equal(await page.tab.getAttribute("#books", "title"), "USDT is off by 0.01");
    assert.equal(await page.text("#ready"), "not taken");
    assert.match(await page.text("#term"), /nobody leads/);
    for (const badge of ["#disk-low", "#halted-all"]) assert.equal(await page.tab.isVisible(badge), true);
    await assertAccessible(page, "all wrong");
    await picture(page, "console-wrong");
    change = (overview) => ({ ...overview, reconciliation: { state: "fenced", detail: "node 3 differs" } });
    await page.until("a node differs", () => document.getElementById("books-text").textContent === "STATE DIFFERS");
    change = (overview) => overview;
    await page.until("all is well", () => document.getElementById("books").dataset.state === "good");
  });

  await check("a node that was started again counts from zero, and no rate is made up", async () => {
    let up = 1000;
    change = (overview) => ({ ...overview, uptimeSeconds: up -= 1, sequence: 12 });
    await page.until("no rate", () => document.getElementById("sequence").textContent === "12" && document.getElementById("command-rate").textContent === "–");
    change = (overview) => overview;
  });

  await check("14: axe finds nothing serious on the console, in every palette, light and dark", async () => {
    for (const palette of PALETTES) {
      for (const theme of THEMES) {
        await setLooks(page, palette, theme);
        await assertAccessible(page, `${palette} ${theme}`);
        await picture(page, `console-${palette}-${theme}`);
      }
    }
    await page.tab.click("#symbols tr[data-key=ETHUSDT] button[data-act=HALT]");
    await confirm(page, "BTCUSDT");
    await assertAccessible(page, "the question", "#confirm-dialog");
    await picture(page, "console-question");
    await page.tab.click("#confirm-no");
    await setLooks(page, PALETTES[0], "dark");
  });

  await check("19: a wrong text does nothing, by button or by key", async () => {
    for (const [button, wanted, wrong] of [
      ["#symbols tr[data-key=BTCUSDT] button[data-act=HALT]", "BTCUSDT", ["", "btcusdt", "ETHUSDT", "BTCUSDT "]],
      ["#symbols tr[data-key=SOLUSDT] button[data-act=TRADING]", "SOLUSDT", ["SOL"]],
      ["#halt-all", "HALT ALL", ["halt all", "BTCUSDT"]],
      ["#resume-all", "RESUME ALL", ["HALT ALL"]],
      ["#slowest tr[data-key='88120'] button", "88120", ["90011"]],
    ]) {
      await page.tab.click(button);
      assert.equal(await page.text("#confirm-wanted"), wanted);
      for (const text of wrong) {
        await confirm(page, text);
        assert.equal(await page.text("#confirm-fault"), `That is not ${wanted}. Nothing was done.`);
        await page.tab.press("#confirm-text", "Enter");
      }
      await page.tab.press("#confirm-text", "Escape");
      await page.until("it is closed", isClosed);
    }
    assert.deepEqual(posts(page), []);
  });

  await check("the whole of a halt by keyboard alone", async () => {
    const focus = (selector) => page.until(selector, (wanted) => document.activeElement?.matches(wanted), selector);
    await page.tab.focus("#symbols tr[data-key=BTCUSDT] button[data-act=HALT]");
    await page.tab.keyboard.press("Enter");
    await focus("#confirm-text");
    await page.tab.keyboard.type("BTC");
    await page.tab.keyboard.press("Enter");
    assert.equal(await page.text("#confirm-fault"), "That is not BTCUSDT. Nothing was done.");
    await page.tab.keyboard.press("Escape");
    await focus("#symbols tr[data-key=BTCUSDT] button[data-act=HALT]");
  });

  await check("rows keep their places under the pointer and the focus while others come and go", async () => {
    const halt = "#symbols tr[data-key=ETHUSDT] button[data-act=HALT]";
    await page.tab.focus(halt);
    change = (overview) => ({ ...overview, symbols: overview.symbols.slice(1) });
    await page.until("a row goes", () => !document.querySelector("#symbols tr[data-key=BTCUSDT]"));
    assert.equal(await page.tab.evaluate((selector) => document.activeElement.matches(selector), halt), true);
    change = (overview) => overview;
    await page.until("and comes", () => document.getElementById("symbols").rows[0].dataset.key === "BTCUSDT");
    assert.equal(await page.tab.evaluate((selector) => document.activeElement.matches(selector), halt), true);
    change = (overview) => ({ ...overview, symbols: [], rejects: [], cluster: null });
    await page.until("nothing is said in words", () => document.getElementById("symbols").textContent === "No symbol is listed" && document.getElementById("members").textContent === "One node alone");
    change = (overview) => overview;
    await page.until("all is back", () => document.getElementById("symbols").rows.length === 5);
  });

  await check("18: on a phone the console is one column and nothing runs over", async () => {
    const phone = await Page.open(browser, origin.url, { enter, viewport: { width: 390, height: 844 }, colorScheme: "light" });
    await phone.painted();
    assert.ok(await phone.tab.evaluate(() => document.documentElement.scrollWidth) <= 390);
    for (const id of PANELS) await phone.tab.locator(`#${id}`).scrollIntoViewIfNeeded();
    await assertAccessible(phone, "phone");
    await phone.tab.evaluate(() => scrollTo(0, 0));
    await picture(phone, "console-phone");
    assert.deepEqual(phone.errors, []);
    await phone.close();
  });

  await check("15: nothing moves on the console", async () => {
    assert.equal(await page.tab.evaluate(() => document.getAnimations().length), 0);
  });

  await check("a node that does not answer leaves old numbers, and they look old", async () => {
    assert.deepEqual(page.errors, []);
    origin.close();
    await page.tab.waitForSelector("#conn[data-state=stale]");
    assert.match(await page.text("#conn"), /^Stale since \d\d:\d\d:\d\d$/);
    const filter = (selector) => page.tab.evaluate((one) => getComputedStyle(document.querySelector(one)).filter, selector);
    for (const shown of ["#symbols td", "#health dd", "#books", "table:has(#stages)"]) assert.match(await filter(shown), /grayscale/, shown);
    assert.equal(await filter("#symbols td:has(button)"), "none", "buttons look as they are");
    assert.equal(await page.tab.isEnabled("#halt-all"), true, "what acts stays");
    await picture(page, "console-stale");
  });
  await page.close();
}

async function onQuiet(browser, quiet) {
  const { url, token } = quiet.admin;

  await check("19: without the token there is 401 and no data, and the console says so", async () => {
    for (const headers of [{}, { Authorization: "Bearer wrong" }, { Authorization: token }]) {
      for (const [method, target] of [["GET", "/admin/v1/overview"], ["POST", "/admin/v1"]]) {
        const response = await fetch(url + target, { method, headers, body: method === "POST" ? '{"do":{"action":"halt-all"}}' : undefined });
        const body = await response.json();
        assert.deepEqual([response.status, Object.keys(body)], [401, ["error"]]);
      }
    }
    const page = new Page(await browser.newContext(), null);
    page.tab = await page.context.newPage();
    await page.tab.goto(url);
    await assertAccessible(page, "the door");
    assert.equal(await page.tab.isVisible("#panels"), false);
    await page.enterConsole("wrong");
    await page.until("it is refused", () => /token/.test(document.getElementById("door-fault").textContent));
    assert.equal(await page.tab.isVisible("#panels"), false);
    assert.equal(await page.tab.evaluate(() => globalThis.__probe.overview()), null);
    await page.close();
  });

  const page = await open(browser, quiet);
  await check("the token is kept in the tab alone, and forgotten when it is locked", async () => {
    await page.tab.reload();
    await page.live();
    const kept = await page.tab.evaluate(() => [JSON.stringify(localStorage), document.cookie]);
    assert.ok(kept.every((text) => !text.includes(token)), "nothing of it outlives the tab");
    assert.ok(!page.requests.some((request) => request.url.includes(token)), "it stands in no address");
    await page.tab.click("#lock");
    await page.tab.waitForSelector("#conn[data-state=locked]");
    assert.deepEqual(await page.tab.evaluate((ids) => [sessionStorage.length, ...ids.map((id) => document.querySelectorAll(`#${id} tr[data-key]`).length)], PANELS), [0, ...PANELS.map(() => 0)]);
    await page.enterConsole(token);
    await page.live();
  });

  const trade = await Page.open(browser, quiet.url, { path: "/trade/BTCUSDT" });
  await trade.logIn("ann-trader");
  const ann = await quiet.logIn("ann-trader");
  const status = (wanted) => page.until(`the status is ${wanted}`, (text) => document.querySelector("#symbols tr[data-key=BTCUSDT]")?.cells[1].textContent === text, wanted);
  const press = async (act) => {
    await page.tab.click(`#symbols tr[data-key=BTCUSDT] button[data-act=${act}]`);
  };

  await check("19: a symbol is halted, the trade page shows it and refuses orders; it is resumed; both are in the audit list", async () => {
    await press("HALT");
    await confirm(page, "BTCUSD");
    assert.equal(await page.text("#confirm-fault"), "That is not BTCUSDT. Nothing was done.");
    await status("TRADING");
    await confirm(page, "BTCUSDT", "incident 42");
    await page.until("it is done", isClosed);
    await status("HALT");
    assert.match(await page.text("#announcements"), /^BTCUSDT is halted, at sequence \d+$/);
    await trade.until("the trade page shows it", () => document.getElementById("symbol-status").textContent === "HALT" && !document.getElementById("symbol-status").hidden);
    await trade.until("its form refuses", () => document.getElementById("submit").disabled && /HALT: no orders now/.test(document.getElementById("form-note").textContent));
    await assert.rejects(ann.limit("BUY", "0.001", "50000"), /-1013|-2010|HALT|trading/i);

    await press("CANCEL_ONLY");
    await confirm(page, "BTCUSDT");
    await status("CANCEL_ONLY");
    await press("TRADING");
    await confirm(page, "BTCUSDT", "it is over");
    await status("TRADING");
    await trade.until("the trade page trades again", () => document.getElementById("symbol-status").hidden);
    const { orderId } = await ann.limit("BUY", "0.001", "50000");
    await ann.call("DELETE", "/api/v3/order", { symbol: "BTCUSDT", orderId });

    await page.until("the audit list has them", () => document.getElementById("audit").rows.length >= 3);
    const told = (await page.rows("audit")).slice(0, 3).map((row) => row.slice(2));
    const line = (to, reason) => ["ann", "127.0.0.1", `set-status symbol=BTCUSDT status=${to}`, reason, "yes"];
    assert.deepEqual(told, [line("TRADING", "it is over"), line("CANCEL_ONLY", ""), line("HALT", "incident 42")]);
  });

  await check("19: HALT ALL halts everything, and RESUME ALL has it trade again", async () => {
    await page.tab.click("#halt-all");
    await confirm(page, "HALT ALL", "drill");
    await status("HALT");
    await page.until("it is said", () => !document.getElementById("halted-all").hidden);
    await page.tab.click("#resume-all");
    await confirm(page, "RESUME ALL");
    await status("TRADING");
    await page.until("and no longer", () => document.getElementById("halted-all").hidden);
  });

  await check("20: what the console shows is what /metrics says at the same instant", async () => {
    await trade.close();
    const { orderId } = await ann.limit("BUY", "0.001", "40000");
    await page.until("one socket less", () => document.getElementById("sockets-open").textContent === "0");
    // Nothing happens: between two scrapes that say the same, what is shown is the same too.
    let [before, after, shown] = [new Map(), new Map(), {}];
    const names = {
      rialto_sequence: "#sequence", rialto_sockets: "#sockets-open", rialto_stream_subscriptions: "#subscriptions",
      rialto_stream_messages_conflated_total: "#conflated",
    };
    const rows = {
      rialto_log_index: "Log index", rialto_applied_sequence: "Applied sequence", rialto_log_syncs_total: "Syncs",
      rialto_snapshots_total: "Snapshots since the start", rialto_history_watermark: "History holds up to", rialto_history_lag_commands: "History behind",
    };
    const wanted = [...Object.keys(names), ...Object.keys(rows), "rialto_open_orders"];
    const same = (one, other) => wanted.every((name) => one.has(name) && one.get(name) === other.get(name));
    const until = Date.now() + PATIENCE_MS;
    do {
      assert.ok(Date.now() < until, "it never stands still");
      before = await quiet.metrics();
      const seen = await page.tab.evaluate(() => globalThis.__probe.overview().time);
      await page.until("a newer overview", (time) => globalThis.__probe.overview().time > time, seen);
      await page.painted();
      shown = await page.tab.evaluate(([texts, lines]) => ({
        ...Object.fromEntries(Object.entries(texts).map(([name, selector]) => [name, document.querySelector(selector).textContent])),
        ...Object.fromEntries(Object.entries(lines).map(([name, key]) => [name, document.querySelector(`#journal tr[data-key="${key}"]`).cells[1].textContent])),
        rialto_open_orders: [...document.getElementById("symbols").rows].map((row) => row.cells[4].textContent.replaceAll(",", "")).reduce((sum, each) => sum + Number(each), 0),
      }), [names, rows]);
      after = await quiet.metrics();
    } while (!same(before, after));
    for (const name of wanted) assert.equal(number(String(shown[name])), after.get(name), name);
    assert.equal(after.get("rialto_conserved"), 1);
    assert.equal(await page.text("#books-text"), "Books balance");
    assert.ok(after.get("rialto_sequence") > 10 && after.get("rialto_open_orders") > 0, "there is something to compare");
    await ann.call("DELETE", "/api/v3/order", { symbol: "BTCUSDT", orderId });
  });

  await check("1: the console asks its own listener and nobody else, without an error", async () => {
    assert.ok(page.requests.length > 10 && page.requests.every((request) => request.url.startsWith(url)), "every request");
    assert.deepEqual(page.errors, []);
  });
  await page.close();
}

/** A websocket that listens, and answers to what is asked as the test tells it. */
async function listener(exchange, streams) {
  const socket = new WebSocket(`${exchange.url.replace("http", "ws")}/stream?streams=${streams}`);
  await new Promise((resolve, reject) => { socket.once("open", resolve); socket.once("error", reject); });
  socket.on("error", () => {});
  const address = `127.0.0.1:${socket._socket.localPort}`;
  return { socket, address };
}

async function onSlowReader(browser, quiet) {
  const page = await open(browser, quiet);
  const ann = await quiet.logIn("ann-trader");
  const [quick, slow] = [await listener(quiet, "btcusdt@depth"), await listener(quiet, "btcusdt@trade/btcusdt@depth")];
  const row = (address) => page.tab.evaluate((wanted) => {
    const found = [...document.querySelectorAll("#slowest tr[data-key]")].find((one) => one.cells[1].textContent === wanted);
    return found ? [...found.cells].map((cell) => cell.textContent) : null;
  }, address);
  const isBehind = (address) => page.until("it is behind", (wanted) => {
    const found = [...document.querySelectorAll("#slowest tr[data-key]")].find((one) => one.cells[1].textContent === wanted);
    return found !== undefined && found.cells[3].textContent !== "0" && Number(found.cells[4].textContent.replace(/\D/g, "")) > 1000;
  }, address);

  await check("20: who does not read is shown as the slowest, and the others are not behind", async () => {
    // Its answers fill whatever lies between: what comes then cannot be sent.
    slow.socket.pause();
    const intervals = ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"];
    const params = intervals.map((interval) => `btcusdt@kline_${interval}`);
    slow.socket.send(JSON.stringify({ method: "SUBSCRIBE", params, id: 1 }));
    for (let id = 2; id < 30_000; id += 1) slow.socket.send(JSON.stringify({ method: "LIST_SUBSCRIPTIONS", id }));
    let isShown = false;
    const watching = isBehind(slow.address).then(() => { isShown = true; });
    while (!isShown) {
      const { orderId } = await ann.limit("BUY", "0.001", "50000");
      await ann.call("DELETE", "/api/v3/order", { symbol: "BTCUSDT", orderId });
      await Promise.race([watching, new Promise((resolve) => { setTimeout(resolve, 400); })]);
    }
    await watching;
    assert.equal(await page.text("#slowest tr[data-key] td"), slow.address, "it stands first");
    await page.until("the other is not", (wanted) => [...document.querySelectorAll("#slowest tr[data-key]")]
      .some(({ cells: [, address, , behind, lag] }) => address.textContent === wanted && behind.textContent === "0" && lag.textContent === "0 ms"), quick.address);
    await picture(page, "console-slow");
  });

  await check("20: it is disconnected from the console, and the other stays", async () => {
    const [id] = await row(slow.address);
    const gone = new Promise((resolve) => { slow.socket.once("close", resolve); });
    await page.tab.click(`#slowest tr[data-key="${id}"] button`);
    await confirm(page, id, "does not read");
    await page.until("it is done", isClosed);
    await page.until("it is gone", (key) => !document.querySelector(`#slowest tr[data-key="${key}"]`), id);
    slow.socket.resume();
    await gone;
    assert.equal(quick.socket.readyState, WebSocket.OPEN);
    await page.until("the audit list has it", (text) => document.getElementById("audit").rows[0]?.cells[4].textContent === text, `disconnect id=${id}`);
  });
  for (const { socket } of [quick, slow]) socket.terminate();
  await page.close();
}

async function onDemoMarket(browser, demo) {
  await check("20: on a busy market the console's counters lie between two scrapes of /metrics", async () => {
    const page = await open(browser, demo);
    const counters = { rialto_sequence: (it) => it.sequence, rialto_log_index: (it) => it.journal.logIndex, rialto_log_syncs_total: (it) => it.journal.logSyncs, rialto_stream_messages_total: (it) => it.sockets.messages };
    const before = await demo.metrics();
    const seen = await page.tab.evaluate(() => globalThis.__probe.overview().time);
    await page.until("two newer overviews", (time) => globalThis.__probe.overview().time > time + 1500, seen);
    const shown = await page.tab.evaluate(() => globalThis.__probe.overview());
    const after = await demo.metrics();
    for (const [name, read] of Object.entries(counters)) {
      assert.ok(before.get(name) <= read(shown) && read(shown) <= after.get(name), `${name}: ${before.get(name)} ${read(shown)} ${after.get(name)}`);
    }
    assert.ok(after.get("rialto_sequence") > before.get("rialto_sequence"), "something goes on");
    await page.until("orders a second", () => [...document.getElementById("symbols").rows].some((row) => Number(row.cells[2].textContent.replaceAll(",", "")) > 0));
    await picture(page, "console-demo");
    assert.deepEqual(page.errors, []);
    await page.close();
  });
}
