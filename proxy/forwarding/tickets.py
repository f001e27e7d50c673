"""POST /api/v1/rdp/tickets: a ticket with which a browser opens a WebSocket."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.tokens.tickets import LIFETIME_SECONDS, create_ticket
from lucid_gateway.api.requests import caller
from ratelimit.endpoints import CallerView

EXAMPLE = {
    "ticket": "lt_3fa85f6457174562b3fc2c963f66afa6_k3Vn1q0C7yWm5JtUe9ZrXaLh2GdPsBi8TfQoNvKxMcE",
    "expires_in": LIFETIME_SECONDS,
}


@extend_schema_serializer(examples=[OpenApiExample("A ticket", EXAMPLE)])
class TicketSerializer(serializers.Serializer[dict[str, Any]]):
    """A ticket, which is shown only once."""

    ticket = serializers.CharField(help_text="For the query parameter `ticket` of the handshake; works once")
    expires_in = serializers.IntegerField(help_text="Seconds")


class TicketsView(CallerView):
    """Tickets for WebSockets below /rdp."""

    permissions = {"POST": "rdp:read"}

    @extend_schema(request=None, responses={201: TicketSerializer}, tags=["rdp"])
    def post(self, request: Request) -> Response:
        """Make a ticket, with which a WebSocket below /rdp can be opened once, within 30 seconds.

        Browsers cannot set header fields of a handshake, so the ticket goes into its query, as in
        `/api/v1/rdp/servers/1?ticket=...`. It stands for the token or API key of this request: its permissions, expiry
        and revocation hold. The cluster does not see the ticket. Other clients can send `Authorization` or `X-API-Key`
        with the handshake instead.
        """
        answer: dict[str, Any] = {"ticket": create_ticket(caller(request)), "expires_in": LIFETIME_SECONDS}
        return Response(TicketSerializer(answer).data, status=status.HTTP_201_CREATED)
