"""The network policies: what may connect to what, as Kubernetes reads them."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from spinepaint import callbacks
from tests.docker.described import manifests

POLICIES = [one["spec"] for one in manifests() if one["kind"] == "NetworkPolicy"]
LABELS = {
    one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["template"]["metadata"]["labels"]
    for one in manifests()
    if one["kind"] in ("Deployment", "Job")
}


def egress(component: str) -> list[dict[str, Any]]:
    """Every rule of what a pod may connect to; they add up."""
    labels = LABELS[component].items()
    chosen = [spec for spec in POLICIES if spec["podSelector"].get("matchLabels", {}).items() <= labels]
    assert any("Egress" in spec["policyTypes"] for spec in chosen)  # else everything is open
    return [rule for spec in chosen for rule in spec.get("egress", [])]


def within(block: dict[str, Any], address: str) -> bool:
    there = ip_address(address)
    return there in ip_network(block["cidr"]) and not any(there in ip_network(hole) for hole in block.get("except", []))


def opens(rule: dict[str, Any], port: int) -> bool:
    return any(one["protocol"] == "TCP" and one.get("port", port) == port for one in rule["ports"])


def reaches(component: str, address: str, port: int) -> bool:
    """Whether a pod may connect to an address outside the cluster."""
    for rule in egress(component):
        blocks = [peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer]
        if opens(rule, port) and ("to" not in rule or any(within(block, address) for block in blocks)):
            return True
    return False


def reaches_namespace(component: str, namespace: str, port: int) -> bool:
    wanted = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return any(
        opens(rule, port) and any(peer.get("namespaceSelector") == wanted for peer in rule.get("to", []))
        for rule in egress(component)
    )


@pytest.mark.parametrize("url", ["https://9.9.9.9:8443/", "https://9.9.9.9/", "http://9.9.9.9/", "https://[2620:fe::fe]:8443/"])
def test_a_worker_reaches_every_port_that_a_callback_may_name(url: str) -> None:
    callback = callbacks.parse_callback(url, callbacks.CallbackRules(allow_http=True))
    assert callbacks.is_public(ip_address(callback.host))
    assert reaches("worker", callback.host, callback.port)
    assert reaches("gateway", callback.host, callback.port) == (callback.port == 443)  # of S3; a gateway calls nobody


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.255.255", "192.168.1.1", "168.63.129.16",
                "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "fc00::1", "fe80::1", "2002:a00:1::1", "2001:db8::1"],
)  # fmt: skip
def test_no_callback_s_port_is_open_inside(address: str) -> None:
    assert not callbacks.is_public(ip_address(address))
    for port in (80, 8443):
        assert not reaches("worker", address, port)


def test_what_is_left_out_is_what_no_callback_may_name() -> None:
    blocks = [peer["ipBlock"] for rule in egress("worker") for peer in rule.get("to", []) if "ipBlock" in peer]
    left_out = {hole for block in blocks for hole in block.get("except", [])}
    assert left_out == {str(network) for network in [*callbacks._CLOSED_V4, *callbacks._CLOSED_V6]}


@pytest.mark.parametrize("component", ["gateway", "worker"])
def test_a_collector_of_traces_is_reached(component: str) -> None:
    assert reaches_namespace(component, "monitoring", 4318)
    assert not reaches_namespace(component, "monitoring", 4317)


def test_dicom_nodes_are_reached_by_workers_alone() -> None:
    assert reaches("worker", "192.0.2.7", 104)
    assert not reaches("gateway", "192.0.2.7", 104)
