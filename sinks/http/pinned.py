"""Connections to checked addresses only, whatever a host's name says a moment later."""

import asyncio
import concurrent.futures
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable

import httpcore

from contracts.errors import UrlFetchFailed, UrlNotAllowed
from sinks.http.addresses import Address, Network, may_fetch_from

Resolve = Callable[[str, int], Awaitable[list[Address]]]

_EVERYTHING: tuple[Network, ...] = (
    ipaddress.ip_network("0.0.0.0/0"),
    ipaddress.ip_network("::/0"),
)
# A name server that doesn't answer keeps a thread for many seconds: these, and no others.
_RESOLVERS = concurrent.futures.ThreadPoolExecutor(8, thread_name_prefix="resolve")


async def resolve(host: str, port: int) -> list[Address]:
    """The host's addresses in the order in which to try them. OSError where it has none."""
    found = await asyncio.get_running_loop().run_in_executor(
        _RESOLVERS, socket.getaddrinfo, host.encode("ascii"), port, 0, socket.SOCK_STREAM
    )
    return [ipaddress.ip_address(address[0]) for *_, address in found]


class PinnedBackend(httpcore.AnyIOBackend):
    """What connects for httpcore: resolves a host once, checks every address, connects to these.

    httpcore still knows the host by its name, and compares it with the server's certificate.
    """

    def __init__(self, allowed: Iterable[Network | str] = (), resolve: Resolve = resolve) -> None:
        """`allowed`: networks, and names of hosts, that need not be public."""
        allowed = tuple(allowed)
        self._networks = tuple(each for each in allowed if not isinstance(each, str))
        self._names = frozenset(each for each in allowed if isinstance(each, str))
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connected to the first address that answers. UrlNotAllowed where one must not be used."""
        failed: Exception | None = None
        for address in await self._checked_addresses(host, port):
            try:
                return await super().connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise UrlFetchFailed("the host refuses connections, or can't be reached") from failed

    async def _checked_addresses(self, host: str, port: int) -> list[Address]:
        addresses = await self._addresses(host, port)
        allowed = _EVERYTHING if host in self._names else self._networks
        # One bad address refuses the host: whoever answers so has more in mind than a picture.
        if not all(may_fetch_from(address, allowed) for address in addresses):
            raise UrlNotAllowed("the host has an address that is not public")
        return addresses

    async def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        try:
            return await self._resolve(host, port)
        except OSError as error:
            raise UrlFetchFailed("no host of that name is known") from error
