// The real exchange: the binary `rialto`, in a folder of its own, and what is asked of it beside the browser.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";

const START_MS = 60_000;

export class Exchange {
  /** `demo`, or what `bootstrap` lists. @param {string} binary @param {{bootstrap?: string}} [options] */
  constructor(binary, { bootstrap } = {}) {
    this.binary = binary;
    this.folder = mkdtempSync(path.join(os.tmpdir(), "rialto-page-"));
    this.data = path.join(this.folder, "data");
    const listen = ["--listen", "127.0.0.1:0", "--data", this.data];
    this.arguments = ["demo", ...listen, "--seed", "7"];
    if (bootstrap !== undefined) {
      const file = path.join(this.folder, "bootstrap.toml");
      writeFileSync(file, bootstrap);
      this.arguments = ["serve", ...listen, "--bootstrap", file];
    }
  }

  async start() {
    // Who asks a lot on purpose must not be cut off.
    const environment = { ...process.env, RIALTO_SOCKETS__MESSAGES_PER_SECOND_MAX: "0", XDG_CONFIG_HOME: path.join(this.folder, "config"), RUST_LOG: "error" };
    this.process = spawn(this.binary, this.arguments, { stdio: ["ignore", "pipe", "inherit"], env: environment });
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
    const lines = createInterface({ input: this.process.stdout });
    this.url = await new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error("the exchange did not start")), START_MS).unref();
      this.ended.then((status) => reject(new Error(`the exchange ended: ${status}`)));
      lines.on("line", (line) => {
        const url = /is ready at (http\S+)/.exec(line)?.[1];
        if (url) resolve(url);
      });
    });
    return this;
  }

  async kill() {
    this.process.kill("SIGKILL");
    await this.ended;
  }

  async remove() {
    if (this.process?.exitCode === null && this.process.signalCode === null) await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Where operators are served, and what opens that. */
  get admin() {
    const [address, token] = ["admin.address", "admin.token"].map((name) => readFileSync(path.join(this.data, name), "utf8").trim());
    return { url: `http://${address}`, token };
  }

  async overview() {
    const { url, token } = this.admin;
    const response = await fetch(`${url}/admin/v1/overview`, { headers: { Authorization: `Bearer ${token}` } });
    if (!response.ok) throw new Error(`overview: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** The numbers of /metrics, by name and labels. */
  async metrics() {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    return new Map(text.split("\n").filter((line) => line && !line.startsWith("#")).map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }));
  }

  async get(target) {
    const response = await fetch(`${this.url}${target}`);
    if (!response.ok) throw new Error(`${target}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  async logIn(name) {
    const body = JSON.stringify({ name, password: passwordOf(name), code: "" });
    const response = await fetch(`${this.url}/rialto/v1/login`, { method: "POST", body });
    if (!response.ok) throw new Error(`login: ${response.status} ${await response.text()}`);
    const { accessToken } = await response.json();
    return new User(this, accessToken);
  }
}

export const passwordOf = (name) => `${name}-password`;

/** Somebody who trades beside the browser. */
class User {
  constructor(exchange, token) {
    this.exchange = exchange;
    this.token = token;
  }

  async call(method, target, params = {}) {
    const response = await fetch(`${this.exchange.url}${target}?${new URLSearchParams(params)}`, {
      method, headers: { Authorization: `Bearer ${this.token}` },
    });
    const body = await response.json();
    if (!response.ok) throw new Error(`${target}: ${JSON.stringify(body)}`);
    return body;
  }

  limit(side, quantity, price) {
    return this.call("POST", "/api/v3/order", { symbol: "BTCUSDT", side, type: "LIMIT", timeInForce: "GTC", quantity, price });
  }

  async balance(asset) {
    const { balances } = await this.call("GET", "/api/v3/account");
    return balances.find((row) => row.asset === asset);
  }
}

/** A symbol and three accounts, on which nothing happens by itself. */
export const QUIET = `
[[asset]]
name = "BTC"
scale = 8
[[asset]]
name = "USDT"
scale = 8
[[symbol]]
name = "BTCUSDT"
base = "BTC"
quote = "USDT"
tick_size = "0.01"
min_price = "0.01"
max_price = "1000000"
step_size = "0.00001"
min_qty = "0.00001"
max_qty = "9000"
min_notional = "5"
maker_fee = "0.001"
taker_fee = "0.002"
iceberg_parts = 100
trailing_delta = { min_above = 10, max_above = 2000, min_below = 10, max_below = 2000 }
${["maker-one", "ann-trader", "bob-trader"].map((name, index) => `
[[account]]
uid = ${1001 + index}
balances = { BTC = "100", USDT = "1000000" }
[[account.user]]
name = "${name}"
password = "${passwordOf(name)}"
`).join("")}`;
