"""GET /meta/version."""

import django

from conftest import ApiClient
from lucid_gateway import __version__


def test_version_lists_all_versions(api: ApiClient) -> None:
    response = api.send("get", "/meta/version")

    assert response.status_code == 200
    assert response.json() == {
        "service": "api-gateway",
        "version": "v1",
        "release": __version__,
        "django": django.get_version(),
    }
