"""The queries and answers of the endpoints for kept requests."""

from typing import Any

from rest_framework import serializers

from lucid_gateway.api.pagination import LAST_PAGE, MAX_LIMIT, RefusesEmpty
from lucid_gateway.explorer.conditions import OUTCOMES
from lucid_gateway.explorer.questions import FILTERS, NotUnderstood, conditions_of, moment
from lucid_gateway.explorer.searching import Search
from lucid_gateway.kernel.record import Outcome
from lucid_gateway.policy.reasons import Step

HELP = {
    "q": "A request id, user, API key, address, network, path, status, error code, reason, cluster or instance",
    "status": "A status such as 429, or a class such as 4xx",
    "error_code": "Such as 3001 or LUCID_ERR_3001",
    "reason": "The name of a reason, such as `tier_exhausted`",
    "route": "A route, or `none` for requests without one",
    "path": "The beginning of a path",
    "network": "A network such as 192.0.2.0/24",
    "user": "The id, email or username of a user",
    "key": "The id or the name of an API key, or the jti of a token; never a whole key",
}

OUTCOME_HELP = (
    "`refused`: the gateway itself refused the request with a status of 4xx. `instance_error`: the instance answered"
    " with a status of 5xx"
)


class WordField(RefusesEmpty, serializers.CharField):
    pass


class CursorField(RefusesEmpty, serializers.UUIDField):
    default_error_messages = {"invalid": "Expected the value of `pagination.next`."}


class PageQuery(serializers.Serializer[Any]):
    """The page of a list, which is always newest first."""

    page = serializers.IntegerField(min_value=1, max_value=LAST_PAGE, default=1, help_text="From 1")
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=20, help_text="Rows per page")
    before = CursorField(required=False, help_text="`pagination.next` of the last answer: continue after it")
    since = WordField(max_length=40, required=False, help_text="A time, or how long ago: 15m, 1h, 7d")
    until = WordField(max_length=40, required=False, help_text="A time, or how long ago; exclusive")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Turn the query into a search."""
        times = {name: self.read(name, moment, attrs[name]) for name in ("since", "until") if name in attrs}
        conditions = [
            self.read(name, lambda text, name=name: conditions_of({name: text})[0], attrs[name])
            for name in FILTERS
            if name in attrs
        ]
        offset, limit = (attrs["page"] - 1) * attrs["limit"], attrs["limit"]
        conditions += OUTCOMES.get(attrs.get("outcome", ""), ())
        search = Search(tuple(conditions), before=attrs.get("before"), offset=offset, limit=limit, **times)
        return {"search": search, "page": attrs["page"]}

    def read(self, name: str, reader: Any, text: str) -> Any:
        """Return what the reader makes of the text; raise ValidationError for the field."""
        try:
            return reader(text)
        except NotUnderstood as error:
            raise serializers.ValidationError({name: [str(error)]}, code="invalid") from error


class RequestsQuery(PageQuery):
    """The query of GET /admin/requests; all filters must match."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        filters = {name: WordField(max_length=500, required=False, help_text=HELP.get(name, "")) for name in FILTERS}
        outcome = serializers.ChoiceField(list(OUTCOMES), required=False, help_text=OUTCOME_HELP)
        return filters | {"outcome": outcome} | super().get_fields()


class CredentialSerializer(serializers.Serializer[Any]):
    """A credential: `id` is the jti of a token or the id of an API key, null for a login or a session of /admin."""

    kind = serializers.ChoiceField(["token", "api_key", "session", "login"])
    id = serializers.CharField(allow_null=True)


class StepSerializer(serializers.Serializer[Any]):
    """A step of the decision; `ms` is the time since the request began."""

    step = serializers.ChoiceField([str(step) for step in Step])
    outcome = serializers.ChoiceField([str(outcome) for outcome in Outcome])
    reason = serializers.CharField(allow_null=True)
    ms = serializers.FloatField()
    details = serializers.DictField()


