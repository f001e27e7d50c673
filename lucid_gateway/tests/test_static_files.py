"""The static files of the operator pages."""

import pytest

from conftest import ApiClient, error_code

CSS = "/static/admin/css/base.css"


@pytest.mark.usefixtures("db")  # closing the answer asks the connection
def test_a_file_is_served(api: ApiClient) -> None:
    response = api.get(CSS)

    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/css")
    response.close()


def test_a_file_allows_no_other_method(api: ApiClient) -> None:
    response = api.post(CSS)

    assert (response.status_code, error_code(response), response["Allow"]) == (405, "4003", "GET, HEAD")


def test_an_unknown_file_gets_the_envelope(api: ApiClient) -> None:
    assert error_code(api.get("/static/nothing.css")) == "4001"
