// Tables whose rows come and go. A row belongs to a key, so that what stands under the pointer or has the focus stays what it is
// when others appear; only what differs is written.

import { setClass, setProperty, setText } from "../app/dom.js";

/** @typedef {{text: string, className?: string, title?: string}} Cell */
/** @typedef {{act: string, text: string, label: string, disabled?: boolean}} Button */
/** @typedef {{key: string, className?: string, bars?: string[], cells: (Cell | string)[], buttons?: Button[]}} Line */

const BARS = ["--first", "--second", "--third"];

export class Table {
  /** @param {HTMLTableSectionElement} body @param {string} empty what is said where there is no row */
  constructor(body, empty) {
    this.body = body;
    this.empty = empty;
    /** @type {Map<string, HTMLTableRowElement>} */
    this.rows = new Map();
  }

  /** @param {Line[]} lines */
  paint(lines) {
    const wanted = new Set(lines.map(({ key }) => key));
    for (const [key, row] of this.rows) {
      if (wanted.has(key)) continue;
      row.remove();
      this.rows.delete(key);
    }
    lines.forEach((line, index) => {
      const row = this.rows.get(line.key) ?? this.add(line);
      if (this.body.rows[index] !== row) this.body.insertBefore(row, this.body.rows[index] ?? null);
      paintLine(row, line);
    });
    this.paintEmpty(lines.length === 0);
  }

  /** @param {Line} line */
  add({ key, cells, buttons = [] }) {
    const row = document.createElement("tr");
    cells.forEach((_, index) => {
      const cell = document.createElement(index === 0 ? "th" : "td");
      if (index === 0) cell.setAttribute("scope", "row");
      row.append(cell);
    });
    if (buttons.length > 0) {
      const cell = row.insertCell();
      for (const { act, text } of buttons) {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.act = act;
        button.dataset.key = key;
        button.append(text);
        cell.append(button);
      }
    }
    row.dataset.key = key;
    this.rows.set(key, row);
    return row;
  }

  /** @param {boolean} isEmpty */
  paintEmpty(isEmpty) {
    const said = this.body.querySelector("td.empty");
    if (isEmpty && !said) {
      const cell = this.body.insertRow().insertCell();
      cell.className = "empty";
      cell.colSpan = 99;
      cell.textContent = this.empty;
    } else if (!isEmpty && said) {
      said.closest("tr")?.remove();
    }
  }
}

/** @param {HTMLTableRowElement} row @param {Line} line */
function paintLine(row, { className = "", bars = [], cells, buttons = [] }) {
  setClass(row, className);
  bars.forEach((length, index) => {
    if (row.style.getPropertyValue(BARS[index]) !== length) row.style.setProperty(BARS[index], length);
  });
  cells.forEach((cell, index) => {
    const { text, className: named = "", title = "" } = typeof cell === "string" ? { text: cell } : cell;
    setText(row.cells[index], text);
    setClass(row.cells[index], named);
    setProperty(row.cells[index], "title", title);
  });
  const made = row.querySelectorAll("button");
  buttons.forEach(({ label, disabled = false }, index) => {
    setProperty(made[index], "disabled", disabled);
    setProperty(made[index], "ariaLabel", label);
  });
}
