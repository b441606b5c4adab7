"""posthog: what it is told of feature flags, and whether it complains."""

import json
import logging

from given import HOST, KEY, RUN
from posthog import Posthog

logging.basicConfig(level=logging.WARNING)
posthog = Posthog(KEY, host=HOST)
flags = posthog.evaluate_flags(RUN)
print(json.dumps([flags.get_flag("beta"), list(flags.keys)]))
posthog.shutdown()
