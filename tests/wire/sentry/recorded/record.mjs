// Writes what @sentry/node sends: `NODE_PATH=… node record.mjs static|stream`, @sentry/node 11.12.0 installed.
// The bytes are the SDK's own, but for the paths of the machine that it ran on. It sends items without a length.

import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

const require = createRequire(`${process.env.NODE_PATH}/`);
const Sentry = require("@sentry/node");
const { createTransport } = require("@sentry/core");
const here = dirname(fileURLToPath(import.meta.url));
const lifecycle = process.argv[2];
const left_out = ["Context", "ContextLines", "Modules", "LocalVariablesAsync", "LocalVariables"];

function keep(request) {
  const text = Buffer.from(request.body).toString().replaceAll(here, "/srv/shop").replaceAll("file://", "");
  const kind = JSON.parse(text.split("\n")[1]).type;
  const name = kind === "event" ? (text.includes("TypeError") ? "error" : "message") : kind;
  writeFileSync(`${here}/node_${lifecycle}_${name}.envelope`, text);
  return Promise.resolve({ statusCode: 200, headers: {} });
}

Sentry.init({
  dsn: "http://abc123@127.0.0.1:9/7",
  integrations: (all) => all.filter((one) => !left_out.includes(one.name)),
  transport: (options) => createTransport(options, keep),
  tracesSampleRate: 1,
  traceLifecycle: lifecycle,
  enableLogs: true,
  release: "shop@1.2.3",
  environment: "production",
  serverName: "web-1",
});

function pay() {
  try {
    JSON.parse("{");
  } catch (cause) {
    throw new TypeError("cannot pay", { cause });
  }
}

Sentry.setUser({ id: "u1" });
Sentry.setTag("service", "shop");
try {
  pay();
} catch (error) {
  Sentry.captureException(error);
}
Sentry.captureMessage("disk nearly full", "warning");
Sentry.startSpan({ name: "GET /cart", op: "http.server" }, () => {
  Sentry.startSpan({ name: "SELECT 1", op: "db" }, (span) => span.setStatus({ code: 2, message: "internal_error" }));
});
Sentry.logger.warn("cart is empty", { size: 0 });
Sentry.metrics.count("orders", 1, { attributes: { shop: "north" } });
await Sentry.flush(3000);
process.exit(0);
