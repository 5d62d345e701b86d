"""Holds very many connections that do nothing, or nearly: `python -m tests.wire.flooding PORT CONNECTIONS`.

The virtual key comes on standard input; `ready` goes to standard output when all connections are open. Ends when
standard input does. A process of its own: its work must not slow down whoever measures beside it.
"""

import asyncio
import random
import sys

OPEN_AT_ONCE = 200
TRICKLE_S = 0.005
TRICKLED = 10
"""So many connections, taken at random, send another byte every TRICKLE_S."""


async def main(port: int, connections: int) -> None:
    """A third idle, a third with a part of a head, a third with a part of a body."""
    loop = asyncio.get_running_loop()
    key = (await loop.run_in_executor(None, sys.stdin.readline)).strip().encode()
    writers: dict[int, asyncio.StreamWriter] = {}
    turns = asyncio.Semaphore(OPEN_AT_ONCE)
    head = b"POST /v1/messages HTTP/1.1\r\nhost: t\r\nx-api-key: " + key + b"\r\n"
    begun = (b"", head, head + b"content-length: 50000\r\n\r\n" + b" " * 500)

    async def open_one(number: int) -> None:
        async with turns:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun[number % 3])
        writers[number] = writer

    await asyncio.gather(*(open_one(number) for number in range(connections)))
    begun_upon = [writer for number, writer in writers.items() if number % 3]
    print("ready", flush=True)
    end = loop.run_in_executor(None, sys.stdin.read)
    chance = random.Random(0)
    while not end.done():
        for writer in chance.sample(begun_upon, min(TRICKLED, len(begun_upon))):
            if not writer.is_closing():
                writer.write(b"x")
        await asyncio.sleep(TRICKLE_S)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
