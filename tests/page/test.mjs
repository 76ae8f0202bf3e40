// The browser test of the trading page and the operators' console: a real Chromium, the real binary, the demo market and, where it is, what was recorded of
// a real market. Run by tests/tests/page.rs; by hand:
//
//   node tests/page/test.mjs target/release/rialto [shared]
//
// RIALTO_PAGE_ONLY=REGEX runs the checks of such names, RIALTO_PAGE_STRICT=1 asks for how quick they were too,
// RIALTO_PAGE_LONG=1 runs them at full length, RIALTO_PAGE_SCREENSHOTS=DIR keeps pictures.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { launch } from "./browser.mjs";
import { check, outcome } from "./checks.mjs";
import { onConsole } from "./console.mjs";
import { endure } from "./endurance.mjs";
import { Exchange, QUIET } from "./exchange.mjs";
import { looks } from "./looks.mjs";
import { onDemo, onMadeUp, onRecorded } from "./reading.mjs";
import { Recorded } from "./recorded.mjs";
import { trading } from "./trading.mjs";

const [, , binary, shared = path.join(import.meta.dirname, "../../../shared")] = process.argv;
const chromium = process.env.RIALTO_CHROMIUM ?? "/usr/bin/chromium";
const isLong = process.env.RIALTO_PAGE_LONG === "1";
const recordings = ["spot_btcusdt_20240808.gz", "spot_btcusdt_20240809.gz"].map((name) => path.join(shared, "data/binance", name));

await check("the types of the page's modules agree", async () => {
  const [tsc, project] = ["node_modules/.bin/tsc", "../../gateway/web"].map((name) => path.join(import.meta.dirname, name));
  try {
    execFileSync(tsc, ["-p", project], { encoding: "utf8" });
  } catch (error) {
    throw new Error(error.stdout || error.message);
  }
});

const browser = await launch(chromium);
const exchanges = [new Exchange(binary), new Exchange(binary, { bootstrap: QUIET })];
try {
  const [demo, quiet] = await Promise.all(exchanges.map((exchange) => exchange.start()));
  await trading(browser, quiet);
  await looks(browser, demo, quiet);
  await onConsole(browser, demo, quiet);
  await onMadeUp(browser, demo.url);
  if (recordings.every((file) => existsSync(file))) {
    // A minute of it in real time is some 9,000 messages; CI takes more of them, quicker.
    const [messages, perSecond] = isLong ? [90_000, 1000] : [30_000, 3000];
    await onRecorded(browser, Recorded.of(recordings), demo.url, messages, perSecond);
    await endure(browser, () => Recorded.of(recordings), demo.url, isLong ? 600 : 15);
  } else {
    console.log(`skipped: there is no ${recordings[0]}`);
  }
  // Last: the exchange is killed in it.
  await onDemo(browser, demo, isLong ? 60 : 5);
} catch (error) {
  outcome.failed += 1;
  console.log(`FAIL  ${error.stack}`);
} finally {
  await browser.close();
  await Promise.all(exchanges.map((exchange) => exchange.remove()));
}
console.log(`${outcome.passed} passed, ${outcome.failed} failed, ${outcome.skipped} skipped`);
process.exit(outcome.failed === 0 && outcome.passed > 0 ? 0 : 1);
