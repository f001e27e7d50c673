"""The forms for rules: how long a rule lasts, whom it is for, and what it sets."""

from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS
from django.utils import timezone

from lucid_gateway.operators.directory import Directory
from lucid_gateway.policy.tiers import TIERS
from ratelimit.admin.undo_rules import KEYS
from ratelimit.models import AddressRule, as_network, is_past
from ratelimit.ruling import LocksOut, refuse_to_lock_out
from ratelimit.tier_table import tier_row

PRESETS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7), "good": None}
LASTS = [("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days"), ("good", "For good")]
UNTIL = "until"
ALREADY = "There is a rule for this already: edit it, or lift it first."


def lasts_field(choices: list[tuple[str, str]], *, required: bool) -> forms.ChoiceField:
    """Return the field for how long a rule lasts, from now on."""
    return forms.ChoiceField(label="Lasts", required=required, choices=choices, widget=forms.RadioSelect)


class ExtendForm(forms.Form):
    """How long rules last from now on."""

    lasts = lasts_field(LASTS, required=True)


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """A rule that lasts for a preset time, until an exact time, or for good. A preview checks it but does not save it.

    `directory` and `only_preview` are set by the page.
    """

    directory: ClassVar[Directory]
    only_preview: ClassVar[bool] = False

    lasts = lasts_field([*LASTS, (UNTIL, "Until the exact time below")], required=False)

    class Meta:
        error_messages: ClassVar[Any] = {NON_FIELD_ERRORS: {"unique_together": ALREADY}, "network": {"unique": ALREADY}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["expires_at"].label = "Exact end"
        self.fields[
            "expires_at"
        ].help_text = "In UTC. Without a choice above and without an end, a rule lasts for good."
        if self.instance.expires_at is not None:
            self.initial.setdefault("lasts", UNTIL)

    def is_valid(self) -> bool:
        """Return whether the rule may be saved."""
        return super().is_valid() and not self.only_preview

    def clean(self) -> None:
        """Set the end of the rule; it must be in the future."""
        super().clean()
        self.replace_ended()
        lasts, end = self.cleaned_data.get("lasts"), self.cleaned_data.get("expires_at")
        if lasts in PRESETS:
            self.cleaned_data["expires_at"] = end_of(lasts)
            self.errors.pop("expires_at", None)
        elif lasts == UNTIL and end is None and "expires_at" not in self.errors:
            self.add_error("expires_at", "Enter when the rule ends.")
        elif is_past(end):
            self.add_error("expires_at", "This time is in the past.")

    def replace_ended(self) -> None:
        """Let a new rule take the row of one that has ended and has the same key."""
        if not self.instance._state.adding:
            return
        key = {name: self.cleaned_data.get(name) for name in KEYS[type(self.instance)]}
        ended = type(self.instance).objects.filter(**key).first()
        if ended is not None and is_past(ended.expires_at):
            self.instance.pk, self.instance._state.adding = ended.pk, False


def end_of(preset: str) -> Any:
    """Return when a rule of this preset ends that begins now, or None if it does not end."""
    lasts = PRESETS[preset]
    return None if lasts is None else timezone.now().replace(microsecond=0) + lasts


class LimitRuleForm(RuleForm):
    """Limits for everyone, a user or an API key."""

    subject = forms.CharField(
        label="For whom", required=False, max_length=254,
        help_text="An email, a username or the name of an API key; or user:ID or key:ID; empty for everyone",
        widget=forms.TextInput(attrs={"list": "subjects", "autocomplete": "off"}),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["observe_only"].label = "Shadow mode first"
        self.fields["observe_only"].help_text = "Count and log what the rule would refuse, but refuse nothing."
        asked: str = self.initial.get("subject") or ""
        if asked.startswith("user:"):
            known = self.directory.names_of([asked]).get(asked)
            self.initial["subject"] = known.text if known else asked
        chosen = self.instance.tier or self.initial.get("tier")
        if chosen in TIERS:
            row = tier_row(TIERS[chosen])
            for name, number in (("limit", row.limit), ("burst", row.burst)):
                self.fields[name].widget.attrs["placeholder"] = f"{number.value:,}"

    def clean_subject(self) -> str:
        """Return the subject of the one who was entered."""
        return self.directory.find_subject(self.cleaned_data["subject"])


class AddressRuleForm(RuleForm):
    """A rule for a network that does not lock out the operator who makes it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.initial.get("kind") == AddressRule.Kind.BLOCKED and self.instance._state.adding:
            self.initial.setdefault("lasts", "24h")
        self.fields["observe_only"].label = "Shadow mode first"
        self.fields["observe_only"].help_text = "Count whom the rule would refuse, but refuse nobody."

    def clean_network(self) -> str:
        """Return the network in its canonical form."""
        return as_network(self.cleaned_data["network"])

    def clean(self) -> None:
        """Refuse a rule that locks the operator out; the model checks everything else."""
        super().clean()
        network, kind = self.cleaned_data.get("network", self.instance.network), self.cleaned_data.get("kind")
        observes = bool(self.cleaned_data.get("observe_only"))
        if network:
            try:
                refuse_to_lock_out(AddressRule(network=network, kind=kind or "", observe_only=observes))
            except LocksOut as error:
                self.add_error(None, f"{error.text} ({error.details['address']}).")
