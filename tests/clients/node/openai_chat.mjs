// openai for Node: everything that an application does with chat completions, embeddings and models.
import OpenAI from "openai";
import { HOST, KEY, VARIANT } from "./given.mjs";
import { ASKS_FOR_TOOL, TOO_MANY_TOKENS, TOOL_SAYS, WEATHER, WIND, tell } from "./steps.mjs";

const make = (more = {}) => new OpenAI({ baseURL: `${HOST}/v1`, apiKey: KEY, maxRetries: 0, ...more });
const client = make();
const say = (text) => [{ role: "user", content: text }];
const tools = [{ type: "function", function: { name: "get_weather", parameters: WEATHER } }];
const ask = (model, { of = client, text = "hello", ...more } = {}) =>
  of.chat.completions.create({ model, messages: say(text), ...more });

const toldOf = (error) => ({
  status: error.status ?? null,
  code: error.code ?? null,
  param: error.param ?? null,
  message: error.error?.message ?? null,
  request_id: error.requestID ?? null,
  retry_after: error.headers?.get("retry-after") ?? null,
});

const shown = (answer) => ({
  text: answer.choices[0].message.content,
  finish: answer.choices[0].finish_reason,
  tokens: [answer.usage.prompt_tokens, answer.usage.completion_tokens],
});

async function gathered(stream) {
  const notes = [];
  let [text, finish, tokens] = ["", null, null];
  for await (const chunk of stream) {
    for (const choice of chunk.choices) {
      text += choice.delta.content ?? "";
      finish = choice.finish_reason ?? finish;
    }
    if (chunk.usage) tokens = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens];
    if (chunk.x_leeward) notes.push(chunk.x_leeward);
  }
  return { text, finish, tokens, ...(notes.length ? { notes } : {}) };
}

async function withTools(model) {
  const called = (await ask(model, { text: ASKS_FOR_TOOL, tools })).choices[0];
  const [call] = called.message.tool_calls;
  const messages = [
    ...say(ASKS_FOR_TOOL),
    called.message,
    { role: "tool", tool_call_id: call.id, content: TOOL_SAYS },
  ];
  const answer = await client.chat.completions.create({ model, messages, tools });
  return {
    name: call.function.name,
    arguments: call.function.arguments,
    finish: called.finish_reason,
    then: answer.choices[0].message.content,
  };
}

async function withToolsStreamed(model) {
  const stream = client.chat.completions.stream({ model, messages: say(ASKS_FOR_TOOL), tools });
  let deltas = 0;
  stream.on("tool_calls.function.arguments.delta", () => (deltas += 1));
  const called = (await stream.finalChatCompletion()).choices[0];
  const [call] = called.message.tool_calls;
  return {
    name: call.function.name,
    arguments: call.function.arguments,
    finish: called.finish_reason,
    deltas: deltas > 0,
  };
}

await tell(
  {
    async whole() {
      const { data, response, request_id } = await ask("chat").withResponse();
      return {
        ...shown(data),
        provider: response.headers.get("x-leeward-provider"),
        attempts: response.headers.get("x-leeward-attempts"),
        request_id,
      };
    },
    streamed: async () => gathered(await ask("chat", { stream: true, stream_options: { include_usage: true } })),
    streamed_without_usage: async () => gathered(await ask("chat", { stream: true })),
    tools: () => withTools("chat"),
    tools_streamed: () => withToolsStreamed("chat"),
    async structured() {
      const response_format = { type: "json_schema", json_schema: { name: "wind", schema: WIND, strict: true } };
      return JSON.parse((await ask("chat", { response_format })).choices[0].message.content);
    },
    of_claude: async () => shown(await ask("claude")),
    streamed_of_claude: async () =>
      gathered(await ask("claude", { stream: true, stream_options: { include_usage: true } })),
    tools_of_claude: () => withTools("claude"),
    tools_streamed_of_claude: () => withToolsStreamed("claude"),
    async embeddings() {
      const answer = await client.embeddings.create({ model: "chat", input: ["one", "two"] });
      return answer.data.map((row) => row.embedding);
    },
    async models() {
      const found = [];
      for await (const model of client.models.list()) found.push(model.id);
      return found;
    },
    model: () => client.models.retrieve("chat"),
    no_model: () => client.models.retrieve("of nobody"),
    error_too_much: () => ask("chat", { max_completion_tokens: TOO_MANY_TOKENS }),
    error_of_provider: () => ask("bad"),
    error_key: () => ask("chat", { of: make({ apiKey: `lw_${"0".repeat(32)}` }) }),
    error_scope: () => ask("chat", { of: make({ apiKey: VARIANT.write_key }) }),
    error_model: () => ask("of nobody"),
    error_limited: () => ask("limited"),
    error_failing: () => ask("failing"),
    error_slow: () => ask("slow"),
    error_streamed: () => ask("failing", { stream: true }),
    error_patience: () => ask("silent", { of: make({ timeout: 300 }) }),
    cut: async () => gathered(await ask("cut", { stream: true })),
    async failover() {
      const { data, response } = await ask("failover").withResponse();
      return { text: data.choices[0].message.content, provider: response.headers.get("x-leeward-provider") };
    },
    failover_streamed: async () => gathered(await ask("failover", { stream: true })),
    async degraded() {
      const { data, response } = await ask("static").withResponse();
      return {
        text: data.choices[0].message.content,
        header: response.headers.get("x-leeward-degraded"),
        note: data.x_leeward,
      };
    },
    degraded_streamed: async () => gathered(await ask("static", { stream: true })),
    // With the SDK's own repeats on, and the gateway's default settings.
    repeats: () => ask(VARIANT.counted, { of: new OpenAI({ baseURL: `${VARIANT.default_host}/v1`, apiKey: KEY }) }),
    // Leave after the first pieces.
    async left() {
      let pieces = 0;
      for await (const _ of await ask("paced", { stream: true })) {
        pieces += 1;
        if (pieces === 3) break;
      }
      return pieces;
    },
  },
  toldOf,
);
