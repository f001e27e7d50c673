"""Either end of a connection over which HTTP messages go."""

import socket
import struct
from typing import Self

from testing.http.messages import Reader


class Wire(Reader):
    """One end of a connection; a context manager."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock = sock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def more(self) -> bool:
        """Receive something; return False at the end. A reset counts as the end, and is noted in `was_reset`."""
        try:
            data = self.sock.recv(256 * 1024)
        except ConnectionResetError:
            self.was_reset = True
            return False
        self.buffer += data
        return bool(data)

    def discard(self, size: int) -> int:
        """Receive that many bytes, or all up to the end, and return how many they were. They are not kept."""
        count = min(size, len(self.buffer))
        del self.buffer[:count]
        scratch = bytearray(1024 * 1024)
        while count < size and (received := self.sock.recv_into(scratch, min(size - count, len(scratch)))):
            count += received
        return count

    def is_closed(self) -> bool:
        """Wait until the other side closes or sends; return whether it closed without another byte."""
        return not self.buffer and not self.more()
