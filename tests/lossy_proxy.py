"""Proxies between a client and a camera on this machine, that do to the line what a test wants.

Each has one thread, with asyncio in it, however many connections pass through.
"""

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

HOST = "127.0.0.1"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER for no time: closing sends RST, not FIN."""
T = TypeVar("T")


class TcpProxy:
    """Passes what comes to `port` on to `server_port`, and back, while the context lasts.

    Each piece that is read waits `delay_s` and up to `jitter_s` more; bytes keep their order.
    """

    def __init__(self, server_port: int, delay_s: float = 0, jitter_s: float = 0) -> None:
        self._server_port = server_port
        self._delay_s, self._jitter_s = delay_s, jitter_s
        self._random = random.Random(0)
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._listener = self._do(asyncio.start_server(self._connect, HOST, 0))
        self.port: int = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            self._do(self._end())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def cut(self) -> None:
        """Every connection has been reset, to both sides; new ones are passed on."""
        self._do(self._reset())

    def black_hole(self) -> None:
        """Nothing gets through and nobody is told: connections stay open, new ones are accepted.

        Datagrams are lost for good.
        """
        self._loop.call_soon_threadsafe(self._passing.clear)

    def heal(self) -> None:
        """What was held back comes through, as TCP repeats it after a break, and the rest too."""
        self._loop.call_soon_threadsafe(self._passing.set)

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _connect(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        self._writers.add(to_client)
        await self._passing.wait()
        try:
            from_server, to_server = await asyncio.open_connection(HOST, self._server_port)
        except ConnectionError:
            to_client.close()
            return
        self._writers.add(to_server)
        await asyncio.gather(self._pass(from_client, to_server), self._pass(from_server, to_client))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while data := await self._read(reader):
                writer.write(await self._altered(data))
                await writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """The next piece, when it may go on; the end of a connection travels no faster."""
        try:
            data = await reader.read(1 << 16)
        except ConnectionError:
            data = b""
        await asyncio.sleep(self._delay_s + self._random.uniform(0, self._jitter_s))
        await self._passing.wait()
        return data

    async def _altered(self, data: bytes) -> bytes:
        return data

    async def _reset(self) -> None:
        for writer in self._writers:
            connection = writer.get_extra_info("socket")
            if connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(0)  # The sockets are closed in the loop's next turn.

    async def _end(self) -> None:
        self._listener.close()
        await self._reset()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class RtspUdpProxy(TcpProxy):
    """For RTSP whose media go over UDP: RTP and RTCP to the client lose `loss` of their datagrams.

    The others come up to `jitter_s` late, so that some overtake others. The proxy names its own
    ports where the client names the client's; what the client sends goes to the server directly.
    """

    def __init__(self, server_port: int, loss: float = 0, jitter_s: float = 0) -> None:
        super().__init__(server_port)
        self._loss, self._late_s = loss, jitter_s
        self._asked: dict[bytes, bytes] = {}
        self.relays: list[LossyRelay] = []

    async def _altered(self, data: bytes) -> bytes:
        found = re.search(rb"client_port=((\d+)-(\d+))", data)
        if not found:
            return data
        if data.startswith(b"SETUP"):
            ours = b"%d-%d" % (await self._listen(int(found[2])), await self._listen(int(found[3])))
            self._asked[ours] = found[1]
            return data.replace(found[1], ours)
        return data.replace(found[1], self._asked[found[1]])

    async def _listen(self, client_port: int) -> int:
        relay = LossyRelay(client_port, self._loss, self._late_s, self._passing)
        self.relays.append(relay)
        relay.transport, _ = await self._loop.create_datagram_endpoint(lambda: relay, (HOST, 0))
        return int(relay.transport.get_extra_info("sockname")[1])

    async def _end(self) -> None:
        for relay in self.relays:
            relay.transport.close()
        await super()._end()


class LossyRelay(asyncio.DatagramProtocol):
    """Sends each datagram on to a port, later, or not at all; which ones is the same each time."""

    transport: asyncio.DatagramTransport

    def __init__(self, to_port: int, loss: float, jitter_s: float, passing: asyncio.Event) -> None:
        self._to, self._loss, self._jitter_s = (HOST, to_port), loss, jitter_s
        self._passing = passing
        self._random = random.Random(0)
        self.received = self.dropped = 0

    def datagram_received(self, data: bytes, _address: object) -> None:
        """It is counted, and lost or sent when its time has come."""
        self.received += 1
        late_s = self.fate()
        if late_s is None or not self._passing.is_set():
            self.dropped += 1
        else:
            asyncio.get_running_loop().call_later(late_s, self._send, data)

    def fate(self) -> float | None:
        """By how many seconds the next datagram is late; None: it is lost."""
        lost = self._random.random() < self._loss
        return None if lost else self._random.uniform(0, self._jitter_s)

    def _send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.sendto(data, self._to)
