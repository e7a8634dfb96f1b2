"""The last request of a connection that may not stay: it is answered, with `connection: close`, and none follows. So a
client loses no request, as it might where the connection is closed under it.
"""

from __future__ import annotations

from router.dataplane.exchange import Exchange
from router.dataplane.http.edge import Edge, RequestHandler
from router.dataplane.http.request_head import RequestHead


class LastRequests:
    """Takes the place of another handler on such connections."""

    def __init__(self, handler: RequestHandler[Exchange]) -> None:
        self._handler = handler
        self.handle = handler.handle
        self.abandon = handler.abandon
        self.overdue = handler.overdue

    def begin(self, edge: Edge[Exchange], head: RequestHead, body: bytes, arrived: float) -> Exchange:
        """See `RequestHandler`."""
        exchange = self._handler.begin(edge, head, body, arrived)
        exchange.keep_alive = False
        return exchange
