// The one door to the node: who is there, the overview, asked for again and again, and what operators have done. Every question
// carries the token; where that does not open, nothing that was read is kept.

/** @typedef {{symbol: string, status: string, orders: number, trades: number, restingOrders: number, bid: string | null,
 *   ask: string | null, spread: string | null, lastTradeAgeMs: number | null}} SymbolRow */
/** @typedef {{id: number, address: string, streams: number, behind: number, lagMs: number, conflated: number, sent: number,
 *   openSeconds: number}} SocketRow */
/** @typedef {{node: number, address: string, role: string, lagEntries: number | null, reachable: boolean, isThis: boolean}} Member */
/** @typedef {{sequence: number | null, time: number, operator: string, origin: string, action: string, reason: string, ok: boolean}} Note */
/** @typedef {{
 *   time: number, version: string, node: number, role: string, uptimeSeconds: number, ready: boolean, sequence: number,
 *   appliedSequence: number, conserved: boolean, reconciliation: {state: string, detail: string}, haltedAll: boolean,
 *   cluster: {leader: number | null, term: number, members: Member[]} | null,
 *   stages: {name: string, count: number, p50Us: number, p99Us: number, p999Us: number}[],
 *   queues: {name: string, depth: number, bound: number}[],
 *   threads: {name: string, busyNs: number}[],
 *   journal: {logIndex: number, logBytes: number, logSyncs: number, logSyncNs: number, snapshots: number, historyWatermark: number,
 *     historyLag: number, diskFreeBytes: number, diskLow: boolean},
 *   symbols: SymbolRow[],
 *   sockets: {open: number, subscriptions: number, messages: number, conflated: number, slowDisconnects: Record<string, number>,
 *     byStream: {stream: string, subscriptions: number}[], slowest: SocketRow[]},
 *   rejects: {code: number, count: number}[],
 *   audit: Note[]}} Overview */

const PATH = "/admin/v1";
const POLL_MS = 1000;
const TIMEOUT_MS = 5000;
/** An answer that is older than this is not what is. */
const STALE_AFTER_MS = 4000;
const RATE_OVER_MS = 500;
const KEPT_AS = "rialto.operator";

/** What the node said no to. */
export class Refusal extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Door {
  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
    this.token = "";
    this.operator = "";
    /** Why it does not open. */
    this.fault = "";
    /** Why the last question had no answer. */
    this.trouble = "";
    /** @type {Overview | null} */
    this.overview = null;
    /** @type {Overview | null} */
    this.before = null;
    this.heardAt = 0;
    /** Questions asked, and the newest of them that was answered: an answer that comes late is not listened to. */
    this.asked = 0;
    this.answered = 0;
    /** Counts up with each opening and closing: who asked before is not listened to. */
    this.turn = 0;
  }

  get isOpen() { return this.token !== ""; }
  get isStale() { return this.overview !== null && (this.trouble !== "" || Date.now() - this.heardAt > STALE_AFTER_MS); }

  /** With what this tab was told before. */
  remember() {
    try {
      const { token, operator } = JSON.parse(sessionStorage.getItem(KEPT_AS) ?? "{}");
      if (typeof token === "string" && typeof operator === "string" && token) this.open(token, operator);
    } catch {
      // Whatever stands there is not ours.
    }
  }

  /** @param {string} token @param {string} operator */
  open(token, operator) {
    this.close("");
    [this.token, this.operator] = [token, operator];
    void this.poll(this.turn);
  }

  /** @param {string} fault */
  close(fault) {
    this.turn += 1;
    [this.token, this.fault, this.trouble] = ["", fault, ""];
    [this.overview, this.before] = [null, null];
    sessionStorage.removeItem(KEPT_AS);
    this.changed();
  }

  /** @param {number} turn */
  async poll(turn) {
    while (turn === this.turn) {
      await this.look(turn);
      await new Promise((resolve) => { setTimeout(resolve, POLL_MS); });
    }
  }

  /** Reads the overview now. @param {number} [turn] */
  async look(turn = this.turn) {
    const asked = this.asked += 1;
    try {
      const overview = await this.ask("/overview");
      if (turn !== this.turn || asked < this.answered) return;
      this.answered = asked;
      this.before = this.beforeOf(overview);
      if (!this.overview) sessionStorage.setItem(KEPT_AS, JSON.stringify({ token: this.token, operator: this.operator }));
      this.overview = overview;
      this.heardAt = Date.now();
      this.trouble = "";
    } catch (error) {
      if (turn !== this.turn || asked < this.answered) return;
      if (error instanceof Refusal && (error.status === 401 || error.status === 403)) return this.close(error.message);
      this.trouble = error instanceof Refusal ? error.message : "no answer";
    }
    this.changed();
  }

  /** What rates are worked out from: two that lie close together would say little. @param {Overview} next */
  beforeOf(next) {
    const elapsed = next.time - (this.overview?.time ?? next.time);
    if (elapsed >= RATE_OVER_MS) return this.overview;
    return elapsed >= 0 ? this.before : null;
  }

  /** Has something done; what there is to tell of it. @param {Record<string, unknown>} action @param {string} reason */
  async act(action, reason) {
    const body = JSON.stringify({ operator: this.operator, reason, do: action });
    const answer = await this.ask("", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    void this.look();
    return answer;
  }

  /** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
  async ask(path, options = {}) {
    const headers = { ...options.headers, Authorization: `Bearer ${this.token}` };
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetch(PATH + path, { ...options, headers, signal, cache: "no-store" });
    const body = await response.json().catch(() => null);
    if (response.ok && body !== null) return body;
    throw new Refusal(response.status, body?.error ?? `the node answered ${response.status}`);
  }
}
