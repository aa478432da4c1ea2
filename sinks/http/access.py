"""Who may do what, and how often: keys with scopes, and a bucket of tokens for each."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from contracts.errors import Forbidden, RateLimited, Unauthorized
from sinks.http.keys import Key, Scope, find_key
from sinks.http.problems import Refusal, retry_after

EVERYBODY = Key("", frozenset(), "everybody")
"""Who asks where there are no keys."""
_BEARER = HTTPBearer(auto_error=False, description="A key that `framewire api-key` made.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same.")


class Bucket:
    """Fills at a steady rate up to a second's worth."""

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = per_s
        self._most = max(per_s, 1.0)
        self._tokens = self._most
        self._filled_s = now_s

    def take(self, now_s: float) -> float:
        """0 where a token is taken; else for how many seconds there will be none."""
        gained = (now_s - self._filled_s) * self._per_s
        self._tokens = min(self._tokens + gained, self._most)
        self._filled_s = now_s
        if self._tokens < 1:
            return (1 - self._tokens) / self._per_s
        self._tokens -= 1
        return 0.0

    def charge(self, n_tokens: int) -> None:
        """So many more are gone, on credit where there are too few."""
        self._tokens -= n_tokens


class Access:
    """Used on the loop's thread only."""

    def __init__(self, keys: tuple[Key, ...] | None, requests_per_s: float | None) -> None:
        """`keys` None: everybody may do everything. `requests_per_s` None: as often as it likes."""
        self._keys = keys
        self._requests_per_s = requests_per_s
        self._buckets: dict[str, Bucket] = {}

    def needs(self, scope: Scope) -> Callable[..., Awaitable[None]]:
        """A dependency that lets through whoever may do this, and leaves `request.state.key`."""

        async def nobody_is_asked(request: Request) -> None:
            self._let_in(request, EVERYBODY)

        async def key_is_asked_for(
            request: Request,
            bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
            header: Annotated[str | None, Depends(_HEADER)],
        ) -> None:
            presented = bearer.credentials if bearer else header
            if presented is None:
                raise Unauthorized(
                    "expected a key: `Authorization: Bearer KEY`, or `X-API-Key: KEY`"
                )
            key = find_key(self._keys or (), presented)
            if key is None:
                raise Unauthorized("the service doesn't know this key")
            if scope not in key.scopes:
                raise Forbidden(f"key {key.name}: it is not for {scope}")
            self._let_in(request, key)

        return nobody_is_asked if self._keys is None else key_is_asked_for

    def charge(self, key: Key, n_requests: int) -> None:
        """What was let in as one request counts as so many more."""
        if key.name in self._buckets:
            self._buckets[key.name].charge(n_requests)

    def _let_in(self, request: Request, key: Key) -> None:
        """Raises RateLimited where the key has had enough."""
        request.state.key = key
        if self._requests_per_s is None:
            return
        now_s = time.monotonic()
        bucket = self._buckets.setdefault(key.name, Bucket(self._requests_per_s, now_s))
        if wait_s := bucket.take(now_s):
            raise Refusal(
                RateLimited(f"key {key.name}: too many requests; the next in {wait_s:.1f} s"),
                retry_after(wait_s),
            )
