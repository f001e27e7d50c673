"""What must not be found in the manifests of deploy/kubernetes, each with a change after which it is found."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from deploy.tests.conftest import DEPLOY
from deploy.tests.manifests import FOLDER, Manifests, Object, containers_of, matches, mounts, number
from lucid_gateway.kernel import metrics
from lucid_gateway.policy.clusters import CLUSTERS

SECRETS = {
    "lucid-gateway": {"secret_key", "jwt_secret_key", "identity_signing_secret", "edge_secret", "mongodb_uri",
                      "redis_url", "email_host_password"},
    "lucid-gateway-tls": {"tls.crt", "tls.key"},
}  # fmt: skip
HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
Problems = Iterator[str]

# Rules for all workloads


def pods_that_may_be_root(found: Manifests) -> Problems:
    for template in found.templates():
        context = template["spec"]["securityContext"]
        if not (context.get("runAsNonRoot") and context.get("runAsUser") and context.get("fsGroup")):
            yield "root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield "seccomp"


def containers_with_privileges(found: Manifests) -> Problems:
    return (it["name"] for it in found.containers() if it["securityContext"] != HARDENED)


def images_without_a_version(found: Manifests) -> Problems:
    return (it["image"] for it in found.containers() if it["image"].rpartition(":")[2] in ("", "latest", it["image"]))


def containers_without_limits(found: Manifests) -> Problems:
    for it in found.containers():
        if any(set(it["resources"].get(part, {})) != {"cpu", "memory"} for part in ("requests", "limits")):
            yield it["name"]


def secrets_in_the_environment(found: Manifests) -> Problems:
    for it in found.containers():
        if any("secretRef" in source for source in it.get("envFrom", [])):
            yield f"{it['name']}: a whole Secret"
        yield from (one["name"] for one in it.get("env", []) if "secretKeyRef" in one.get("valueFrom", {}))
    names = chain(found.settings, (one["name"] for it in found.containers() for one in it.get("env", [])))
    yield from (
        name for name in names if re.search(r"SECRET|PASSWORD|MONGODB_URI|REDIS_URL", name) and name[-5:] != "_FILE"
    )


def tokens_for_the_api_of_kubernetes(found: Manifests) -> Problems:
    owners = [*found.all("ServiceAccount"), *(template["spec"] for template in found.templates())]
    return (str(it) for it in owners if it["automountServiceAccountToken"] is not False)


def references_that_lead_nowhere(found: Manifests) -> Problems:
    existing = {(it["kind"], it["metadata"]["name"]) for it in found.objects}
    for spec in (template["spec"] for template in found.templates()):
        volumes = {volume["name"] for volume in spec["volumes"]}
        used = [("ServiceAccount", spec["serviceAccountName"])]
        for it in containers_of(spec):
            used += [("ConfigMap", source["configMapRef"]["name"]) for source in it.get("envFrom", [])]
            used += [("ConfigMap", key["name"]) for key in config_map_keys(it)]
            yield from set(mounts(it)) - volumes
        yield from (f"{kind} {name}" for kind, name in used if (kind, name) not in existing)
        yield from {it["secret"]["secretName"] for it in spec["volumes"] if "secret" in it} - set(SECRETS)


def config_map_keys(container: Object) -> list[Object]:
    return [one["valueFrom"]["configMapKeyRef"] for one in container.get("env", [])
            if "configMapKeyRef" in one.get("valueFrom", {})]  # fmt: skip


def selectors_that_select_nothing(found: Manifests) -> Problems:
    deployment = found.one("Deployment")["spec"]
    selectors = [deployment["selector"]["matchLabels"], found.one("Service")["spec"]["selector"]]
    selectors += [found.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    selectors += [it["labelSelector"]["matchLabels"] for it in found.pod["topologySpreadConstraints"]]
    labels = deployment["template"]["metadata"]["labels"]
    yield from (f"{it} is not the gateway" for it in selectors if not it or not matches(it, labels))
    policies = {it["metadata"]["name"]: it["spec"]["podSelector"] for it in found.all("NetworkPolicy")}
    templates = [template["metadata"]["labels"] for template in found.templates()]
    for name, it in policies.items():
        if not any(matches(it.get("matchLabels", {}), labels) for labels in templates):
            yield f"policy {name}"


# Rules for the gateway's pod


def another_order_of_start(found: Manifests) -> Problems:
    order = [it["name"] for it in containers_of(found.pod)]
    if order != ["wait-for-migration", "configure-edge", "gateway", "edge"]:
        yield f"starts {order}"
    if [it["name"] for it in found.lasting()] != ["gateway", "edge"]:
        yield "the gateway does not outlive the edge"


def probes_that_confuse_alive_and_ready(found: Manifests) -> Problems:
    for it in found.lasting():
        if "ready" in str(it["livenessProbe"]):
            yield f"{it['name']} is restarted when it is not ready"
    if found.container("gateway")["livenessProbe"]["exec"]["command"][1:] != ["deploy/health_check.py", "live"]:
        yield "the gateway's liveness"
    if found.container("edge")["readinessProbe"]["httpGet"]["path"] != "/api/v1/meta/health/ready":
        yield "readiness"


def ports_that_nobody_listens_on(found: Manifests) -> Problems:
    edge, command = found.container("edge"), found.container("configure-edge")["args"]
    listened = {"http": command[command.index("--listen") + 1], "https": command[command.index("--listen-tls") + 1]}
    if {port["name"]: str(port["containerPort"]) for port in edge["ports"]} != listened:
        yield "the edge listens on other ports"
    used = [edge["readinessProbe"]["httpGet"]["port"], edge["livenessProbe"]["tcpSocket"]["port"]]
    used += [port["targetPort"] for port in found.one("Service")["spec"]["ports"]]
    policies = found.all("NetworkPolicy")
    used += [port["port"] for it in policies for rule in it["spec"].get("ingress", []) for port in rule["ports"]]
    yield from set(used) - set(listened)


def edges_of_another_gateway(found: Manifests) -> Problems:
    gateway, edge, configuration = (mounts(found.container(name)) for name in ("gateway", "edge", "configure-edge"))
    if not gateway["gateway-socket"] == edge["gateway-socket"] == str(Path(found.settings["GATEWAY_SOCKET"]).parent):
        yield "socket"
    folder = found.container("configure-edge")["args"][2]
    if not configuration["edge-configuration"] == edge["edge-configuration"] == folder:
        yield "configuration"
    if f"{folder}/nginx.conf" not in found.container("edge")["command"]:
        yield "command"
    if f"USER {found.pod['securityContext']['runAsUser']}:" not in (DEPLOY / "Dockerfile").read_text():
        yield "user"


def ends_that_cut_requests(found: Manifests) -> Problems:
    pause = found.container("edge")["lifecycle"]["preStop"]["sleep"]["seconds"]
    drained = number(r"worker_shutdown_timeout (\d+)s", "edge/nginx.conf.template")
    graceful = number(r"^graceful_timeout = (\d+)", "gunicorn.conf.py")
    if pause < 10:
        yield "load balancers learn too late of the end"
    if found.pod["terminationGracePeriodSeconds"] <= pause + drained + graceful:
        yield "the grace period is too short"


def updates_that_take_gateways_away(found: Manifests) -> Problems:
    deployment, budget = found.one("Deployment")["spec"], found.one("PodDisruptionBudget")["spec"]
    if deployment["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        yield "fewer gateways during an update"
    scaled = [it["spec"]["minReplicas"] for it in found.all("HorizontalPodAutoscaler")]
    fewest = min([*scaled, *([deployment["replicas"]] if "replicas" in deployment else [])], default=1)
    if fewest <= budget["maxUnavailable"]:
        yield "the budget allows an eviction of all gateways"


def figures_that_do_not_scale(found: Manifests) -> Problems:
    adapter = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    series = {rule["seriesQuery"].partition("{")[0] for rule in adapter}
    if series != {f"{metrics.REQUESTS._name}_total"}:
        yield "the gateway has no such metric"
    for scaler in found.all("HorizontalPodAutoscaler"):
        target, pods, container = scaler["spec"]["scaleTargetRef"], *scaler["spec"]["metrics"]
        if found.one(target["kind"], target["name"])["spec"].get("replicas"):
            yield "two numbers of replicas"
        metric = pods["pods"]["metric"]
        if metric["name"] != f"{metrics.REQUESTS._name}_per_second":
            yield "the adapter makes no such metric"
        if not metric["selector"]["matchLabels"].keys() <= set(metrics.REQUESTS._labelnames):
            yield "the metric has no such label"
        if container["containerResource"]["container"] not in {it["name"] for it in found.lasting()}:
            yield "no such container"


# Rules for the network


def allowed(found: Manifests, template: Object) -> Iterator[tuple[str, int]]:
    """Yield (protocol, port) of everything outside that the pods of the template may reach."""
    for policy in found.all("NetworkPolicy"):
        if matches(policy["spec"]["podSelector"].get("matchLabels", {}), template["metadata"]["labels"]):
            for port in chain.from_iterable(rule["ports"] for rule in policy["spec"].get("egress", [])):
                last = port.get("endPort", port["port"])
                yield from ((port["protocol"], one) for one in range(port["port"], last + 1))


def servers_out_of_reach(found: Manifests) -> Problems:
    everywhere = {("UDP", 53), ("TCP", 53), ("TCP", 6379), ("TCP", 26379), ("TCP", 27017)}
    clusters = [found.settings[it.setting] for it in CLUSTERS.values() if it.setting in found.settings]
    of_gateway = {("TCP", urlsplit(url).port or 0) for url in clusters} | {("TCP", int(found.settings["EMAIL_PORT"]))}
    gateway, migration = (set(allowed(found, template)) for template in found.templates())
    yield from (f"gateway: {it}" for it in (everywhere | of_gateway) - gateway)
    yield from (f"migration: {it}" for it in everywhere - migration)


def doors_that_are_open(found: Manifests) -> Problems:
    policies = [it["spec"] for it in found.all("NetworkPolicy")]
    if {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} not in policies:
        yield "what no policy names is allowed"
    entries = [port["port"] for it in policies for rule in it.get("ingress", []) for port in rule["ports"]]
    if entries != ["https"]:
        yield f"open ports: {entries}"
    if found.one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] != "restricted":
        yield "the namespace allows privileged pods"


@dataclass(frozen=True)
class Rule:
    """What must not be found, and a change with which it is."""

    problems: Callable[[Manifests], Problems]
    make: Callable[[Manifests], Any]


def set_to(find: Callable[[Manifests], Object], key: str, value: object) -> Callable[[Manifests], Any]:
    """Return a change that sets the key of an object."""
    return lambda found: find(found).__setitem__(key, value)


def of(name: str, *keys: str) -> Callable[[Manifests], Object]:
    """Return a function that finds the container, or a part of it."""

    def find(found: Manifests) -> Object:
        part = found.container(name)
        for key in keys:
            part = part[key]
        return part

    return find


def metric_of(found: Manifests) -> Object:
    metric: Object = found.one("HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]
    return metric


RULES = [
    Rule(pods_that_may_be_root, set_to(lambda found: found.pod["securityContext"], "runAsNonRoot", False)),
    Rule(pods_that_may_be_root, lambda found: found.pod["securityContext"].pop("seccompProfile")),
    Rule(containers_with_privileges, set_to(of("migrate", "securityContext"), "readOnlyRootFilesystem", False)),
    Rule(images_without_a_version, set_to(of("edge"), "image", "openresty/openresty")),
    Rule(images_without_a_version, set_to(of("gateway"), "image", "lucid-api-gateway:latest")),
    Rule(containers_without_limits, lambda found: of("migrate", "resources", "limits")(found).pop("memory")),
    Rule(secrets_in_the_environment, lambda found: found.settings.update({"REDIS_URL": "redis://:password@redis"})),
    Rule(secrets_in_the_environment, set_to(of("migrate"), "envFrom", [{"secretRef": {"name": "lucid-gateway"}}])),
    Rule(tokens_for_the_api_of_kubernetes, set_to(lambda found: found.pod, "automountServiceAccountToken", True)),
    Rule(references_that_lead_nowhere, lambda found: found.objects.remove(found.one("ConfigMap"))),
    Rule(references_that_lead_nowhere, lambda found: found.pod["volumes"].pop()),
    Rule(references_that_lead_nowhere, set_to(lambda found: found.pod["volumes"][0]["secret"], "secretName", "others")),
    Rule(selectors_that_select_nothing, lambda found: found.templates()[0]["metadata"]["labels"].popitem()),
    Rule(selectors_that_select_nothing, lambda found: found.objects.remove(found.one("Job"))),
    Rule(another_order_of_start, lambda found: found.pod["initContainers"].reverse()),
    Rule(another_order_of_start, lambda found: of("gateway")(found).pop("restartPolicy")),
    Rule(probes_that_confuse_alive_and_ready,
         lambda found: of("gateway", "livenessProbe", "exec")(found)["command"].pop()),
    Rule(probes_that_confuse_alive_and_ready,
         lambda found: of("edge")(found).update(livenessProbe=of("edge", "readinessProbe")(found))),
    Rule(ports_that_nobody_listens_on, set_to(of("edge", "readinessProbe", "httpGet"), "port", "metrics")),
    Rule(ports_that_nobody_listens_on, lambda found: of("edge")(found)["ports"].pop()),
    Rule(edges_of_another_gateway, lambda found: found.settings.update(GATEWAY_SOCKET="/run/gateway.socket")),
    Rule(edges_of_another_gateway, set_to(lambda found: found.pod["securityContext"], "runAsUser", 1000)),
    Rule(ends_that_cut_requests, set_to(lambda found: found.pod, "terminationGracePeriodSeconds", 60)),
    Rule(ends_that_cut_requests, set_to(of("edge", "lifecycle", "preStop", "sleep"), "seconds", 1)),
    Rule(updates_that_take_gateways_away,
         set_to(lambda found: found.one("Deployment")["spec"]["strategy"]["rollingUpdate"], "maxUnavailable", 1)),
    Rule(updates_that_take_gateways_away, set_to(lambda found: found.one("Deployment")["spec"], "replicas", 1)),
    Rule(updates_that_take_gateways_away, lambda found: found.objects.remove(found.one("HorizontalPodAutoscaler"))),
    Rule(servers_out_of_reach, lambda found: found.objects.remove(found.one("NetworkPolicy", "names"))),
    Rule(servers_out_of_reach, lambda found: found.settings.update(EMAIL_PORT="25")),
    Rule(servers_out_of_reach, lambda found: found.settings.update(RDP_SERVICES_URL="http://rdp:9000")),
    Rule(doors_that_are_open, lambda found: found.objects.remove(found.one("NetworkPolicy", "default-deny"))),
    Rule(doors_that_are_open, lambda found: found.one("NetworkPolicy", "gateway")["spec"].update(
        ingress=[{"ports": [{"port": "https"}, {"port": "http"}]}])),
    Rule(figures_that_do_not_scale, set_to(lambda found: found.one("Deployment")["spec"], "replicas", 3)),
    Rule(figures_that_do_not_scale, lambda found: metric_of(found).update(name="lucid_requests_per_minute")),
    Rule(figures_that_do_not_scale, lambda found: metric_of(found).update(selector={"matchLabels": {"pod": "a"}})),
]  # fmt: skip
