"""The view of forwarded routes: DRF authenticates, authorizes and throttles, the forwarder does the rest."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from django.http import StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from lucid_gateway.api.permissions import HasRoutePermission
from lucid_gateway.kernel.record import caller_of, record_of
from lucid_gateway.policy.routes import Route
from proxy.clusters import cluster_named
from proxy.connection.headers import response_headers
from proxy.forwarding.forwarder import forward
from proxy.forwarding.handshakes import accept_handshake
from proxy.forwarding.idempotency import AnswerHead, answer_once, idempotency_key
from proxy.forwarding.schema import ForwardSchema


class ForwardedResponse(StreamingHttpResponse):
    """A cluster's answer: its status, reason, fields and undecoded body; repeated fields stay repeated."""

    def __init__(self, answer: AnswerHead, body: Iterable[bytes]) -> None:
        # A client ignores the reason (RFC 9112, section 4), and the server would refuse control characters in it.
        reason = answer.reason if answer.reason.isprintable() else ""
        super().__init__(body, status=answer.status, reason=reason or None)
        del self.headers["Content-Type"]
        self.repeated: list[tuple[str, str]] = []
        for name, value in response_headers(answer.headers):
            if name in self.headers:
                self.repeated.append((name, value))
            else:
                self.headers[name] = value

    def items(self) -> Iterable[tuple[str, str]]:
        """Return all fields; Django itself keeps only one of each name."""
        return [*super().items(), *self.repeated]


class ForwardView(APIView):
    """Forwards a path by its routes, one for each method."""

    streams_body = True
    routes: Mapping[str, Route] = {}
    permission_classes = [HasRoutePermission]
    metadata_class = None
    schema = ForwardSchema()

    @property
    def default_response_headers(self) -> dict[str, str]:
        """Return no fields: those of the answer come from the cluster."""
        return {}

    @property
    def allowed_methods(self) -> list[str]:
        """The methods that have a route."""
        return list(self.routes)

    def permission_for(self, request: Request) -> str | None:
        """Return the permission that the method's route requires; None for a method without a route."""
        route = self.routes.get(request.method or "")
        return route.permission if route else None

    def forward(self, request: Request, **parameters: str) -> Any:
        """Forward the request by the route of its method; with an Idempotency-Key, through its records."""
        http_request = request._request
        route = self.routes.get(http_request.method or "")
        if route is None:
            return self.http_method_not_allowed(request)
        if record_of(http_request).is_handshake:
            return accept_handshake(http_request, route, parameters)
        key, caller = idempotency_key(http_request, route), caller_of(http_request)
        record_of(http_request).cluster = route.cluster
        target = route.target(parameters, http_request.META.get("QUERY_STRING", ""))
        cluster = cluster_named(route.cluster)
        send = partial(forward, http_request, route, cluster, caller=caller, target=target, watch_client=key is None)
        if key is not None:
            return ForwardedResponse(*answer_once(http_request, route, caller, key=key, target=target, send=send))
        found = send()
        return ForwardedResponse(found.answer, found.body)

    get = head = post = put = patch = delete = forward

    def finalize_response(self, request: Request, response: Any, *args: Any, **parameters: Any) -> Any:
        """Return the response. View and request refer to each other, so only garbage collection could free them."""
        request.parser_context.clear()
        return super().finalize_response(request, response, *args, **parameters)
