"""POST /api/v1/admin/preview: what would happen to a request."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from lucid_gateway.api.fields import EmailField
from lucid_gateway.api.requests import caller, parse
from lucid_gateway.console.preview import question as questions
from lucid_gateway.console.preview.case import PreviewCase
from lucid_gateway.console.preview.decision import preview
from lucid_gateway.console.preview.steps import State, StepView, steps_of
from lucid_gateway.explorer.words import plain
from lucid_gateway.policy.reasons import Step
from ratelimit.endpoints import AdminView


class PreviewQuestionSerializer(serializers.Serializer[None]):
    """The request: with a new token of the user, with the API key, or without a credential."""

    user_id = serializers.UUIDField(required=False)
    email = EmailField(required=False)
    key_id = serializers.RegexField(r"\A[a-z0-9]{12}\Z", required=False)
    address = serializers.IPAddressField(required=False, help_text="Without it, nothing that depends on it is asked")
    method = serializers.ChoiceField(questions.METHODS)
    path = serializers.CharField(max_length=2000, help_text="As in a request, such as /api/v1/chain/info")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Look the user and the key up; refuse a question with two credentials, or about nobody."""
        credentials = [name for name in ("user_id", "email", "key_id") if name in attrs]
        if len(credentials) > 1:
            raise serializers.ValidationError("Give one of user_id, email and key_id.", code="invalid")
        if not credentials and "address" not in attrs:
            raise serializers.ValidationError("Give a user, an API key or an address.", code="required")
        who = str(attrs.get("user_id") or attrs.get("email") or "")
        try:
            return {
                "method": attrs["method"],
                "path": questions.path_of(attrs["path"]),
                "address": questions.address_of(attrs["address"]) if "address" in attrs else "",
                "user": questions.user_of(who) if who else None,
                "key": questions.key_of(attrs["key_id"]) if "key_id" in attrs else None,
            }
        except questions.NotFoundInQuestion as error:
            raise serializers.ValidationError({error.field: str(error)}, code="invalid") from error


class PreviewStepSerializer(serializers.Serializer[StepView]):
    """A step of the decision. Steps that would not be asked, and those that cannot be decided, are listed, too."""

    step = serializers.ChoiceField([step.value for step in Step])
    outcome = serializers.ChoiceField([state.value for state in State], source="state")
    reason = serializers.CharField(allow_null=True, help_text="A name of docs/reasons.md; null if the step passes")
    text = serializers.CharField()


class PreviewSerializer(serializers.Serializer[None]):
    """What would happen. `status` and `error_code` are null if the request would be let in."""

    sentence = serializers.CharField()
    status = serializers.IntegerField(allow_null=True)
    error_code = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_null=True)
    retry_after = serializers.IntegerField(allow_null=True, help_text="Seconds")
    steps = PreviewStepSerializer(many=True)


class PreviewView(AdminView):
    """Previews of decisions."""

    permissions = {"POST": "admin:read"}

    @extend_schema(request=PreviewQuestionSerializer, responses=PreviewSerializer, tags=["admin"])
    def post(self, request: Request) -> Response:
        """Decide on a request that nobody has sent, in the same steps as a real one; nothing is counted."""
        found = preview(questions.Question(**parse(PreviewQuestionSerializer, request)))
        case, error = PreviewCase(found, by=caller(request)), found.error
        answer: Any = {
            "sentence": plain(case.sentence),
            "status": error.status if error else None,
            "error_code": error.code if error else None,
            "reason": error.reason if error else None,
            "retry_after": error.retry_after if error else None,
            "steps": steps_of(case),
        }
        return Response(PreviewSerializer(answer).data)
