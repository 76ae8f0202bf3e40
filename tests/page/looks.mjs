// How the page looks and to whom it speaks: palettes, contrast, assistive technology, motion, a phone.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { Page } from "./browser.mjs";
import { check } from "./checks.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const PALETTES = ["green-red", "red-green", "blue-orange"];
export const THEMES = ["dark", "light"];
const CONTRAST_MIN = 4.5;
const pictures = process.env.RIALTO_PAGE_SCREENSHOTS;

export async function setLooks(page, palette, theme) {
  await page.tab.selectOption("#palette", palette);
  await page.tab.selectOption("#theme", theme);
  await page.painted();
}

/** The whole page, or what a selector says of it. */
export async function assertAccessible(page, what, part = "body") {
  const found = await page.tab.evaluate(`${AXE}; axe.run(${JSON.stringify(part)}, { resultTypes: ["violations"] })`);
  const grave = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`), [], what);
}

export async function picture(page, name) {
  if (pictures) await page.tab.screenshot({ path: path.join(pictures, `${name}.png`) });
}

/** The colours of the style sheet, of what was painted from it, and how often the canvas has the candles' colours. */
function colours(page) {
  return page.tab.evaluate(() => {
    const root = getComputedStyle(document.documentElement);
    const canvas = document.createElement("canvas").getContext("2d");
    const rgb = (colour) => {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).join();
    };
    const named = Object.fromEntries(["up", "down", "up-bar", "down-bar", "panel", "text", "quiet", "up-fill", "down-fill", "warn"].map((name) => [name, rgb(root.getPropertyValue(`--${name}`))]));
    const shown = (selector) => rgb(getComputedStyle(document.querySelector(selector)).color);
    const pixels = { up: 0, down: 0 };
    for (const one of document.querySelectorAll("#chart canvas")) {
      const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
      for (let at = 0; at < data.length; at += 4) {
        const pixel = `${data[at]},${data[at + 1]},${data[at + 2]}`;
        if (pixel === named.up) pixels.up += 1;
        if (pixel === named.down) pixels.down += 1;
      }
    }
    return {
      named, pixels, ask: shown("#asks td"), bid: shown("#bids td"),
      bought: document.querySelector("#trades .up") ? shown("#trades .up") : named.up,
      sold: document.querySelector("#trades .down") ? shown("#trades .down") : named.down,
      series: Object.fromEntries(Object.entries(globalThis.__probe.colours()).map(([name, colour]) => [name, rgb(colour)])),
    };
  });
}

function contrast(one, other) {
  const luminance = (rgb) => {
    const [r, g, b] = rgb.split(",").map((part) => Number(part) / 255).map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** @param {any} browser @param {any} demo @param {any} quiet */
export async function looks(browser, demo, quiet) {
  const page = await Page.open(browser, demo.url);
  await page.until("candles of both kinds of trades", () => document.querySelector("#trades .up") && document.querySelector("#trades .down")
    && globalThis.__probe.candles().length > 0);

  await check("13: a palette recolours book, tape and candles, and every text stands out", async () => {
    const seen = new Set();
    for (const palette of PALETTES) {
      for (const theme of THEMES) {
        await setLooks(page, palette, theme);
        const now = await colours(page);
        const { up, down } = now.named;
        assert.deepEqual([now.bid, now.ask, now.bought, now.sold, now.series.up, now.series.down], [up, down, up, down, up, down], `${palette} ${theme}`);
        assert.ok(now.pixels.up + now.pixels.down > 20, `${palette} ${theme}: the candles have other colours`);
        seen.add(`${up} ${down}`);
        for (const [text, grounds] of Object.entries({ up: ["panel", "up-bar"], down: ["panel", "down-bar"], text: ["panel", "up-bar", "down-bar"], quiet: ["panel"], warn: ["panel"] })) {
          for (const ground of grounds) {
            const ratio = contrast(now.named[text], now.named[ground]);
            assert.ok(ratio >= CONTRAST_MIN, `${palette} ${theme}: ${text} on ${ground}: ${ratio.toFixed(2)}`);
          }
        }
        for (const fill of ["up-fill", "down-fill"]) assert.ok(contrast(now.named[fill], "255,255,255") >= CONTRAST_MIN, `${palette} ${theme}: ${fill}`);
        await picture(page, `trade-${palette}-${theme}`);
      }
    }
    assert.equal(seen.size, PALETTES.length * THEMES.length);
    await page.tab.reload();
    await page.live();
    assert.equal(await page.tab.inputValue("#palette"), PALETTES.at(-1), "what was chosen is kept");
  });

  await check("14: axe finds nothing serious, in every palette, light and dark, with every part open", async () => {
    await page.logIn("demo-trader-2");
    await page.order({ side: "BUY", price: "40000.00", quantity: "0.001" });
    await page.result();
    for (const palette of PALETTES) {
      for (const theme of THEMES) {
        await setLooks(page, palette, theme);
        await assertAccessible(page, `${palette} ${theme}`);
      }
    }
    await setLooks(page, PALETTES[0], "dark");
    for (const tab of ["history", "fills", "balances", "open"]) {
      await page.tab.click(`#tab-${tab}`);
      await assertAccessible(page, tab, ".orders");
    }
    await page.tab.check("#chart-view-depth", { force: true });
    await page.painted();
    await assertAccessible(page, "depth chart", ".chart-panel");
    await picture(page, "trade-depth");
    await page.tab.check("#chart-view-candles", { force: true });
    for (const kind of ["market", "oco", "otoco", "trailing"]) {
      await page.tab.selectOption("#kind", kind);
      await assertAccessible(page, kind, ".form-panel");
    }
    await page.tab.keyboard.press("Control+k");
    await assertAccessible(page, "symbols", "#symbols-dialog");
    await page.tab.click("#symbols-dialog [data-close]");
    await page.tab.click("#keys-button");
    await assertAccessible(page, "keys", "#keys-dialog");
    await page.tab.click("#keys-dialog [data-close]");
    await page.tab.click("#cancel-all");
    await assertAccessible(page, "cancel all", "#cancel-all-dialog");
    await page.tab.click("#cancel-all-dialog button[value=yes]");
    await page.until("nothing is open", () => document.getElementById("open-count").textContent === "0");
    await page.tab.click("#account-button");
    await page.tab.click("#account-button");
    await assertAccessible(page, "log in", "#login-dialog");
    await page.tab.click("#login-dialog [data-close]");
  });

  await check("14: the chart says by keyboard what it shows", async () => {
    await page.tab.focus("#chart");
    for (let left = 3; left > 0; left -= 1) await page.tab.keyboard.press("ArrowLeft");
    await page.until("the bar is told", () => /O .* H .* L .* C .* V /.test(document.getElementById("legend-live").textContent));
  });

  await check("the depth chart is drawn, both sides", async () => {
    await page.tab.check("#chart-view-depth", { force: true });
    await page.until("areas", () => {
      const canvas = document.getElementById("depth-canvas");
      if (canvas.width === 0) return false;
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const filled = [0, 0];
      for (let at = 3; at < data.length; at += 4) if (data[at] > 0) filled[(at / 4) % canvas.width < canvas.width / 2 ? 0 : 1] += 1;
      return filled.every((count) => count > 500);
    });
    assert.match(await page.text("#depth-legend"), /^Bids [\d.,]+ to [\d.,]+ · asks [\d.,]+ to [\d.,]+$/);
  });
  await page.close();

  await check("15: who wants no motion sees none", async () => {
    const still = await Page.open(browser, demo.url, { reducedMotion: "reduce" });
    await still.tab.waitForTimeout(500);
    assert.equal(await still.tab.evaluate(() => document.getAnimations().length), 0);
    await still.close();
  });

  await check("18: on a phone everything is reached and nothing is cut off", async () => {
    const phone = await Page.open(browser, demo.url, { viewport: { width: 390, height: 844 }, colorScheme: "light" });
    const isWide = () => phone.tab.evaluate(() => document.documentElement.scrollWidth);
    await phone.logIn("demo-trader-1");
    await phone.tab.click("#go-BUY");
    assert.equal(await phone.tab.isVisible("#submit"), true);
    await phone.order({ side: "BUY", price: "40000.00", quantity: "0.001" });
    assert.match(await phone.result(), /^NEW/);
    await picture(phone, "phone-form");
    for (const part of ["chart", "book", "trades", "orders"]) {
      await phone.tab.click(`#parts [data-part=${part}]`);
      await phone.painted();
      assert.ok(await isWide() <= 390, `${part}: ${await isWide()} px wide`);
      await assertAccessible(phone, `phone: ${part}`);
      await picture(phone, `phone-${part}`);
      const cut = await phone.tab.evaluate(() => [...document.querySelectorAll("main td, main th")]
        .filter((cell) => !cell.closest("#chart, .wide thead") && cell.offsetParent !== null && (cell.scrollWidth > cell.clientWidth + 1 || parseFloat(getComputedStyle(cell).fontSize) < 11))
        .map((cell) => cell.textContent));
      assert.deepEqual(cut, [], part);
    }
    for (const tab of ["history", "fills", "balances", "open"]) {
      await phone.tab.click(`#tab-${tab}`);
      assert.ok(await isWide() <= 390, tab);
    }
    await phone.tab.click("#open-orders button");
    await phone.until("it is canceled", () => document.getElementById("open-count").textContent === "0");
    await phone.tab.click("#parts [data-part=book]");
    await phone.tab.click("#bids tr[data-price]");
    assert.equal(await phone.tab.evaluate(() => document.activeElement.id), "quantity");
    assert.deepEqual(phone.errors, []);
    await phone.close();
  });
}
