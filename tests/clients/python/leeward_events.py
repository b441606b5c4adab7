"""leeward's own client, on the wire that VARIANT names."""

from given import HOST, KEY, RUN, VARIANT, fail, numbers

import leeward

leeward.init(KEY, HOST, app="steps/1.2", **VARIANT)
for n in numbers():
    with leeward.span("part", {"n": n}, distinct_id=RUN):
        leeward.capture("step", {"n": n, "plan": "pro"}, distinct_id=RUN)
    try:
        fail(n)
    except ValueError as error:
        leeward.capture_exception(error, distinct_id=RUN, properties={"n": n})
    leeward.log("WARN", f"step {n}", {"n": n}, distinct_id=RUN)
    leeward.metric("steps", n, unit="1", properties={"n": n}, distinct_id=RUN)
print(leeward.flush(20), flush=True)
