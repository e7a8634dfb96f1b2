// What the Anthropic SDK for Node sees of an API: node anthropic_sdk.mjs BASE_URL MODEL. Prints one JSON object.
import Anthropic from "@anthropic-ai/sdk";

const [baseURL, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "hello there" }];

const message = await client.messages.create({ model, messages, max_tokens: 12 });
const events = [];
let streamed = "";
for await (const event of client.messages.stream({ model, messages, max_tokens: 12 })) {
  if (events.at(-1) !== event.type) events.push(event.type);
  if (event.type === "content_block_delta") streamed += event.delta.text ?? "";
}
const counted = await client.messages.countTokens({ model, messages });
const unknown = await client.messages.create({ model: "nosuch", messages, max_tokens: 4 }).catch((error) => error);

console.log(
  JSON.stringify({
    text: message.content[0].text,
    stop: message.stop_reason,
    streamed,
    events,
    counted: counted.input_tokens,
    unknown: [unknown.constructor.name, unknown.status, unknown.error?.error?.type ?? null],
  }),
);
