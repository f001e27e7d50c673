"""The alerts use existing metrics and labels."""

import re
from typing import Any

import pytest
import yaml

from lucid_gateway.kernel import metrics
from testing.servers import ROOT

GROUPS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
LABELS = {
    one._name: set(one._labelnames) | {"instance", "le"}
    for name, one in vars(metrics).items()
    if name.isupper() and hasattr(one, "_labelnames")
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_uses_existing_metrics_and_labels(rule: dict[str, Any]) -> None:
    names = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in re.findall(r"lucid_\w+", rule["expr"])}
    grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in labels.split(",")}

    assert names <= set(LABELS)
    assert all(grouped | set(re.findall(r"[{,](\w+)[!=]", rule["expr"])) - {"job"} <= LABELS[name] for name in names)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_a_summary(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("page", "ticket")
