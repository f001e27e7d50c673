"""The objects that an overlay of deploy/kubernetes renders to, and questions about them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from deploy.tests.conftest import DEPLOY, run, tool

OVERLAYS = ("small", "production")
FOLDER = DEPLOY / "kubernetes"
SETTINGS = "lucid-gateway-settings"
Object = dict[str, Any]


@cache
def rendered(overlay: str) -> str:
    """Return what `kubectl apply -k` would send to the cluster."""
    made = run(tool("kubectl"), "kustomize", str(FOLDER / "overlays" / overlay))
    assert made.returncode == 0, made.stderr
    return made.stdout


@dataclass(frozen=True)
class Manifests:
    """The objects of an overlay. A test may change its own."""

    objects: list[Object]

    @classmethod
    def of(cls, overlay: str) -> "Manifests":
        return cls(list(yaml.safe_load_all(rendered(overlay))))

    def all(self, *kinds: str) -> list[Object]:
        return [it for it in self.objects if it["kind"] in kinds]

    def one(self, kind: str, name: str = "") -> Object:
        """Return the only object of that kind, or the one with that name."""
        (found,) = [it for it in self.all(kind) if name in ("", it["metadata"]["name"])]
        return found

    def templates(self) -> list[Object]:
        """Return the pod template of each workload, the gateway's first."""
        return [it["spec"]["template"] for it in self.all("Deployment") + self.all("Job")]

    @property
    def pod(self) -> Object:
        """The specification of the gateway's pods."""
        spec: Object = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    def containers(self) -> Iterator[Object]:
        """Yield each container of each workload, those before the start included."""
        for template in self.templates():
            yield from containers_of(template["spec"])

    def container(self, name: str) -> Object:
        (found,) = [it for it in self.containers() if it["name"] == name]
        return found

    def lasting(self) -> list[Object]:
        """Return the containers that run as long as the gateway's pod."""
        return [it for it in self.pod["initContainers"] if it.get("restartPolicy") == "Always"] + self.pod["containers"]

    @property
    def settings(self) -> dict[str, str]:
        """The settings that all containers of the gateway's image get."""
        data: dict[str, str] = self.one("ConfigMap")["data"]
        return data


def containers_of(spec: Object) -> list[Object]:
    """Return all containers of a pod, in the order of their start."""
    found: list[Object] = spec.get("initContainers", []) + spec["containers"]
    return found


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def mounts(container: Object) -> dict[str, str]:
    """Return the path of each volume in the container, by its name."""
    return {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}


def number(pattern: str, file: str) -> int:
    """Return the number that a pattern finds in a file of this folder."""
    found = re.search(pattern, (DEPLOY / file).read_text(), re.MULTILINE)
    assert found, f"{file} lacks {pattern}"
    return int(found[1])
