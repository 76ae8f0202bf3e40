// Who is logged in, and requests in their name. The access token stays in memory, the refresh token in this tab's session
// storage, so that a reload stays logged in and two tabs may be two people. No cookie is used.

import { Refusal, Samples, requestJson } from "./requests.js";

const KEPT_AS = "rialto.refresh";

export class Session {
  constructor() {
    /** @type {{name: string, role: string, uid: number | null} | null} */
    this.user = null;
    this.accessToken = "";
    this.refreshToken = "";
    /** @type {any} */
    this.refreshTimer = undefined;
    this.roundTrips = new Samples();
    /** Told whenever the user is another one. */
    this.onChange = () => {};
  }

  get canTrade() { return this.user !== null && this.user.role !== "read-only" && this.user.uid !== null; }

  /** Goes on with what a reload left. */
  async resume() {
    const kept = sessionStorage.getItem(KEPT_AS);
    if (!kept) return;
    try {
      this.take(await post("refresh", { refreshToken: kept }));
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) sessionStorage.removeItem(KEPT_AS);
      else setTimeout(() => this.user ?? this.resume(), 2000);
    }
  }

  /** @param {string} name @param {string} password @param {string} code */
  async logIn(name, password, code) {
    this.take(await post("login", { name, password, code }));
  }

  async logOut() {
    const token = this.accessToken;
    this.forget();
    await post("logout", {}, token).catch((error) => console.warn("log out:", error.message));
  }

  /** @param {any} pair */
  take(pair) {
    const before = this.user?.name;
    this.accessToken = pair.accessToken;
    this.refreshToken = pair.refreshToken;
    this.user = { name: pair.name, role: pair.role, uid: pair.uid };
    sessionStorage.setItem(KEPT_AS, pair.refreshToken);
    clearTimeout(this.refreshTimer);
    this.refreshTimer = setTimeout(() => this.refresh().catch(() => {}), pair.expiresIn * 800);
    if (before !== pair.name) this.onChange();
  }

  forget() {
    clearTimeout(this.refreshTimer);
    this.user = null;
    this.accessToken = this.refreshToken = "";
    sessionStorage.removeItem(KEPT_AS);
    this.onChange();
  }

  async refresh() {
    try {
      this.take(await post("refresh", { refreshToken: this.refreshToken }));
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) this.forget();
      else this.refreshTimer = setTimeout(() => this.refresh().catch(() => {}), 5000);
      throw error;
    }
  }

  /** A call of the API in the user's name. @param {string} method @param {string} path @param {Record<string, string>} [params] */
  async call(method, path, params = {}) {
    const target = `${path}?${new URLSearchParams(params)}`;
    const ask = () => requestJson(target, { method, headers: { Authorization: `Bearer ${this.accessToken}` } });
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Refusal) || error.status !== 401 || !this.user) throw error;
      await this.refresh();
      return await ask();
    }
  }

  /** A command: how long its answer took is measured. @param {string} method @param {string} path @param {Record<string, string>} params */
  async command(method, path, params) {
    const sent = performance.now();
    try {
      return await this.call(method, path, params);
    } finally {
      this.roundTrips.add(performance.now() - sent);
    }
  }
}

/** @param {string} what @param {any} body @param {string} [token] */
function post(what, body, token) {
  /** @type {Record<string, string>} */
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  return requestJson(`/rialto/v1/${what}`, { method: "POST", headers, body: JSON.stringify(body) });
}
