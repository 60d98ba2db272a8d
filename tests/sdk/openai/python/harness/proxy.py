"""The network between a client and the server: a TCP proxy that can cut what goes through it."""

import socket
import struct
import threading


class Proxy:
    def __init__(self, port):
        self._port = port
        self._limits = []
        self._pairs = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def limit(self, *counts):
        """The answers to the next requests are broken off after so many bytes each, head included."""
        self._limits += counts

    def cut(self):
        """Breaks every connection that is open."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                _reset(end)

    def stop(self):
        self.cut()
        # A thread that waits in accept() is woken by a shutdown, not by a close.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                _reset(client)
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            state = {"left": None}
            threading.Thread(target=self._up, args=(pair, state), daemon=True).start()
            threading.Thread(target=self._down, args=(pair, state), daemon=True).start()

    def _up(self, pair, state):
        client, server = pair
        try:
            while data := client.recv(65536):
                # A limit is for one answer: it is taken when a request begins, whether the connection is new or not.
                if data.startswith((b"GET ", b"POST ")):
                    with self._lock:
                        state["left"] = self._limits.pop(0) if self._limits else None
                server.sendall(data)
        except OSError:
            pass
        _close(server)

    def _down(self, pair, state):
        client, server = pair
        try:
            while data := server.recv(65536):
                left = state["left"]
                if left is None:
                    client.sendall(data)
                    continue
                client.sendall(data[:left])
                state["left"] = left - len(data)
                # A reset would discard what the client has not read yet, and these are exact positions: so the bytes go
                # first, and the end without its last chunk is what breaks the answer off.
                if state["left"] <= 0:
                    break
        except OSError:
            pass
        _close(client)
        _close(server)
        with self._lock:
            self._pairs.discard(pair)


def _close(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()


def _reset(end):
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The close alone is not seen by a thread that reads the same socket.
        end.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    end.close()
