// The panels: each shows a part of the overview, and nothing where there is none.

import { clock, dayAndClock, element, setClass, setProperty, setText } from "../app/dom.js";
import { NOTHING, bytes, count, duration, latencyBar, micros, percent, prices, rate } from "./numbers.js";
import { growth, perSecond } from "./rates.js";
import { Table } from "./table.js";

/** @typedef {import("./door.js").Overview} Overview */
/** @typedef {import("./door.js").Door} Door */

const table = (/** @type {string} */ id, /** @type {string} */ empty) => new Table(element(id), empty);
const tables = {
  symbols: table("symbols", "No symbol is listed"),
  stages: table("stages", "No stage was measured in the newest minute"),
  threads: table("threads", "No thread is counted"),
  queues: table("queues", "No queue can be read"),
  journal: table("journal", "Nothing is known of it"),
  slowest: table("slowest", "No websocket is open"),
  streams: table("streams", "No stream is subscribed to"),
  audit: table("audit", "Nothing was done"),
  members: table("members", "One node alone"),
  rejects: table("rejects", "None"),
};

const STATUS_CLASS = /** @type {Record<string, string>} */ ({ TRADING: "status-good", HALT: "status-bad" });
/** A cell of words rather than numbers. @param {string} text */
const left = (text, className = "") => ({ text, className: `left ${className}`.trim() });
/** A queue that is so full is about to say no. */
const HIGH = 0.8;
/** Threads that are counted as one: together they may be busier than one can be. */
const POOLS = ["runtime", "rocksdb"];
/** What a symbol can be set to from here, and the words on the button. */
const STATUSES = [["HALT", "Halt"], ["CANCEL_ONLY", "Cancel only"], ["TRADING", "Resume"]];

/** Whether the node answers, and since when it does not. @param {Door} door */
export function paintDoor(door) {
  const { isOpen, isStale, overview } = door;
  const state = !isOpen ? "locked" : !overview ? "connecting" : isStale ? "stale" : "live";
  const since = clock(door.heardAt);
  const text = { locked: "Locked", connecting: door.trouble ? `No answer: ${door.trouble}` : "Connecting", stale: `Stale since ${since}`, live: "Live" }[state];
  setText(element("conn"), text);
  if (element("conn").dataset.state !== state) element("conn").dataset.state = state;
  document.body.classList.toggle("stale", state === "stale");
  document.body.classList.toggle("locked", state === "locked");
  setProperty(element("door"), "hidden", isOpen && overview !== null);
  for (const id of ["panels", "health", "books", "halt-all", "resume-all", "lock"]) setProperty(element(id), "hidden", overview === null);
  setText(element("door-fault"), door.fault || (isOpen ? door.trouble : ""));
}

/** @param {Overview | null} now @param {Overview | null} before */
export function paint(now, before) {
  paintHealth(now, before);
  paintSymbols(now, before);
  paintStages(now);
  paintQueues(now, before);
  paintJournal(now, before);
  paintSockets(now, before);
  paintCluster(now);
  paintRejects(now);
  paintAudit(now);
}

/** @param {Overview | null} now @param {Overview | null} before */
function paintHealth(now, before) {
  const isGood = now !== null && now.conserved && now.reconciliation.state === "ok";
  const { state = "", detail = "" } = now?.reconciliation ?? {};
  const books = { ok: "Books balance", broken: "BOOKS BROKEN", fenced: "STATE DIFFERS" }[state] ?? state;
  setText(element("books-text"), now && !now.conserved && state === "ok" ? "BOOKS BROKEN" : books);
  setProperty(element("books"), "title", detail);
  if (element("books").dataset.state !== (isGood ? "good" : "bad")) element("books").dataset.state = isGood ? "good" : "bad";
  // A gateway is no node and has no number.
  setText(element("role"), now ? (now.node ? `${now.role} (node ${now.node})` : now.role) : NOTHING);
  setText(element("ready"), now ? (now.ready ? "taken" : "not taken") : NOTHING);
  setClass(element("ready"), now && !now.ready ? "warn" : "");
  setText(element("sequence"), count(now?.sequence));
  setText(element("command-rate"), now ? rate(perSecond(now, before, (it) => it.sequence)) : NOTHING);
  setText(element("uptime"), duration(now?.uptimeSeconds));
  setText(element("version"), now?.version ?? NOTHING);
  setProperty(element("halted-all"), "hidden", !now?.haltedAll);
}

/** @param {Overview | null} now @param {Overview | null} before */
function paintSymbols(now, before) {
  const past = new Map(before?.symbols.map((row) => [row.symbol, row]));
  tables.symbols.paint((now?.symbols ?? []).map((row) => {
    const each = (/** @type {"orders" | "trades"} */ what) => rate(now && before
      ? perSecond(now, before, (it) => (it === now ? row : past.get(row.symbol))?.[what]) : null);
    const age = row.lastTradeAgeMs;
    return {
      key: row.symbol,
      cells: [row.symbol, { text: row.status, className: `left ${STATUS_CLASS[row.status] ?? "warn"}` }, each("orders"), each("trades"),
        count(row.restingOrders), ...prices([row.bid, row.ask, row.spread]), age === null ? NOTHING : `${duration(age / 1000)} ago`],
      buttons: STATUSES.map(([status, text]) => ({ act: status, text, label: `${text} ${row.symbol}`, disabled: row.status === status })),
    };
  }));
}

/** @param {Overview | null} now */
function paintStages(now) {
  tables.stages.paint((now?.stages ?? []).map(({ name, count: many, ...at }) => ({
    key: name,
    bars: many > 0 ? [at.p50Us, at.p99Us, at.p999Us].map(latencyBar) : ["0%", "0%", "0%"],
    cells: [name, ...[at.p50Us, at.p99Us, at.p999Us].map((us) => (many > 0 ? micros(us) : NOTHING)), count(many)],
  })));
}

