"""A TCP relay on loopback that counts what passes. Used only in the runs that count, never in those that are timed."""

import socket
import threading


class Relay:
    def __init__(self, port):
        self.to = ("127.0.0.1", port)
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.reset()
        threading.Thread(target=self.accept, daemon=True).start()

    def reset(self):
        with self.lock:
            self.received = self.sent = self.connections = self.open = self.most_open = 0

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.to)
            with self.lock:
                self.connections += 1
                self.open += 1
                self.most_open = max(self.most_open, self.open)
            for source, sink, name in ((client, server, "sent"), (server, client, "received")):
                threading.Thread(target=self.pass_on, args=(source, sink, name), daemon=True).start()

    def pass_on(self, source, sink, name):
        try:
            while chunk := source.recv(1 << 16):
                with self.lock:
                    setattr(self, name, getattr(self, name) + len(chunk))
                sink.sendall(chunk)
        except OSError:
            pass
        # A client that says goodbye waits for the server to hang up, which its backend does last of all.
        if name == "received":
            with self.lock:
                self.open -= 1
            for end in (source, sink):
                self.shut(end, socket.SHUT_RDWR)
        else:
            self.shut(sink, socket.SHUT_WR)

    @staticmethod
    def shut(end, how):
        try:
            end.shutdown(how)
        except OSError:
            pass
