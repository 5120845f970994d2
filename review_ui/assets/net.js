/** The desk's own routes, asked in the name of a reviewer. */

const API = "/api/v1";
const TIMEOUT_MS = 10_000;

export class Server {
  constructor() {
    this.reviewer = null;
  }

  get(path) {
    return this.ask(path, {});
  }

  post(path, body, timeoutMs = TIMEOUT_MS) {
    return this.ask(path, { method: "POST", body, timeoutMs });
  }

  put(path, body, keepalive = false) {
    return this.ask(path, { method: "PUT", body, keepalive });
  }

  /** The plain answer, for what is no JSON. */
  async bytes(path) {
    const response = await fetch(API + path, { headers: this.headers() });
    if (!response.ok) throw new Error(`HTTP ${response.status}.`);
    return response.arrayBuffer();
  }

  ask(path, { method = "GET", body, timeoutMs = TIMEOUT_MS, keepalive = false }) {
    const headers = this.headers();
    if (body !== undefined) headers["Content-Type"] = "application/json";
    return answered(
      fetch(API + path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(timeoutMs),
        keepalive,
      }),
    );
  }

  headers() {
    return this.reviewer ? { "X-Reviewer": encodeURIComponent(this.reviewer) } : {};
  }
}

/**
 * The answer's JSON. An error carries `refused` when our own server found the request itself
 * unacceptable, or `isAnotherStore` when it serves another store; whatever else answers in its
 * place, a proxy say, refuses nothing.
 */
async function answered(request) {
  const response = await request.catch(() => {
    throw new Error("The server does not answer.");
  });
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => null);
  if (typeof problem?.message !== "string") throw new Error(`HTTP ${response.status}.`);
  const error = new Error([problem.message, problem.hint].filter(Boolean).join(" "));
  if (problem.is_another_store) error.isAnotherStore = true;
  else if (response.status === 409 || response.status === 422) error.refused = problem;
  throw error;
}
