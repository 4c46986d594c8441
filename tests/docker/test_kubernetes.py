"""The manifests: by Kubernetes' own schemas, and naming nothing that there is not."""

import math
import os
import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from spinepaint.app.routes.service import router
from spinepaint.settings import Settings
from spinepaint.store.models import Job, JobState
from tests.docker.described import DOCKER, OURS, check_command, containers, known_variable, manifests, settings_of

VERSIONS = ("1.32", "1.37")  # the oldest that knows all fields and still runs in many places, and the newest
OF_KEDA = {"ScaledObject", "TriggerAuthentication"}
SECRET = {
    "SPINEPAINT_DATABASE_URL",
    "SPINEPAINT_BROKER_URL",
    "SPINEPAINT_DEIDENTIFY_KEY",
    "SPINEPAINT_WEBHOOK__SECRET",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
}


def named(kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = [one for one in manifests() if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_they_are_as_the_schemas_have_them(version: str) -> None:
    checked = set()
    for document in manifests():
        if document["kind"] not in OF_KEDA:
            kubernetes_validate.validate(document, version, strict=True)
            checked.add(document["kind"])
    assert {"Deployment", "Job", "Service", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap", "Namespace"} <= checked


def test_the_check_finds_a_misspelt_field() -> None:
    deployment = named("Deployment", "spinepaint-gateway")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


def test_all_of_it_is_listed_and_lies_in_one_namespace() -> None:
    kustomization = yaml.safe_load((DOCKER / "kubernetes" / "kustomization.yaml").read_text())
    files = {path.name for path in (DOCKER / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == files
    assert {document["metadata"].get("namespace", "spinepaint") for document in manifests()} == {"spinepaint"}
    assert {image["name"] for image in kustomization["images"]} == set(OURS)
    assert not [image for image in kustomization["images"] if image["newTag"] == "latest"]


def test_containers_are_confined_and_run_our_commands() -> None:
    seen = set()
    for owner, pod, container in containers():
        seen.add((owner, container["name"]))
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["image"] in OURS
        assert container["resources"]["limits"]["memory"]
        check_command(container["args"])
        assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
        assert any(mount["mountPath"] == "/var/lib/spinepaint" for mount in container["volumeMounts"])
        given = {variable["name"]: variable["value"] for variable in container.get("env", [])}
        for name in given:
            assert known_variable(name)
        assert container["envFrom"] == [{"configMapRef": {"name": "spinepaint"}}, {"secretRef": {"name": "spinepaint"}}]
        settings = settings_of(named("ConfigMap")["data"] | given)
        assert not settings.migrate_at_start
        if container["args"] == ["worker"]:
            assert pod["terminationGracePeriodSeconds"] > settings.shutdown_grace_s + 5
    assert {("spinepaint-migrate", "migrate"), ("spinepaint-gateway", "gateway"), ("spinepaint-worker", "worker")} < seen


def service_links(service: dict[str, Any]) -> dict[str, str]:
    """What the kubelet sets in every pod of the namespace for a Service, where a pod does not forbid it."""
    name = service["metadata"]["name"].upper().replace("-", "_")
    (port,) = [port["port"] for port in service["spec"]["ports"]]
    url = f"tcp://10.96.7.7:{port}"
    plain = {f"{name}_SERVICE_HOST": "10.96.7.7", f"{name}_SERVICE_PORT": str(port), f"{name}_PORT": url}
    return plain | {f"{name}_PORT_{port}_TCP": url, f"{name}_PORT_{port}_TCP_PORT": str(port)}


def test_the_name_of_the_service_is_no_setting_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SPINEPAINT_")]:
        monkeypatch.delenv(name)
    for name, value in service_links(named("Service")).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match="port"):
        Settings()
    for owner, pod, _container in containers():
        assert pod["enableServiceLinks"] is False, owner
    # And where a pod has them all the same: the kubelet sets none that envFrom has set.
    for name, value in named("ConfigMap")["data"].items():
        monkeypatch.setenv(name, value)
    assert Settings().port == Settings.model_fields["port"].default


def test_probes_ask_for_what_there_is() -> None:
    paths = {route.path for route in router.routes}  # type: ignore[attr-defined]
    probed = set()
    for _owner, _pod, container in containers():
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind)
            if probe and "httpGet" in probe:
                probed.add(probe["httpGet"]["path"])
                assert probe["httpGet"]["port"] in {port["name"] for port in container["ports"]}
                # By the pod's address the gateway would refuse it.
                assert probe["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost"}]
            elif probe:
                assert probe["exec"]["command"] == ["python", "/usr/local/lib/spinepaint/healthcheck.py", "worker"]
    assert probed == {"/health/live", "/health/ready"}
    assert probed <= paths


def test_services_budgets_and_policies_select_the_pods() -> None:
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in manifests() if one["kind"] in ("Deployment", "Job")]
    selectors = [named("Service")["spec"]["selector"]]
    for document in manifests():
        if document["kind"] in ("Deployment", "PodDisruptionBudget"):
            selectors.append(document["spec"]["selector"]["matchLabels"])
        if document["kind"] == "NetworkPolicy":
            selectors.append(document["spec"]["podSelector"].get("matchLabels", {}))
    for selector in selectors:
        assert any(selector.items() <= labels.items() for labels in pods), selector
    default = Settings.model_fields["port"].default
    ports = [port["containerPort"] for _, _, container in containers() for port in container.get("ports", [])]
    assert ports == [default]
    (rule,) = named("NetworkPolicy", "gateway-from-ingress")["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": default}]
    denied = named("NetworkPolicy", "deny-all")["spec"]
    assert (denied["podSelector"], set(denied["policyTypes"])) == ({}, {"Ingress", "Egress"})


