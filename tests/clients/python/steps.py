"""A program in named steps: each tells one line of JSON, what it gave or the exception that it ended in.

When all are told, the program stays until its input ends: whoever watches can see
what became of its connections while it still runs.
"""

import json
import sys

import pydantic

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
ASKS_FOR_TOOL = "call get_weather for Lee"
TOOL_SAYS = "mild, light wind"
TOO_MANY_TOKENS = 10**9


class Wind(pydantic.BaseModel):
    """What a structured answer is to have."""

    city: str
    force: int


def told_of_openai(error):
    """What openai's exceptions, and those that are made of them, know."""
    body = getattr(error, "body", None)
    body = body if isinstance(body, dict) else {}
    response = getattr(error, "response", None)
    return {
        "status": getattr(error, "status_code", None),
        "code": getattr(error, "code", None),
        "param": getattr(error, "param", None),
        "message": body.get("message", str(error)),
        "request_id": getattr(error, "request_id", None) or body.get("request_id"),
        "retry_after": response.headers.get("retry-after") if response is not None else None,
    }


def tell(steps, told_of):
    """Go through the steps; `told_of(error)` is what is told of an exception."""
    for step in steps:
        name = step.__name__
        try:
            said = {"value": step()}
        except Exception as error:  # whichever it is: that is what is to be seen
            said = {"error": {"classes": [kind.__name__ for kind in type(error).__mro__], **told_of(error)}}
        print(json.dumps({"step": name, **said}), flush=True)
    sys.stdin.read()
