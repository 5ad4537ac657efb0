"""The dashboard and the alerts: they are well-formed, and speak of metrics that there are."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from sluice.app import create_app
from sluice.settings import Settings
from tests.api import ManualClock
from tests.api_steps import EndlessUpstream

MONITORING = Path(__file__).parents[1] / "docs" / "monitoring"
METRIC = re.compile(r"\b(?:sluice|process)_[a-z_]+")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """Return a client of a service that measures everything: on a file, where something is committed."""
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'sluice.db'}", shutdown_grace=0)
    with TestClient(create_app(settings, EndlessUpstream(), ManualClock())) as client:
        yield client


def promtool(*arguments: str, **options: Any) -> str:
    run = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, **options)
    assert run.returncode == 0, run.stdout + run.stderr
    return str(run.stdout)


def names(client: TestClient) -> set[str]:
    """Return every name that a query can be about."""
    client.post("/ingest", json={"ids": [2], "priority": "LOW"})
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {family.name for family in families} | {
        sample.name
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def expressions() -> dict[str, str]:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    alerts = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    panels = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    return alerts | panels


def test_rules_are_well_formed_and_fire_when_they_should() -> None:
    assert "10 rules found" in promtool("check", "rules", str(MONITORING / "alerts.yaml"))
    assert "SUCCESS" in promtool("test", "rules", str(MONITORING / "alerts_test.yaml"))


def test_configurations_of_the_readme_are_what_prometheus_takes(tmp_path: Path) -> None:
    configurations = re.findall(r"```yaml\n(.*?)```", (MONITORING / "README.md").read_text(), re.DOTALL)
    assert len(configurations) == 2

    for number, configuration in enumerate(configurations):
        (tmp_path / f"{number}.yaml").write_text(configuration)

        assert "SUCCESS" in promtool("check", "config", "--syntax-only", str(tmp_path / f"{number}.yaml"))


def test_every_rule_is_tested_to_fire() -> None:
    tests = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
    fired = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each.get("exp_alerts")}
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())

    assert fired == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}


def test_exposition_has_nothing_that_promtool_would_change(client: TestClient) -> None:
    client.post("/ingest", json={"ids": [2], "priority": "LOW"})

    assert promtool("check", "metrics", input=client.get("/metrics").text) == ""


@pytest.mark.parametrize("name", expressions())
def test_alerts_and_panels_speak_of_metrics_that_there_are(client: TestClient, name: str) -> None:
    spoken_of = set(METRIC.findall(expressions()[name]))

    assert spoken_of or name == "SluiceDown"
    assert spoken_of <= names(client)


def test_every_panel_asks_something_that_prometheus_understands(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m").replace("$lane", ".*")}
        for number, expression in enumerate(expressions().values())
    ]
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))

    assert f"{len(rules)} rules found" in promtool("check", "rules", str(path))


def test_table_of_the_readme_lists_every_metric(client: TestClient) -> None:
    table = (MONITORING / "README.md").read_text()
    listed = set(re.findall(r"`(sluice_[a-z_]+)`", table))
    families = text_string_to_metric_families(client.get("/metrics").text)

    measured = {f"{each.name}_total" if each.type == "counter" else each.name for each in families}
    assert listed == {name for name in measured if name.startswith("sluice_")}
