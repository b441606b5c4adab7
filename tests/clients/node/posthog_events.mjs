// posthog-node: events, a person's properties, an exception.
import { PostHog } from "posthog-node";

import { HOST, KEY, RUN, VARIANT, fail, numbers } from "./given.mjs";

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
