"""Writes what sentry-sdk sends to NAME.envelope beside this file: `python record.py NAME`, sentry-sdk 2.75.0 installed.

The bytes are the SDK's own, but for the paths of the machine that it ran on.
"""

import json
import re
import sys
from pathlib import Path

import sentry_sdk
import shop
from sentry_sdk.integrations.argv import ArgvIntegration
from sentry_sdk.integrations.modules import ModulesIntegration
from sentry_sdk.transport import Transport

HERE = Path(__file__).parent
NAME = sys.argv[1]


class Recorder(Transport):
    """Takes the place of the network."""

    def capture_envelope(self, envelope):
        parts = [json.dumps(envelope.headers).encode()]
        for item in envelope.items:
            payload = item.get_bytes().replace(str(HERE).encode(), b"/srv/shop")
            payload = re.sub(rb'"[^"]*/bin/python[^"]*"', b'"/usr/bin/python3"', payload)
            payload = payload.replace(sys.base_prefix.encode(), b"/usr")
            parts += [json.dumps({**item.headers, "length": len(payload)}).encode(), payload]
        (HERE / f"{NAME}.envelope").write_bytes(b"\n".join(parts) + b"\n")


sentry_sdk.init(
    "http://abc123@127.0.0.1:9/7",
    transport=Recorder,
    traces_sample_rate=1.0,
    enable_logs=True,
    attach_stacktrace=True,
    release="shop@1.2.3",
    environment="production",
    server_name="web-1",
    disabled_integrations=[ModulesIntegration(), ArgvIntegration()],
    _experiments={"trace_lifecycle": "stream"} if NAME == "streamed_spans" else {},
)
getattr(shop, NAME)()
sentry_sdk.flush()
