// The AI SDK, with the provider that VARIANT names: `openai-compatible`, or `openai` in its mode of chat completions.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, isStepCount, jsonSchema, Output, streamText, tool } from "ai";
import { HOST, KEY, VARIANT } from "./given.mjs";
import { ASKS_FOR_TOOL, TOO_MANY_TOKENS, TOOL_SAYS, WEATHER, WIND, tell } from "./steps.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

function provider({ key = KEY, host = HOST } = {}) {
  const settings = { baseURL: `${host}/v1`, apiKey: key };
  if (VARIANT.provider === "openai") return createOpenAI(settings);
  return createOpenAICompatible({ name: "leeward", includeUsage: true, supportsStructuredOutputs: true, ...settings });
}

const model = (name, given) =>
  VARIANT.provider === "openai" ? provider(given).chat(name) : provider(given).chatModel(name);
const ask = (name, { given, ...more } = {}) =>
  generateText({ model: model(name, given), prompt: "hello", maxRetries: 0, ...more });

const toldOf = (error) => {
  const refused = error.data?.error ?? error;
  return {
    status: error.statusCode ?? null,
    code: refused.code ?? null,
    param: refused.param ?? null,
    message: error.message,
    request_id: error.responseHeaders?.["x-request-id"] ?? null,
    retry_after: error.responseHeaders?.["retry-after"] ?? null,
  };
};

const shown = ({ text, finishReason, usage }) => ({
  text,
  finish: finishReason,
  tokens: [usage.inputTokens, usage.outputTokens],
});

// What a program that reads the whole stream sees; an error is a part of it, which is thrown here.
async function gathered(name, more = {}) {
  const result = streamText({ model: model(name), prompt: "hello", maxRetries: 0, onError() {}, ...more });
  let text = "";
  let deltas = 0;
  for await (const part of result.stream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") text += part.text;
    if (part.type === "tool-input-delta") deltas += 1;
  }
  return { ...shown({ text, finishReason: await result.finishReason, usage: await result.usage }), deltas, result };
}

const tools = () => {
  const called = [];
  return {
    called,
    tools: {
      get_weather: tool({
        inputSchema: jsonSchema(WEATHER),
        execute(input) {
          called.push(input);
          return TOOL_SAYS;
        },
      }),
    },
    stopWhen: isStepCount(3),
    prompt: ASKS_FOR_TOOL,
  };
};

async function withTools(name) {
  const { called, ...more } = tools();
  const answer = await ask(name, more);
  const [call] = answer.steps[0].toolCalls;
  return {
    name: call.toolName,
    arguments: call.input,
    finish: answer.steps[0].finishReason,
    then: answer.text,
    called: called.length,
  };
}

async function withToolsStreamed(name) {
  const { called, ...more } = tools();
  const { text, deltas, result } = await gathered(name, more);
  const [step] = await result.steps;
  const [call] = step.toolCalls;
  return {
    name: call.toolName,
    arguments: call.input,
    finish: step.finishReason,
    deltas: deltas > 0,
    then: text,
    called: called.length,
  };
}

const plain = async (name) => {
  const { text, finish, tokens } = await gathered(name);
  return { text, finish, tokens };
};

await tell(
  {
    async whole() {
      const answer = await ask("chat");
      const { headers } = answer.finalStep.response;
      return {
        ...shown(answer),
        provider: headers["x-leeward-provider"],
        attempts: headers["x-leeward-attempts"],
        request_id: headers["x-request-id"],
      };
    },
    streamed: () => plain("chat"),
    tools: () => withTools("chat"),
    tools_streamed: () => withToolsStreamed("chat"),
    async structured() {
      return (await ask("chat", { output: Output.object({ schema: jsonSchema(WIND) }) })).output;
    },
    of_claude: async () => shown(await ask("claude")),
    streamed_of_claude: () => plain("claude"),
    tools_of_claude: () => withTools("claude"),
    tools_streamed_of_claude: () => withToolsStreamed("claude"),
    async embeddings() {
      const { embeddings } = await embedMany({ model: provider().embeddingModel("chat"), values: ["one", "two"] });
      return embeddings;
    },
    error_too_much: () => ask("chat", { maxOutputTokens: TOO_MANY_TOKENS }),
    error_of_provider: () => ask("bad"),
    error_key: () => ask("chat", { given: { key: `lw_${"0".repeat(32)}` } }),
    error_scope: () => ask("chat", { given: { key: VARIANT.write_key } }),
    error_model: () => ask("of nobody"),
    error_limited: () => ask("limited"),
    error_failing: () => ask("failing"),
    error_slow: () => ask("slow"),
    error_streamed: () => plain("failing"),
    error_patience: () => ask("silent", { abortSignal: AbortSignal.timeout(300) }),
    cut: () => plain("cut"),
    async failover() {
      const answer = await ask("failover");
      return { text: answer.text, provider: answer.finalStep.response.headers["x-leeward-provider"] };
    },
    failover_streamed: () => plain("failover"),
    async degraded() {
      const answer = await ask("static", { include: { responseBody: true } });
      const { headers, body } = answer.finalStep.response;
      return { text: answer.text, header: headers["x-leeward-degraded"], note: body.x_leeward };
    },
    degraded_streamed: () => plain("static"),
    // With a repeat of the SDK's own, and the gateway's default settings. It rests for two seconds before it.
    repeats: () => ask(VARIANT.counted, { given: { host: VARIANT.default_host }, maxRetries: 1 }),
    // Leave after the first pieces.
    async left() {
      const leaving = new AbortController();
      let pieces = 0;
      const { textStream } = streamText({
        model: model("paced"),
        prompt: "hello",
        abortSignal: leaving.signal,
        onError() {},
      });
      for await (const _ of textStream) {
        pieces += 1;
        if (pieces === 3) break;
      }
      leaving.abort();
      return pieces;
    },
  },
  toldOf,
);