class AttemptSerializer(serializers.Serializer[Any]):
    """An attempt to get an answer from an instance; a time is null if that phase was not reached."""

    instance = serializers.CharField()
    connect_ms = serializers.FloatField(allow_null=True)
    send_ms = serializers.FloatField(allow_null=True)
    first_byte_ms = serializers.FloatField(allow_null=True)
    outcome = serializers.CharField()


class OwnRequestSerializer(serializers.Serializer[Any]):
    """A refused request of the caller. `reason` is null if only staff may read it."""

    request_id = serializers.CharField()
    plane = serializers.ChoiceField(["gateway", "edge"])
    method = serializers.CharField()
    path = serializers.CharField()
    route = serializers.CharField(allow_null=True)
    status = serializers.IntegerField()
    error_code = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_null=True)
    started_at = serializers.DateTimeField()
    duration_ms = serializers.FloatField()
    client = serializers.CharField(allow_null=True)
    user_id = serializers.CharField(allow_null=True)
    credential = CredentialSerializer(allow_null=True)
    steps = StepSerializer(many=True)


class RequestSerializer(OwnRequestSerializer):
    """A kept request."""

    attempts = AttemptSerializer(many=True)


class RemedySerializer(serializers.Serializer[Any]):
    """A button of the page: it opens `url` or, with `sends`, sends a form there, which asks for a confirmation."""

    text = serializers.CharField()
    url = serializers.CharField(help_text="The path of a page of the console")
    sends = serializers.DictField(child=serializers.CharField(), allow_null=True)


class LineSerializer(serializers.Serializer[Any]):
    """A line of the decision in words; `ms` is the time since the request began."""

    name = serializers.CharField()
    outcome = serializers.CharField()
    text = serializers.CharField()
    ms = serializers.FloatField(allow_null=True)


class ExplainedRequestSerializer(RequestSerializer):
    """A kept request with all that its page in the console shows to the caller."""

    sentence = serializers.CharField(help_text="What happened and why")
    otherwise = serializers.CharField(allow_null=True, help_text="Why nothing may need to be done")
    remedies = RemedySerializer(many=True)
    asks = serializers.ListField(
        child=serializers.CharField(), help_text="Whom to ask for remedies that the caller may not use"
    )
    decision = LineSerializer(many=True)
    network = serializers.CharField(allow_null=True)
    user_agent = serializers.CharField(allow_null=True)
    role = serializers.CharField(allow_null=True)
    gateway = serializers.CharField(allow_null=True)
    worker = serializers.CharField(allow_null=True)
    cluster = serializers.CharField(allow_null=True)
    instance = serializers.CharField(allow_null=True, help_text="The one that was asked last")
    upstream_status = serializers.IntegerField(allow_null=True)
    upstream_ms = serializers.FloatField(allow_null=True)
    response_bytes = serializers.IntegerField()
    cache = serializers.CharField(allow_null=True)
    trace_id = serializers.CharField(allow_null=True)
    cut = serializers.CharField(allow_null=True, help_text="Why the answer did not arrive whole")
    limits = serializers.DictField(allow_null=True, help_text="The numbers of the limiter's decision")


class KeysetSerializer(serializers.Serializer[Any]):
    """The part of the list that an answer contains. Rows are counted up to 10,000."""

    page = serializers.IntegerField()
    limit = serializers.IntegerField()
    total = serializers.IntegerField(help_text="Number of rows, at most 10,000")
    pages = serializers.IntegerField(help_text="Number of pages of these rows")
    more = serializers.BooleanField(help_text="Whether there may be more rows than `total`")
    next = serializers.UUIDField(allow_null=True, help_text="The value of `before` for the next rows")


class RequestsSerializer(serializers.Serializer[Any]):
    """The answer to GET /admin/requests."""

    requests = RequestSerializer(many=True)
    pagination = KeysetSerializer()


class OwnRequestsSerializer(serializers.Serializer[Any]):
    """The answer to GET /users/me/requests."""

    requests = OwnRequestSerializer(many=True)
    pagination = KeysetSerializer()
