// The page under load for a while: it may not grow, nor stutter.

import assert from "node:assert/strict";
import { Page } from "./browser.mjs";
import { check, quick } from "./checks.mjs";
import { Origin } from "./origin.mjs";

const PER_SECOND = 1000;
const HEAP_GROWTH_MAX = 10 * 1024 * 1024;
const WARM_UP_S = 5;

/** @param {any} browser @param {() => any} record @param {string} assets @param {number} seconds */
export async function endure(browser, record, assets, seconds) {
  await check(`16: ${seconds} s at ${PER_SECOND} recorded messages a second`, async () => {
    const recorded = record();
    // bookTicker messages are not sent on, so they do not count.
    recorded.lines = recorded.lines.filter(({ text }) => !text.includes("@bookTicker"));
    const origin = new Origin({
      upstream: assets, answer: (path, query) => recorded.answer(path, query), connect: (socket, url) => recorded.connect(socket, url),
    });
    await origin.listen();
    await recorded.play(100, { perSecond: 1e9 });
    const page = await Page.open(browser, origin.url);
    const network = await page.context.newCDPSession(page.tab);
    await network.send("Performance.enable");
    const busy = async () => {
      const { metrics } = await network.send("Performance.getMetrics");
      return Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
    };
    const measure = async () => {
      await network.send("HeapProfiler.collectGarbage");
      return page.tab.evaluate(() => ({ heap: performance.memory.usedJSHeapSize, nodes: document.querySelectorAll("*").length }));
    };
    const playFor = (time) => recorded.loop(time, PER_SECOND);
    await playFor(WARM_UP_S);
    const before = await measure();
    await page.tab.evaluate(() => {
      globalThis.frames_ = [];
      let last = performance.now();
      const tick = (now) => { globalThis.frames_.push(now - last); last = now; if (globalThis.frames_.length < 1e6) requestAnimationFrame(tick); };
      requestAnimationFrame(tick);
    });
    const sent = recorded.sent;
    const busyBefore = await busy();
    await playFor(seconds);
    const busyAfter = await busy();
    const share = (name) => `${(((busyAfter[name] - busyBefore[name]) / seconds) * 100).toFixed(1)} %`;
    const perSecond = (recorded.sent - sent) / seconds;
    const frames = await page.tab.evaluate(() => { const all = globalThis.frames_.sort((a, b) => a - b); globalThis.frames_ = []; return all; });
    const after = await measure();
    const at = (part) => frames[Math.floor(frames.length * part)];
    console.log(`      ${perSecond.toFixed(0)} messages a second; heap ${(before.heap / 2 ** 20).toFixed(1)} to ${(after.heap / 2 ** 20).toFixed(1)} MiB; `
      + `${before.nodes} nodes, then ${after.nodes}; frames p50 ${at(0.5).toFixed(1)} p95 ${at(0.95).toFixed(1)} ms`);
    console.log(`      its thread is busy ${share("TaskDuration")}: script ${share("ScriptDuration")}, style ${share("RecalcStyleDuration")}, layout ${share("LayoutDuration")}`);
    assert.equal(after.nodes, before.nodes);
    assert.ok(after.heap - before.heap < HEAP_GROWTH_MAX, `the heap grew by ${after.heap - before.heap} bytes`);
    quick("frame p95", at(0.95), 50);
    assert.equal(await page.text("#resyncs"), "0");
    assert.deepEqual(page.errors, []);
    await page.close();
    origin.close();
  });
}
