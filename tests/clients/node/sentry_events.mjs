// @sentry/node: an error, a transaction with a span, and a log line for each number.
import * as Sentry from "@sentry/node";

import { DSN, RUN, VARIANT, fail, numbers } from "./given.mjs";

Sentry.init({ dsn: DSN, release: "app@1.2", environment: "test", tracesSampleRate: 1, enableLogs: true, ...VARIANT });
Sentry.setUser({ id: RUN });
Sentry.setTag("correlation_id", RUN);
for await (const n of numbers()) {
  Sentry.startSpan({ name: `step ${n}`, op: "task" }, () => {
    Sentry.startSpan({ name: `query ${n}`, op: "db" }, () => {});
    try {
      fail(n);
    } catch (error) {
      Sentry.captureException(error);
    }
    Sentry.logger.warn(`step ${n}`, { n, run: RUN });
    Sentry.metrics.count("steps", 1, { attributes: { n, run: RUN } });
  });
}
Sentry.captureMessage(`${RUN} ends`, "info");
await Sentry.flush(10_000);
