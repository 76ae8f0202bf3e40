// Requests to the public API, waiting between attempts, and how late its answers and events are.

const REQUEST_TIMEOUT_MS = 10_000;
const BACKOFF_FIRST_MS = 250;
const BACKOFF_MAX_MS = 2000;
const PULSE_LOOK_MS = 1000;
const SILENCE_BEFORE_ASKING_MS = 4000;
const SILENCE_BEFORE_LOST_MS = 3000;
const SAMPLES_MAX = 500;
const CLOCK_QUESTIONS = 5;
const CLOCK_PAUSE_MS = 300;

export const STREAM_BASE = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}`;

/** A refusal: the code and the text of the API. */
export class Refusal extends Error {
  /** @param {number} status @param {number} code @param {string} message @param {number} retryAfterMs */
  constructor(status, code, message, retryAfterMs) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Asks and reads the answer as JSON. @param {string} path @param {RequestInit & {signal?: AbortSignal}} [options] @returns {Promise<any>} */
export async function requestJson(path, options = {}) {
  const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
  const response = await fetch(path, { ...options, signal, cache: "no-store" });
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  const retryAfterMs = Number(response.headers.get("Retry-After") ?? 0) * 1000;
  throw new Refusal(response.status, body?.code ?? 0, body?.msg ?? `the server answered ${response.status}`, retryAfterMs);
}

/** @param {number} ms @param {AbortSignal} signal */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(undefined); }, { once: true });
  });
}

/** Doubles from attempt to attempt, up to a bound, with jitter so that many pages do not come back as one. @param {number} attempt */
export function backoff(attempt) {
  const ms = Math.min(BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 10), BACKOFF_MAX_MS);
  return ms * (0.5 + Math.random() / 2);
}

/** A page cannot see pings, so a silent socket is asked something, and given up where nothing comes back in time. */
export class Pulse {
  /** @param {WebSocket} socket @param {() => void} lost */
  constructor(socket, lost) {
    this.socket = socket;
    this.lost = lost;
    this.isAsked = false;
    this.heardAt = performance.now();
    this.watch = setInterval(() => this.look(), PULSE_LOOK_MS);
  }

  heard() {
    this.heardAt = performance.now();
    this.isAsked = false;
  }

  stop() { clearInterval(this.watch); }

  look() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    const silence = performance.now() - this.heardAt;
    if (this.isAsked && silence > SILENCE_BEFORE_LOST_MS) {
      this.lost();
    } else if (!this.isAsked && silence > SILENCE_BEFORE_ASKING_MS) {
      this.isAsked = true;
      this.heardAt = performance.now();
      this.socket.send(JSON.stringify({ method: "LIST_SUBSCRIPTIONS", id: 1 }));
    }
  }
}

/** The last so many measurements. */
export class Samples {
  constructor() {
    /** @type {number[]} */
    this.values = [];
    this.next = 0;
  }

  /** @param {number} value */
  add(value) {
    this.values[this.next] = value;
    this.next = (this.next + 1) % SAMPLES_MAX;
  }

  /** The value below which this part of them lies. @param {number} part */
  quantile(part) {
    if (this.values.length === 0) return null;
    const sorted = [...this.values].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
  }
}

/** How far the server's clock is ahead of ours, by questions whose answers are taken to be made half way; the quickest answer
 *  is off the least. */
export class ServerClock {
  constructor() { this.ahead = 0; }

  /** @param {AbortSignal} signal */
  async read(signal) {
    let quickest = Infinity;
    for (let question = 0; question < CLOCK_QUESTIONS; question += 1) {
      const asked = Date.now();
      const began = performance.now();
      const { serverTime } = await requestJson("/api/v3/time", { signal });
      const took = performance.now() - began;
      if (took < quickest) {
        quickest = took;
        this.ahead = serverTime - (asked + took / 2);
      }
      await sleep(CLOCK_PAUSE_MS, signal);
    }
  }

  now() { return Date.now() + this.ahead; }
}
