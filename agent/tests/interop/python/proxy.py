"""A TCP proxy before the agent, which counts what the client sends, and can fall silent."""

import socket
import threading


class Proxy:
    """Leaving its `with` block hangs up."""

    def __init__(self, agent):
        host, port = agent.address.rsplit(":", 1)
        self._agent = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = []
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self.sent_by_client = 0
        self.is_silent = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in [self._listener, *self._sockets]:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It has gone already.
            each.close()

    def _accept(self):
        try:
            while True:
                client, _ = self._listener.accept()
                agent = socket.create_connection(self._agent)
                self._sockets += [client, agent]
                for ends in (client, agent, True), (agent, client, False):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()
        except OSError:
            pass  # Closed.

    def _pass(self, source, sink, is_client):
        try:
            while data := source.recv(65536):
                self.sent_by_client += is_client
                if not self.is_silent:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # One end has gone.
