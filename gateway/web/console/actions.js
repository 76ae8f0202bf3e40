// What operators have done from here. Each asks to type the name of what it is about: a wrong text does nothing.

import { announce, element, setText } from "../app/dom.js";
import { Refusal } from "./door.js";

/** @typedef {{title: string, note: string, wanted: string, action: Record<string, unknown>, done: string}} Deed */

const STATUS_VERBS = /** @type {Record<string, {verb: string, note: string, done: string}>} */ ({
  HALT: { verb: "Halt", note: "No order is taken in it until it is resumed; those that rest can be canceled.", done: "halted" },
  CANCEL_ONLY: { verb: "Cancel-only", note: "No new order is taken in it, and clients are told that only cancels are.", done: "cancel-only" },
  TRADING: { verb: "Resume", note: "Orders in it are taken and matched again.", done: "trading" },
});

/** @param {string} symbol @param {string} status @returns {Deed} */
export function setStatus(symbol, status) {
  const { verb, note, done } = STATUS_VERBS[status];
  return { title: `${verb} ${symbol}?`, note, wanted: symbol, action: { action: "set-status", symbol, status }, done: `${symbol} is ${done}` };
}

/** @returns {Deed} */
export const haltAll = () => ({
  title: "Halt every symbol?", note: "No order is taken anywhere until symbols are resumed; those that rest can be canceled.", wanted: "HALT ALL",
  action: { action: "halt-all" }, done: "Every symbol is halted",
});

/** @returns {Deed} */
export const resumeAll = () => ({
  title: "Resume every symbol that was halted?", note: "Orders are taken and matched again.", wanted: "RESUME ALL",
  action: { action: "resume-all" }, done: "Halted symbols trade again",
});

/** @param {number} id @param {string} address @returns {Deed} */
export const disconnect = (id, address) => ({
  title: `Disconnect websocket ${id}?`, note: `It is that of ${address}; its client may come back at once.`, wanted: String(id),
  action: { action: "disconnect", id }, done: `Websocket ${id} is disconnected`,
});

export class Confirmation {
  /** @param {import("./door.js").Door} door */
  constructor(door) {
    this.door = door;
    /** @type {Deed | null} */
    this.deed = null;
    this.dialog = element("confirm-dialog");
    element("confirm-form").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      void this.answer();
    });
    element("confirm-no").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => { this.deed = null; });
  }

  /** @param {Deed} deed */
  ask(deed) {
    this.deed = deed;
    setText(element("confirm-title"), deed.title);
    setText(element("confirm-note"), deed.note);
    setText(element("confirm-wanted"), deed.wanted);
    for (const id of ["confirm-text", "confirm-reason"]) element(id).value = "";
    this.complain("");
    this.dialog.showModal();
    element("confirm-text").focus();
  }

  /** @param {string} fault */
  complain(fault) {
    setText(element("confirm-fault"), fault);
    element("confirm-text").setAttribute("aria-invalid", String(fault !== ""));
  }

  async answer() {
    const { deed } = this;
    if (!deed || element("confirm-yes").disabled) return;
    if (element("confirm-text").value !== deed.wanted) return this.complain(`That is not ${deed.wanted}. Nothing was done.`);
    this.complain("");
    element("confirm-yes").disabled = true;
    try {
      const { sequence } = await this.door.act(deed.action, element("confirm-reason").value);
      announce(sequence === null || sequence === undefined ? deed.done : `${deed.done}, at sequence ${sequence}`);
      if (this.deed === deed) this.dialog.close();
    } catch (error) {
      const text = error instanceof Refusal ? `Refused: ${error.message}` : "No answer: look at the audit list whether it was done.";
      if (this.deed === deed) setText(element("confirm-fault"), text);
      announce(text);
    } finally {
      element("confirm-yes").disabled = false;
    }
  }
}
