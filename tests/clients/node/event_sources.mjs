// Two libraries for server-sent events that others wrote, whose replica dies in the middle of a stream. Each request
// goes to the first replica that accepts it, as with a load balancer before them.
// usage: node event_sources.mjs LIBRARY URL,URL MODEL TOKENS
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource } from "eventsource";

const [library, urls, model, tokens] = process.argv.slice(2);
const body = JSON.stringify({
  model,
  stream: true,
  temperature: 0,
  max_tokens: Number(tokens),
  ignore_eos: true,
  messages: [{ role: "user", content: "hello" }],
});
const headers = { "content-type": "application/json" };

let asked = 0;
const balanced = async (_, init) => {
  asked += 1;
  let refused;
  for (const url of urls.split(",")) {
    try {
      return await fetch(url + "/v1/chat/completions", init);
    } catch (error) {
      refused = error;
    }
  }
  throw refused;
};

let text = "";
let events = 0;
const ids = new Set();
const took = (id, data) => {
  if (data === "[DONE]") return true;
  events += 1;
  ids.add(id);
  text += JSON.parse(data).choices[0]?.delta.content ?? "";
  if (events === 4) console.log("begun");
  return false;
};

// The library is for browsers: the page is shown all the time.
const withFetchEventSource = async () => {
  globalThis.window = globalThis;
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  const over = new AbortController();
  await fetchEventSource("http://gateway/", {
    method: "POST",
    headers,
    body,
    fetch: balanced,
    signal: over.signal,
    onmessage: ({ id, data }) => {
      if (took(id, data)) over.abort();
    },
  });
};

const withEventSource = () =>
  new Promise((resolve, reject) => {
    const source = new EventSource("http://gateway/", {
      fetch: (url, init) =>
        balanced(url, { ...init, method: "POST", body, headers: { ...init.headers, ...headers } }),
    });
    source.onmessage = ({ lastEventId, data }) => {
      if (took(lastEventId, data)) {
        source.close();
        resolve();
      }
    };
    source.onerror = (error) => {
      if (source.readyState === EventSource.CLOSED) reject(error);
    };
  });

await { "fetch-event-source": withFetchEventSource, eventsource: withEventSource }[library]();
console.log(JSON.stringify({ text, asked, ids: ids.size === events }));
