"""A FastAPI application that reports its requests, a background task, and whatever fails.

pip install fastapi uvicorn
LEEWARD_API_KEY=lw_… uvicorn web_app:app
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import BackgroundTasks, FastAPI, Query
from fastapi.responses import StreamingResponse

import leeward
from leeward.integrations.asgi import TelemetryMiddleware

leeward.init(app="web-app/1.0")  # the key comes from LEEWARD_API_KEY

app = FastAPI()
app.add_middleware(TelemetryMiddleware)


async def note_usage(session_id: str, words: int) -> None:
    """Runs after the answer; its event carries the request's trace and correlation id."""
    leeward.capture("chat.usage", {"words": words}, session_id=session_id)


@app.get("/chat/{session_id}")
async def chat(
    session_id: str, background: BackgroundTasks, text: Annotated[str, Query(max_length=200)]
) -> StreamingResponse:
    words = text.split()

    async def parts() -> AsyncIterator[str]:
        for word in words:
            await asyncio.sleep(0.01)
            yield word + " "

    leeward.capture("chat.asked", {"words": len(words)}, session_id=session_id)
    background.add_task(note_usage, session_id, len(words))
    return StreamingResponse(parts(), media_type="text/plain", background=background)


@app.get("/broken")
async def broken() -> None:
    raise RuntimeError("nobody handles this")
