// The operators' console: what the node says of itself, and what can be done about it. It asks the listener it came from and
// nobody else, for the same overview as "rialto top".

import { element, invalidate, onPaint, painted } from "../app/dom.js";
import { startSettings } from "../app/settings.js";
import { Confirmation, disconnect, haltAll, resumeAll, setStatus } from "./actions.js";
import { Door } from "./door.js";
import { paint, paintDoor } from "./panels.js";

const LOOK_AGAIN_MS = 500;

const door = new Door(invalidate);
const confirmation = new Confirmation(door);

onPaint(() => {
  paintDoor(door);
  paint(door.overview, door.before);
});

element("door-form").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  door.open(element("token").value.trim(), element("operator").value.trim());
  element("token").value = "";
});
element("lock").addEventListener("click", () => {
  door.close("");
  confirmation.dialog.close();
});
element("halt-all").addEventListener("click", () => confirmation.ask(haltAll()));
element("resume-all").addEventListener("click", () => confirmation.ask(resumeAll()));

/** The buttons of a table's rows. @param {string} id @param {(act: string, key: string) => void} act */
function onButton(id, act) {
  element(id).addEventListener("click", (/** @type {Event} */ event) => {
    const button = event.target instanceof Element ? event.target.closest("button") : null;
    if (button?.dataset.act && button.dataset.key) act(button.dataset.act, button.dataset.key);
  });
}
onButton("symbols", (status, symbol) => confirmation.ask(setStatus(symbol, status)));
onButton("slowest", (_act, id) => {
  const socket = door.overview?.sockets.slowest.find((row) => String(row.id) === id);
  if (socket) confirmation.ask(disconnect(socket.id, socket.address));
});

// For tests: what is known, to hold beside what is shown.
Object.assign(globalThis, { __probe: { painted, overview: () => door.overview } });

startSettings(invalidate);
door.remember();
// That answers stay away shows by itself.
setInterval(invalidate, LOOK_AGAIN_MS);
invalidate();
