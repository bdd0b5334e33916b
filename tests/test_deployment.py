"""The examples of docs/deploy, as far as they can be held to anything without systemd and without a cluster.

tests/test_proxies.py runs those for proxies, scripts/container.sh the images.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import app
from app.__main__ import STOP_S
from app.settings import Settings

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs" / "deploy"
NAMES = {f"SHEAF_{name.upper()}" for name in Settings.model_fields}
OBJECTS = {one["kind"]: one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}
VERSIONS = ["1.31", "1.37"]
"""Of Kubernetes, an old one and the newest whose schema is at hand."""


def unit() -> dict[str, list[str]]:
    """setting -> its values, of all sections."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", (DEPLOY / "sheaf.service").read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


# systemd


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("SHEAF_REQUIRE_DEPLOYMENT"):
            pytest.fail("systemd-analyze is not installed; CI must not skip this test")
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "sheaf.service").read_text().replace("/opt/sheaf/.venv/bin/python", sys.executable)
    text = text.replace("/opt/sheaf", str(ROOT))
    (tmp_path / "sheaf.service").write_text(text)

    def verify() -> str:
        line = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "sheaf.service")]
        return subprocess.run(line, capture_output=True, text=True, check=False).stderr

    assert "sheaf.service" not in verify()
    # It says where it does not.
    (tmp_path / "sheaf.service").write_text(text.replace("ProtectSystem=strict", "ProtectSystme=strict"))
    assert "ProtectSystme" in verify()


def test_the_unit_has_settings_that_are_there_and_ends_as_the_server_does() -> None:
    found = unit()
    given = dict(word.split("=", 1) for line in found["Environment"] for word in line.split())
    assert {name for name in given if name.startswith("SHEAF_")} <= NAMES
    assert [given["SHEAF_INDEXES"]] == found["ReadWritePaths"] == [f"/var/lib/{found['StateDirectory'][0]}"]
    assert int(found["TimeoutStopSec"][0]) > STOP_S
    assert found["ExecStart"][0].endswith("python -m app")
    # A wrong setting ends with 2, and the same again would not help.
    assert (found["Restart"], found["RestartPreventExitStatus"]) == (["always"], ["2"])


# Kubernetes


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_manifests(version: str) -> None:
    for one in OBJECTS.values():
        kubernetes_validate.validate(one, version, strict=True)
    # It says where it does not.
    wrong = copy.deepcopy(OBJECTS["StatefulSet"])
    pod(wrong)["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(wrong, version, strict=True)


def pod(one: dict[str, Any]) -> Any:
    return one["spec"]["template"]["spec"]


def test_the_manifests_mean_the_image_and_the_server() -> None:
    stateful, service = OBJECTS["StatefulSet"], OBJECTS["Service"]
    (container,) = pod(stateful)["containers"]
    assert container["image"] == f"sheaf:{app.__version__}-slim"
    assert stateful["spec"]["replicas"] == 1, "one server a folder"
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == stateful["spec"]["selector"]["matchLabels"]
    assert set(OBJECTS["ConfigMap"]["data"]) <= NAMES
    settings = OBJECTS["ConfigMap"]["data"]
    Settings.model_validate({name.removeprefix("SHEAF_").lower(): value for name, value in settings.items()})
    assert pod(stateful)["terminationGracePeriodSeconds"] > STOP_S
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    text = (ROOT / "Dockerfile").read_text()
    assert f"SHEAF_INDEXES={mounts['indexes']}" in text
    assert f"SHEAF_PORT={container['ports'][0]['containerPort']}" in text
    assert settings["SHEAF_KEYS_FILE"].startswith(f"{mounts['keys']}/")
    assert {f"{who}:10001" for who in (pod(stateful)["securityContext"]["runAsUser"],)} == {"10001:10001"}
    assert "USER 10001:10001" in text
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    # Live answers while collections are opened, so a long recovery is no reason to begin anew.
    assert probes == {"startup": "/health/live", "liveness": "/health/live", "readiness": "/health/ready"}
    assert container["securityContext"]["readOnlyRootFilesystem"]


# More than one machine


def test_the_cluster_is_one_writer_and_readers_with_settings_that_are_there() -> None:
    services = yaml.safe_load((DEPLOY / "cluster.compose.yml").read_text())["services"]
    assert {name: one["environment"]["SHEAF_ROLE"] for name, one in services.items()} == {
        "writer": "writer",
        "reader": "reader",
    }
    for one in services.values():
        assert {name for name in one["environment"] if name.startswith("SHEAF_")} <= NAMES
        assert one["environment"]["SHEAF_STORE"].startswith("${SHEAF_STORE:?")