def test_workers_are_counted_by_the_ledger_s_own_columns() -> None:
    scaled = named("ScaledObject")["spec"]
    assert scaled["scaleTargetRef"]["name"] == named("Deployment", "spinepaint-worker")["metadata"]["name"]
    assert "replicas" not in named("Deployment", "spinepaint-worker")["spec"]
    assert scaled["minReplicaCount"] >= 1
    (trigger,) = scaled["triggers"]
    assert trigger["type"] == "postgresql"
    table, column, states = re.fullmatch(
        r"SELECT count\(\*\) FROM (\w+) WHERE (\w+) IN \((.*)\)", trigger["metadata"]["query"]
    ).groups()  # type: ignore[union-attr]
    assert table == Job.__tablename__
    assert column in Job.__table__.columns
    assert set(re.findall(r"'(\w+)'", states)) == {JobState.QUEUED.value, JobState.RUNNING.value}
    authentication = named("TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    (reference,) = authentication["spec"]["secretTargetRef"]
    assert (reference["parameter"], reference["name"], reference["key"]) == (
        "connection",
        "spinepaint",
        "SPINEPAINT_DATABASE_URL",
    )


@pytest.mark.parametrize(("running", "queued", "workers"), [(8, 0, 8), (3, 0, 3), (0, 8, 8), (2, 3, 5), (5, 90, 8), (0, 0, 1)])
def test_there_is_a_worker_for_each_job_that_waits_or_runs(running: int, queued: int, workers: int) -> None:
    scaled = named("ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger.get("metricType", "AverageValue") == "AverageValue"
    target = int(trigger["metadata"]["targetQueryValue"])
    assert target == Settings.model_fields["worker_batch"].default
    # The horizontal autoscaler's: the sum by the target, rounded up, within the bounds.
    wanted = min(max(math.ceil((running + queued) / target), scaled["minReplicaCount"]), scaled["maxReplicaCount"])
    assert wanted == workers
    assert wanted >= running  # nobody is ended in the middle of a job


def test_no_secret_stands_in_them() -> None:
    assert not [document for document in manifests() if document["kind"] == "Secret"]
    for name in named("ConfigMap")["data"]:
        assert known_variable(name)
        assert name not in SECRET
    text = "".join(path.read_text() for path in (DOCKER / "kubernetes").glob("*.yaml"))
    assert not re.search(r"://[^/\s@]*:[^/\s@]+@", text)
    for name in SECRET:
        assert known_variable(name)
