"""The public keys, for services that verify the gateway's tokens themselves."""

from functools import lru_cache

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from accounts.tokens.keyring import Keyring, keyring
from lucid_gateway.kernel.documents import Document, json_document
from ratelimit.endpoints import PublicView


class JwksSerializer(serializers.Serializer[None]):
    """A JSON Web Key Set (RFC 7517, section 5)."""

    keys = serializers.ListField(child=serializers.DictField())


@lru_cache(maxsize=1)
def document_of(ring: Keyring) -> Document:
    """Return the key set of a keyring; each change of the keys makes a new keyring object, so the cache stays valid."""
    return json_document({"keys": ring.public_keys()}, cache_control="public, max-age=60")


class JwksView(PublicView):
    """The keys that verify tokens."""

    @extend_schema(responses=JwksSerializer, tags=["auth"])
    def get(self, request: Request) -> HttpResponse:
        """Return the public keys of all tokens that are or will be valid; none for symmetric algorithms."""
        return document_of(keyring()).answer(request._request)
