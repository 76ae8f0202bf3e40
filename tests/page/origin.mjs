// An origin between browser and exchange: forwards everything, and does on purpose what goes wrong by itself elsewhere.
// With `web` it serves the page from a folder, so that an edit shows with the next reload.

import { readFile } from "node:fs/promises";
import http from "node:http";
import path from "node:path";
import { WebSocket, WebSocketServer } from "ws";

const KINDS = { ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".mjs": "text/javascript", ".js": "text/javascript" };

export class Origin {
  /** @param {{upstream: string, web?: string, page?: string, answer?: (path: string, query: URLSearchParams) => any, connect?: (socket: WebSocket, url: URL) => void}} options */
  constructor({ upstream, web, page = "index.html", answer, connect }) {
    this.upstream = upstream;
    this.web = web;
    this.page = page;
    this.answer = answer;
    /** Looked at for each message to the browser; what it refuses is lost. */
    this.passes = (_message) => true;
    this.sockets = new Set();
    this.server = http.createServer((request, response) => this.forward(request, response));
    const doors = new WebSocketServer({ noServer: true });
    this.server.on("upgrade", (request, socket, head) => {
      const url = new URL(request.url, "http://origin");
      const open = (then) => doors.handleUpgrade(request, socket, head, then);
      if (connect) open((client) => connect(client, url));
      else this.join(request.url, open, socket);
    });
  }

  async listen(port = 0) {
    await new Promise((resolve) => this.server.listen(port, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this.url;
  }

  close() {
    for (const socket of this.sockets) socket.terminate();
    this.server.closeAllConnections();
    this.server.close();
  }

  async forward(request, response) {
    const url = new URL(request.url, "http://origin");
    try {
      const own = this.answer?.(url.pathname, url.searchParams);
      if (own !== undefined) {
        response.writeHead(200, { "Content-Type": "application/json" });
        return response.end(JSON.stringify(own));
      }
      if (this.web && (url.pathname === "/" || url.pathname.startsWith("/trade/") || url.pathname.startsWith("/web/"))) {
        const name = url.pathname.startsWith("/web/") ? url.pathname.slice(5) : this.page;
        const bytes = await readFile(path.join(this.web, path.normalize(`/${name}`)));
        response.writeHead(200, { "Content-Type": KINDS[path.extname(name)] ?? "text/plain" });
        return response.end(bytes);
      }
    } catch (error) {
      response.writeHead(500);
      return response.end(String(error));
    }
    const { hostname, port } = new URL(this.upstream);
    const ask = http.request({ hostname, port, path: request.url, method: request.method, headers: request.headers });
    ask.on("response", (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    ask.on("error", () => response.destroy());
    request.pipe(ask);
  }

  /** Both ends of a websocket: the browser's opens once the server's is open, and when one closes so does the other. */
  join(target, open, socket) {
    const server = new WebSocket(this.upstream.replace("http", "ws") + target);
    server.on("error", () => socket.destroy());
    // What comes before the browser's end is there would be lost.
    const early = [];
    server.on("message", (data) => early.push(String(data)));
    server.on("open", () => open((client) => {
      this.sockets.add(client);
      const pass = (text) => { if (this.passes(text)) client.send(text); };
      server.removeAllListeners("message");
      early.forEach(pass);
      server.on("message", (data) => pass(String(data)));
      client.on("message", (data) => server.send(String(data)));
      const end = () => { this.sockets.delete(client); client.terminate(); server.terminate(); };
      for (const one of [client, server]) for (const event of ["close", "error"]) one.on(event, end);
    }));
  }
}

// By hand: node origin.mjs http://127.0.0.1:8080 ../../gateway/web [port [page]]
if (process.argv[1] === import.meta.filename) {
  const [, , upstream, web, port, page] = process.argv;
  console.log(await new Origin({ upstream, web, page }).listen(Number(port ?? 0)));
}
