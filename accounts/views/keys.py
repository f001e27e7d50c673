"""The public keys, for who verifies the gateway's tokens elsewhere."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.keyring import keyring
from accounts.views.api import PublicView


class JwksSerializer(serializers.Serializer[None]):
    """A JSON Web Key Set (RFC 7517, section 5)."""

    keys = serializers.ListField(child=serializers.DictField())


class JwksView(PublicView):
    """The keys that verify tokens."""

    @extend_schema(responses=JwksSerializer, tags=["auth"])
    def get(self, request: Request) -> Response:
        """Return the public keys of tokens that are or will be in use; none for symmetric algorithms."""
        return Response({"keys": keyring().public_keys()}, headers={"Cache-Control": "public, max-age=60"})
