// What the Vercel AI SDK sees of an API: node vercel_ai.mjs BASE_URL MODEL. Prints one JSON object.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, streamText } from "ai";

const [base, model] = process.argv.slice(2);
const baseURL = `${base}/v1`;
const compatible = createOpenAICompatible({ name: "turnout", baseURL, apiKey: "none", supportsStructuredOutputs: true });
const openai = createOpenAI({ baseURL, apiKey: "none" });
const anthropic = createAnthropic({ baseURL, apiKey: "none" });
const question = { prompt: "hello there", maxOutputTokens: 12, maxRetries: 0 };

const plain = await generateText({ model: compatible(model), ...question });
let streamed = "";
for await (const text of streamText({ model: compatible(model), ...question }).textStream) streamed += text;
const responses = await generateText({ model: openai.responses(model), ...question });
const messages = await generateText({ model: anthropic(model), ...question });
const schema = jsonSchema({
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city", "days"],
  additionalProperties: false,
});
const { object } = await generateObject({ model: compatible(model), prompt: "a trip", schema, maxRetries: 0 });
const unknown = await generateText({ model: compatible("nosuch"), ...question }).catch((error) => error);

console.log(
  JSON.stringify({
    plain: plain.text,
    streamed,
    responses: responses.text,
    messages: messages.text,
    object: [typeof object.city, typeof object.days],
    unknown: [unknown.name, unknown.statusCode],
  }),
);
