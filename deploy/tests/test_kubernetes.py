"""deploy/kubernetes: the overlays fit the schemas of Kubernetes, this project's rules, and the gateway's settings."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import kubernetes_validate
import pytest

from deploy.tests.conftest import run
from deploy.tests.manifest_rules import RULES, SECRETS, Problems, Rule
from deploy.tests.manifests import OVERLAYS, SETTINGS, Manifests
from deploy.tests.test_compose import write_secrets
from lucid_gateway.kernel.env import ConfigurationError, Environment, load
from testing.servers import ROOT

# The oldest in which native sidecars are stable, one between, and the newest that kubernetes-validate knows.
VERSIONS = ("1.33", "1.35", "1.37")
SECRET_FOLDERS = {"/run/secrets/lucid": "lucid-gateway", "/run/secrets/tls": "lucid-gateway-tls"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_fits_the_schema_of_its_kind(overlay: str, version: str) -> None:
    for it in Manifests.of(overlay).objects:
        assert kubernetes_validate.validate(it, version, strict=True) == version


def test_the_schemas_refuse_an_unknown_field() -> None:
    job = Manifests.of("small").one("Job")
    job["spec"]["template"]["spec"]["restartPolitics"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolitics"):
        kubernetes_validate.validate(job, VERSIONS[0], strict=True)


def name_of(rule: Rule) -> str:
    return rule.problems.__name__


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("problems", {rule.problems: None for rule in RULES}, ids=lambda it: it.__name__)
def test_the_manifests_have_no(problems: Callable[[Manifests], Problems], overlay: str) -> None:
    assert list(problems(Manifests.of(overlay))) == []


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_the_rule_finds(rule: Rule) -> None:
    found = Manifests.of("production")
    rule.make(found)
    assert list(rule.problems(found))


# The gateway's settings


def environment(found: Manifests, secrets: Path) -> dict[str, str]:
    """Return the settings with the secrets in another folder; a test's secrets have the names of the Secrets' keys."""
    return {name: re.sub("|".join(SECRET_FOLDERS), str(secrets), value) for name, value in found.settings.items()}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_is_one_of_the_gateways_and_every_file_a_key_of_a_secret(overlay: str) -> None:
    found = Manifests.of(overlay)
    named: dict[str, set[str]] = {name: set() for name in SECRETS}
    for name, value in found.settings.items():
        assert name.removesuffix("_FILE") in Environment.model_fields, name
        if name.endswith(("_FILE", "_PATH")):
            folder, _, key = value.rpartition("/")
            named[SECRET_FOLDERS[folder]].add(key)
    assert named == SECRETS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_changed_setting_is_rolled_out_because_its_map_gets_another_name(overlay: str) -> None:
    name = Manifests.of(overlay).one("ConfigMap")["metadata"]["name"]
    assert re.fullmatch(rf"{SETTINGS}-[a-z0-9]{{10}}", name)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_gateway_accepts_the_settings(overlay: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = Manifests.of(overlay)
    write_secrets(tmp_path)
    set_environment(monkeypatch, environment(found, tmp_path))
    monkeypatch.setenv("ALLOWED_HOSTS", f"{found.settings['ALLOWED_HOSTS']},10.1.2.3")  # as the container has it
    loaded = load()
    assert loaded.in_production
    assert loaded.ALLOWED_HOSTS[-1] == "10.1.2.3"
    assert loaded.EMAIL_HOST


def set_environment(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    """Give this process these settings of the gateway and no others."""
    for name in Environment.model_fields:
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("key", sorted(SECRETS["lucid-gateway"]))
def test_a_missing_key_of_the_secret_is_named(key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_secrets(tmp_path)
    (tmp_path / key).unlink()
    set_environment(monkeypatch, environment(Manifests.of("production"), tmp_path))
    with pytest.raises(ConfigurationError, match=f"^{key.upper()}_FILE: cannot be read"):
        load()


def test_the_first_container_ends_with_one_line_that_names_the_missing_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = Manifests.of("production")
    write_secrets(tmp_path)
    (tmp_path / "jwt_secret_key").unlink()
    set_environment(monkeypatch, environment(found, tmp_path))
    program, *arguments = found.container("wait-for-migration")["args"]
    refused = run(sys.executable, str(ROOT / program), *arguments)
    expected = "JWT_SECRET_KEY_FILE: cannot be read (FileNotFoundError); expected a text file"
    assert refused.returncode == 1
    assert refused.stderr == f"LUCID_ERR_5004 configuration error: {expected}\n"
