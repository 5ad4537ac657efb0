"""An upstream as one that is far away, over TLS: `python -m benchmarks.distant PORT SECONDS CERTIFICATE`.

Serves what the local PORT does; each byte takes SECONDS each way. Prints its own port, once who trusts CERTIFICATE
can call it by `localhost`.
"""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import trustme


@contextmanager
def distant(port: int, seconds: float, certificate: Path) -> Iterator[int]:
    """Have the local `port` far away until the block is left; yield the port to call."""
    command = [sys.executable, "-m", "benchmarks.distant", str(port), str(seconds), str(certificate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError, ssl.SSLError):
        while data := await source.read(65_536):
            loop.call_later(seconds, sink.write, data)
    loop.call_later(seconds, sink.close)


async def _relay(port: int, seconds: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(_pass_on(reader, other_writer, seconds), _pass_on(other_reader, writer, seconds))


async def _serve(port: int, seconds: float, certificate: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    near = await asyncio.start_server(partial(_relay, port, 0.0), "127.0.0.1", 0, ssl=context)
    far = await asyncio.start_server(partial(_relay, near.sockets[0].getsockname()[1], seconds), "127.0.0.1", 0)
    print(far.sockets[0].getsockname()[1], flush=True)
    await far.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])))
