// posthog-node: events, a person's properties, an exception.
import { PostHog } from "posthog-node";

import { HOST, KEY, RUN, VARIANT, fail, numbers } from "./given.mjs";

// While it waits to send again the SDK holds nothing that keeps a program from ending; a server has its socket for that.
const alive = setInterval(() => {}, 1000);
const posthog = new PostHog(KEY, { host: HOST, ...VARIANT });
for await (const n of numbers()) {
  posthog.capture({ distinctId: RUN, event: "step", properties: { n, plan: "pro", nested: { list: [1, null, "é"] } } });
  try {
    fail(n);
  } catch (error) {
    posthog.captureException(error, RUN, { n });
  }
}
posthog.identify({ distinctId: RUN, properties: { name: "Ada" } });
await posthog.shutdown();
clearInterval(alive);
