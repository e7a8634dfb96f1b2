// What the OpenAI SDK for Node sees of an API: node openai_sdk.mjs BASE_URL MODEL. Prints one JSON object.
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${baseURL}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "hello there" }];
const tools = [
  {
    type: "function",
    function: { name: "weather", parameters: { type: "object", properties: { days: { type: "integer" } } } },
  },
];

const chat = await client.chat.completions.create({ model, messages, max_tokens: 12 });

let streamed = "";
let usage = null;
const stream = await client.chat.completions.create({
  model,
  messages,
  max_tokens: 12,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}

const called = await client.chat.completions.create({ model, messages, tools, tool_choice: "required" });
const embedding = await client.embeddings.create({ model, input: ["one", "two"] });
const response = await client.responses.create({ model, input: "hello there", max_output_tokens: 12 });
const events = [];
for await (const event of await client.responses.create({ model, input: "hello", max_output_tokens: 4, stream: true })) {
  if (events.at(-1) !== event.type) events.push(event.type);
}
const unknown = await client.chat.completions.create({ model: "nosuch", messages }).catch((error) => error);
const models = [];
for await (const each of client.models.list()) models.push(each.id);

console.log(
  JSON.stringify({
    chat: chat.choices[0].message.content,
    finish: chat.choices[0].finish_reason,
    streamed,
    tokens: usage.total_tokens,
    tool: called.choices[0].message.tool_calls[0].function.name,
    vectors: embedding.data.map((each) => each.embedding.length),
    response: response.output_text,
    events,
    unknown: [unknown.constructor.name, unknown.status],
    models,
  }),
);
