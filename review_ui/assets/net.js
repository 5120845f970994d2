/** The desk's own routes, asked in the name of a reviewer. */

const API = "/api/v1";
const TIMEOUT_MS = 10_000;
/** How long to wait before what was not answered is asked for again. */
export const RETRY_MS = 2000;

/**
 * Every answer names the store and the run that it comes from, "store/run". `run` is the one whose
 * scores the desk shows, null while it shows none.
 */
export class Server {
  /** onOther(): an answer came from another store or run than what is shown. */
  constructor({ onOther }) {
    this.onOther = onOther;
    this.reviewer = null;
    this.run = null;
    this.latest = null;
  }

  get isOther() {
    return this.run !== null && this.latest !== this.run;
  }

  /** As the reviewer of the desk, or as another one. */
  get(path, reviewer = this.reviewer) {
    return this.ask(path, { reviewer });
  }

  post(path, body, timeoutMs = TIMEOUT_MS) {
    return this.ask(path, { method: "POST", body, timeoutMs });
  }

  put(path, body, keepalive = false) {
    return this.ask(path, { method: "PUT", body, keepalive });
  }

  /** The plain answer, for what is no JSON. */
  async bytes(path) {
    const response = await this.fetched(path, { headers: this.headers() });
    if (!response.ok) throw new Error(`HTTP ${response.status}.`);
    return response.arrayBuffer();
  }

  ask(path, { method = "GET", body, timeoutMs = TIMEOUT_MS, keepalive = false, reviewer }) {
    const headers = this.headers(reviewer);
    if (body !== undefined) headers["Content-Type"] = "application/json";
    return answered(
      this.fetched(path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(timeoutMs),
        keepalive,
      }),
    );
  }

  async fetched(path, options) {
    const response = await fetch(API + path, options);
    this.latest = response.headers.get("X-Run") ?? this.latest;
    if (this.isOther) this.onOther();
    return response;
  }

  headers(reviewer = this.reviewer) {
    return reviewer ? { "X-Reviewer": encodeURIComponent(reviewer) } : {};
  }
}

/**
 * The answer's JSON. An error carries `refused` when our own server found the request itself
 * unacceptable; that it serves another store by now, or whatever else answers in its place, a proxy
 * say, refuses nothing.
 */
async function answered(request) {
  const response = await request.catch(() => {
    throw new Error("The server does not answer.");
  });
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => null);
  if (typeof problem?.message !== "string") throw new Error(`HTTP ${response.status}.`);
  const error = new Error([problem.message, problem.hint].filter(Boolean).join(" "));
  const isRefusal = response.status === 409 || response.status === 422;
  if (isRefusal && !problem.is_another_store) error.refused = problem;
  throw error;
}
