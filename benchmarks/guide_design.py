"""The guide's own design, rebuilt for comparison; served by uvicorn in var/bench-venv.

FastAPI behind ASGI middlewares: each request decodes its JWT, checks revocation in Redis, reads its user from the
database, is counted in four more Redis round trips, and is forwarded with httpx.
"""

import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse
from jose import JWTError, jwt
from pydantic import BaseModel
from pymongo import AsyncMongoClient
from redis import asyncio as redis
from starlette.types import ASGIApp, Receive, Scope, Send

SECRET = os.environ["JWT_SECRET_KEY"]
PER_MINUTE = int(os.environ["RATE_LIMIT_REQUESTS_PER_MINUTE"])
BURST = 2000
PASSED_ON = ("accept", "content-type", "user-agent")

logging.basicConfig(level=logging.INFO, format="%(message)s")
logging.getLogger("httpx").setLevel(logging.WARNING)
log = logging.getLogger("guide")
store = redis.from_url(os.environ["REDIS_URL"])
users = AsyncMongoClient[dict[str, Any]](os.environ["MONGODB_URI"])["bench"]["users"]
cluster = httpx.AsyncClient(
    base_url=os.environ["BLOCKCHAIN_CORE_URL"], limits=httpx.Limits(max_connections=1000), trust_env=False
)


class TokenPayload(BaseModel):
    """The claims that the guide reads."""

    user_id: str
    role: str
    jti: str


class AuthMiddleware:
    """Token, revocation (one round trip), user and lock (one database read)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/api/v1/meta/"):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        payload = await self._caller(request.headers.get("authorization", ""))
        if payload is None:
            await JSONResponse({"error": "not let in"}, 401)(scope, receive, send)
            return
        request.state.user_id, request.state.user_role = payload.user_id, payload.role
        await self.app(scope, receive, send)

    async def _caller(self, authorization: str) -> TokenPayload | None:
        try:
            claims = jwt.decode(authorization.removeprefix("Bearer "), SECRET, algorithms=["HS256"])
        except JWTError:
            return None
        payload = TokenPayload(**claims)
        if await store.get(f"blacklist:{payload.jti}") is not None:
            return None
        user = await users.find_one({"user_id": payload.user_id})
        return payload if user and not user["locked_until"] else None


class RateLimitMiddleware:
    """A fixed window and a burst pool: two reads, one count, one expiry."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/api/v1/meta/"):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        if not await self._admits(f"user:{request.state.user_id}"):
            await JSONResponse({"error": "too often"}, 429)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _admits(self, who: str) -> bool:
        window = int(time.time()) // 60 * 60
        key, burst_key = f"rate_limit:authenticated:{who}:{window}", f"rate_limit_burst:authenticated:{who}"
        count, burst = int(await store.get(key) or 0), int(await store.get(burst_key) or 0)
        if count >= PER_MINUTE and burst >= BURST:
            return False
        await store.incr(key)
        await store.expire(key, 60)
        return True


class LoggingMiddleware:
    """One log line per request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        await self.app(scope, receive, send)
        if scope["type"] == "http":
            milliseconds = (time.perf_counter() - began) * 1000
            log.info("%s %s %.2f ms", scope["method"], scope["path"], milliseconds)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Create the only user if it is missing."""
    await users.create_index("user_id", unique=True)
    fields = {"email": "bench@example.org", "role": "user", "locked_until": None}
    await users.update_one({"user_id": os.environ["USER_ID"]}, {"$set": fields}, upsert=True)
    yield


async def health() -> dict[str, str]:
    return {"status": "healthy"}


async def chain(request: Request, path: str) -> Response:
    """Forward to the blockchain core."""
    headers = {name: value for name in PASSED_ON if (value := request.headers.get(name))}
    headers["x-user-id"] = request.state.user_id
    answer = await cluster.get(f"/api/v1/chain/{path}", params=request.query_params, headers=headers)
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


app = FastAPI(lifespan=lifespan)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["*"])
app.add_middleware(CORSMiddleware, allow_origins=["http://localhost:3000"], allow_credentials=True)
app.add_middleware(LoggingMiddleware)
app.add_middleware(RateLimitMiddleware)
app.add_middleware(AuthMiddleware)
app.add_api_route("/api/v1/meta/health", health)
app.add_api_route("/api/v1/chain/{path:path}", chain, response_class=Response)
