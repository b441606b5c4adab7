// posthog-js: a page view, events, an exception, a person's properties.
import posthog from "posthog-js";

import { HOST, KEY, RUN, VARIANT, fail, numbers } from "./given.mjs";

posthog.init(KEY, { api_host: HOST, defaults: "2025-05-24", ...VARIANT });
posthog.identify(RUN, { name: "Ada" });
for await (const n of numbers()) {
  posthog.capture("step", { n, plan: "pro", nested: { list: [1, null, "é"] } });
  try {
    fail(n);
  } catch (error) {
    posthog.captureException(error, { n });
  }
}
window.ready = true;
