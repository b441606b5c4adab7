// posthog-node: what it is told of feature flags, and whether it complains.
import { PostHog } from "posthog-node";

import { HOST, KEY, RUN } from "./given.mjs";

const posthog = new PostHog(KEY, { host: HOST });
const flags = await posthog.evaluateFlags(RUN);
console.log(JSON.stringify([flags.getFlag("beta") ?? null, flags.keys]));
await posthog.shutdown();
