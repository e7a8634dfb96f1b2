// @ts-check
/**
 * The admin API with the viewer's token. The token is kept in this tab's sessionStorage alone, and is sent as a header:
 * a page of another site cannot send it.
 */

const KEY = "turnout-control-token";

/** An answer of the API that is an error. */
export class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  /** @param {string} text */
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

/** @returns {Record<string, string>} */
const headers = () => (token.get() ? { authorization: `Bearer ${token.get()}` } : {});

/**
 * One request. Raises Refused.
 * @param {string} method @param {string} path
 * @param {{body?: unknown, match?: string, query?: Record<string, string>}} [how]
 * @returns {Promise<any>}
 */
export async function ask(method, path, how = {}) {
  const query = new URLSearchParams(how.query).toString();
  const answer = await fetch(path + (query ? `?${query}` : ""), {
    method,
    headers: {
      ...headers(),
      "x-turnout-author": "console",
      ...(how.body === undefined ? {} : { "content-type": "application/json" }),
      ...(how.match ? { "if-match": `"${how.match}"` } : {}),
    },
    body: how.body === undefined ? undefined : JSON.stringify(how.body),
    credentials: "omit",
  });
  if (answer.ok) return answer.json();
  throw await refusal(answer);
}

/** @param {Response} answer */
async function refusal(answer) {
  const found = await answer.json().catch(() => ({}));
  return new Refused(answer.status, found.error?.message ?? `the control port answered ${answer.status}`);
}

/**
 * Follow the live state until `stop` is aborted; a lost stream is opened again. An EventSource cannot send a token.
 * @param {(event: string, data: any) => void} on
 * @param {(state: "live" | "lost" | "token", why: string) => void} status
 * @param {AbortSignal} stop
 */
export async function follow(on, status, stop) {
  for (let wait = 500; !stop.aborted; wait = Math.min(10000, wait * 2)) {
    try {
      const answer = await fetch("/admin/live", { headers: headers(), signal: stop, credentials: "omit" });
      if (!answer.ok || !answer.body) throw await refusal(answer);
      await read(answer.body.getReader(), (event, data) => {
        wait = 500;
        status("live", "");
        on(event, data);
      });
      throw new Error("the stream ended");
    } catch (error) {
      if (stop.aborted) return;
      const denied = error instanceof Refused && (error.status === 401 || error.status === 403);
      status(denied ? "token" : "lost", /** @type {Error} */ (error).message);
      if (denied) return;
    }
    await new Promise((done) => setTimeout(done, wait));
  }
}

/** @param {ReadableStreamDefaultReader<Uint8Array>} reader @param {(event: string, data: any) => void} on */
async function read(reader, on) {
  const decoder = new TextDecoder();
  let pieces = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const text = decoder.decode(value, { stream: true });
    pieces.push(text);
    if (!text.includes("\n\n") && !text.startsWith("\n")) continue;
    const events = pieces.join("").split("\n\n");
    pieces = [/** @type {string} */ (events.pop())];
    for (const event of events) {
      const [name, data] = event.split("\n");
      on(name.slice("event: ".length), JSON.parse(data.slice("data: ".length)));
    }
  }
}
