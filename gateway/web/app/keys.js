// Keys. Single ones act only where no field has the focus and no dialog is open, and can be switched off.

import { settings } from "./settings.js";

/** @typedef {{symbols: () => void, help: () => void, side: (side: string) => void, cancelNewest: () => void, cancelAll: () => void,
 *   interval: (index: number) => void, recentre: () => void, part: (percent: number) => void, leave: () => void}} Actions */

/** @param {Actions} actions */
export function startKeys(actions) {
  document.addEventListener("keydown", (event) => {
    const isDialogOpen = document.querySelector("dialog[open]") !== null;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (!isDialogOpen) actions.symbols();
      return;
    }
    if (isDialogOpen) return;
    const digit = /^Digit([1-6])$/.exec(event.code)?.[1];
    if (event.altKey && !event.ctrlKey && !event.metaKey && digit && Number(digit) <= 4) {
      event.preventDefault();
      return actions.part(Number(digit) * 25);
    }
    if (event.key === "Escape") return actions.leave();
    const isTyping = event.target instanceof Element && event.target.closest("input:not([type=radio]):not([type=checkbox]), select, textarea") !== null;
    if (isTyping || !settings.keys || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const act = {
      b: () => actions.side("BUY"),
      s: () => actions.side("SELL"),
      c: () => actions.cancelNewest(),
      C: () => actions.cancelAll(),
      "/": () => actions.symbols(),
      "?": () => actions.help(),
      ".": () => actions.recentre(),
    }[event.key] ?? (digit && !event.shiftKey ? () => actions.interval(Number(digit) - 1) : undefined);
    if (!act) return;
    event.preventDefault();
    act();
  });
}
