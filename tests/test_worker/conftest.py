from tests.own_server import notes, server

__all__ = ["notes", "server"]
