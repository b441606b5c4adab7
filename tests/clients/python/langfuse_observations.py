"""langfuse: a span with a generation in it, for each number."""

from given import HOST, KEY, RUN, numbers
from langfuse import Langfuse, propagate_attributes

langfuse = Langfuse(public_key="pk-lf-anything", secret_key=KEY, base_url=HOST, flush_interval=0.2)
for n in numbers():
    with (
        langfuse.start_as_current_observation(name="step", input={"n": n}) as span,
        propagate_attributes(user_id="ada", session_id=RUN),
    ):
        with langfuse.start_as_current_observation(name="answer", as_type="generation", model="gpt-4o-mini") as made:
            made.update(
                input=[{"role": "user", "content": f"{RUN} {n}"}],
                output="yes",
                usage_details={"input": 11, "output": 7},
                metadata={"run": RUN, "n": n},
            )
        span.update(output=RUN, metadata={"run": RUN, "n": n})
langfuse.shutdown()