/** @param {Overview | null} now @param {Overview | null} before */
function paintQueues(now, before) {
  const spent = new Map(before?.threads.map(({ name, busyNs }) => [name, busyNs]));
  tables.threads.paint((now?.threads ?? []).map(({ name, busyNs }) => {
    const perS = now && perSecond(now, before, (it) => (it === now ? busyNs : spent.get(name)));
    const busy = perS === null ? null : perS / 1e9;
    return { key: name, className: busy !== null && busy > HIGH && !POOLS.includes(name) ? "high" : "", bars: [percent(busy ?? 0)], cells: [name, busy === null ? NOTHING : `${(busy * 100).toFixed(1)} %`] };
  }));
  tables.queues.paint((now?.queues ?? []).map(({ name, depth, bound }) => ({
    key: name, className: depth > bound * HIGH ? "high" : "", bars: [percent(bound > 0 ? depth / bound : 0)], cells: [name, count(depth), count(bound)],
  })));
}

/** @param {Overview | null} now @param {Overview | null} before */
function paintJournal(now, before) {
  const it = now?.journal;
  setProperty(element("disk-low"), "hidden", !it?.diskLow);
  if (!now || !it) return tables.journal.paint([]);
  const [syncs, ns] = [growth(now, before, (one) => one.journal.logSyncs), growth(now, before, (one) => one.journal.logSyncNs)];
  const written = perSecond(now, before, (one) => one.journal.logBytes);
  tables.journal.paint([
    ["Log index", count(it.logIndex)],
    ["Applied sequence", count(now.appliedSequence)],
    ["Log written", bytes(it.logBytes)],
    ["Log written/s", written === null ? NOTHING : bytes(Math.round(written))],
    ["Syncs", count(it.logSyncs)],
    ["Mean sync", syncs && ns !== null ? micros(ns / syncs / 1000) : NOTHING],
    ["Snapshots since the start", count(it.snapshots)],
    ["History holds up to", count(it.historyWatermark)],
    ["History behind", count(it.historyLag)],
    ["Disk free", bytes(it.diskFreeBytes)],
  ].map(([name, text]) => ({ key: name, cells: [name, text] })));
}

/** @param {Overview | null} now @param {Overview | null} before */
function paintSockets(now, before) {
  const it = now?.sockets;
  setText(element("sockets-open"), count(it?.open));
  setText(element("subscriptions"), count(it?.subscriptions));
  setText(element("message-rate"), now ? rate(perSecond(now, before, (one) => one.sockets.messages)) : NOTHING);
  setText(element("conflated"), count(it?.conflated));
  const closed = Object.entries(it?.slowDisconnects ?? {});
  setText(element("slow-disconnects"), it ? count(closed.reduce((sum, [, many]) => sum + many, 0)) : NOTHING);
  setProperty(element("slow-disconnects"), "title", closed.map(([reason, many]) => `${reason}: ${many}`).join(", "));
  tables.slowest.paint((it?.slowest ?? []).map((socket) => ({
    key: String(socket.id),
    cells: [String(socket.id), left(socket.address), count(socket.streams), { text: count(socket.behind), className: socket.behind > 0 ? "warn" : "" },
      `${count(socket.lagMs)} ms`, count(socket.conflated), count(socket.sent), duration(socket.openSeconds)],
    buttons: [{ act: "disconnect", text: "Disconnect", label: `Disconnect websocket ${socket.id} of ${socket.address}` }],
  })));
  tables.streams.paint((it?.byStream ?? []).map(({ stream, subscriptions }) => ({ key: stream, cells: [stream, count(subscriptions)] })));
}

/** @param {Overview | null} now */
function paintCluster(now) {
  const cluster = now?.cluster;
  setText(element("term"), cluster ? `term ${cluster.term}, ${cluster.leader === null ? "nobody leads" : `node ${cluster.leader} leads`}` : "");
  tables.members.paint((cluster?.members ?? []).map((member) => ({
    key: String(member.node),
    cells: [`${member.node}${member.isThis ? " (this)" : ""}`, left(member.role), left(member.address), count(member.lagEntries),
      { text: member.reachable ? "yes" : "no", className: member.reachable ? "" : "warn" }],
  })));
}

/** @param {Overview | null} now */
function paintRejects(now) {
  const rows = now?.rejects ?? [];
  const most = Math.max(1, ...rows.map(({ count: many }) => many));
  tables.rejects.paint(rows.map(({ code, count: many }) => ({ key: String(code), bars: [percent(many / most)], cells: [String(code), count(many)] })));
}

/** @param {Overview | null} now */
function paintAudit(now) {
  /** @type {Map<string, number>} */
  const seen = new Map();
  tables.audit.paint((now?.audit ?? []).map((note) => {
    const what = actionText(note.action);
    const same = `${note.sequence}/${note.time}/${note.operator}/${note.action}`;
    seen.set(same, (seen.get(same) ?? 0) + 1);
    return {
      key: `${same}/${seen.get(same)}`,
      cells: [dayAndClock(note.time), count(note.sequence), left(note.operator), left(note.origin), left(what, "words"), left(note.reason, "words"),
        { text: note.ok ? "yes" : "no", className: note.ok ? "" : "warn" }],
    };
  }));
}

/** The log keeps what was asked as JSON. @param {string} text */
export function actionText(text) {
  try {
    const { action, ...rest } = JSON.parse(text);
    if (typeof action !== "string") return text;
    const facts = Object.entries(rest).filter(([, value]) => value !== null && value !== false && value !== "" && !(Array.isArray(value) && value.length === 0));
    return [action, ...facts.map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`)].join(" ");
  } catch {
    return text;
  }
}
