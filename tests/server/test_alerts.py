"""Alerts and dashboard: promtool plays the alerts, each has its page in the runbook, and every metric that they name is
one that a server tells of itself."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from load import ask, completion
from nvml import H200, fake_nvml
from server_process import serving

from farthing import discover
from farthing.server import metrics

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = (FOLDER / "farthing.rules.yml").read_text(encoding="utf-8")
PLAYED = (FOLDER / "farthing.test.yml").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "farthing.json").read_text(encoding="utf-8"))
BLOCK = re.compile(r"^      - alert: (\w+)\n(?:       .*\n|\n)+", flags=re.M)  # a rule, as the file is written
ALERTS = [found[1] for found in BLOCK.finditer(RULES)]
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")


def promtool(*arguments: str | Path) -> tuple[int, str]:
    command = [str(PROMTOOL), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def play(folder: Path, rules: str) -> int:
    """The exit code of the played alerts with other rules."""
    (folder / "farthing.rules.yml").write_text(rules)
    (folder / "farthing.test.yml").write_text(PLAYED)
    return promtool("test", "rules", folder / "farthing.test.yml")[0]


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def expressions() -> list[str]:
    """Of the dashboard, as Prometheus would get them."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [text.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$job", ".*") for text in found]


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\bfarthing_[a-z_]+\b", text))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Names of samples and the kinds of their metrics, by a real server with a price that has answered something, and
    by the same reader of a card."""
    data = {"XDG_DATA_HOME": str(tmp_path_factory.mktemp("data"))}
    with serving(price_per_hour=0.5, environment=data) as server:
        assert asyncio.run(ask(server.url, "/v1/completions", completion(server.model, "Once upon a time"))).is_complete
        text = httpx.get(f"{server.url}/metrics", timeout=10).text
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, flags=re.M))
    assert all(f"# HELP {name} " in text for name in kinds)
    for name, kind in list(kinds.items()):
        if kind == "histogram":
            kinds |= {f"{name}_{part}": kind for part in ("bucket", "sum", "count")}
    with pytest.MonkeyPatch.context() as patch:
        fake_nvml(patch, H200)
        rows = [asdict(reading) for reading in discover.load("farthing.hardware", "nvidia").read_gpus()]
        cards = {
            f"{metric.name}_total" if metric.type == "counter" else metric.name: metric.type
            for metric in metrics._gpus(rows)
        }
    assert len(cards) > 5
    return kinds | cards


@needs_promtool
def test_the_rules_and_the_example_are_valid():
    code, said = promtool("check", "rules", FOLDER / "farthing.rules.yml")
    assert code == 0 and f"{len(ALERTS)} rules found" in said
    code, said = promtool("check", "config", "--syntax-only", FOLDER / "prometheus.example.yml")
    assert code == 0, said


@needs_promtool
def test_every_alert_fires_when_it_must_and_is_silent_when_it_must_be():
    code, said = promtool("test", "rules", FOLDER / "farthing.test.yml")
    assert code == 0, said


@needs_promtool
@pytest.mark.parametrize("index", range(len(ALERTS)))
def test_the_played_alerts_miss_one_that_is_left_out_and_one_that_fires_at_once(tmp_path: Path, index: int):
    block = list(BLOCK.finditer(RULES))[index][0]
    assert play(tmp_path, RULES) == 0
    assert play(tmp_path, RULES.replace(block, "")) == 1
    eager = re.sub(r"expr: (?:>-\n(?: {10}.*\n)+|.*\n)", "expr: vector(1)\n", block)
    assert eager != block and play(tmp_path, RULES.replace(block, eager)) == 1


def test_every_alert_says_what_how_bad_and_where_to_read_on():
    for block in (found[0] for found in BLOCK.finditer(RULES)):
        for part in ("severity: ", "summary: ", "description: ", "runbook: docs/runbook.md#"):
            assert part in block


@pytest.mark.parametrize("alert", sorted(set(ALERTS)))
def test_every_alert_has_a_section_of_the_runbook(alert: str):
    assert f"runbook: docs/runbook.md#{alert.lower()}\n" in RULES
    section = re.search(rf"^## {alert}\n\n(.+?)(?=\n## |\Z)", RUNBOOK, flags=re.M | re.S)
    assert section is not None and 3 <= len(section[1].strip().splitlines()) <= 8


def test_the_runbook_has_no_section_of_an_alert_that_is_gone():
    assert set(re.findall(r"^## (Farthing\w+)$", RUNBOOK, flags=re.M)) == set(ALERTS)


@pytest.mark.parametrize("text", [RULES, PLAYED, json.dumps(DASHBOARD)], ids=["rules", "played", "dashboard"])
def test_every_metric_that_is_named_is_one_that_a_server_tells(told: dict[str, str], text: str):
    assert metric_names(re.sub(r"farthing\.[a-z]+\.yml|farthing-[a-z]+", "", text)) - set(told) == set()


def test_only_counters_and_histograms_are_rated(told: dict[str, str]):
    for text in (RULES, json.dumps(DASHBOARD)):
        rated = set(re.findall(r"(?:rate|increase)\((farthing_\w+)", text))
        assert rated and {told[name] for name in rated} <= {"counter", "histogram"}


def test_every_metric_but_the_plain_ones_is_on_the_dashboard_or_in_an_alert(told: dict[str, str]):
    plain = {name for name in told if name.endswith(("_created", "_sum", "_count"))}
    shown = metric_names(json.dumps(DASHBOARD)) | metric_names(RULES)
    unseen = {name for name in told if name.startswith("farthing_") and name not in plain} - shown
    histograms = {name for name, kind in told.items() if kind == "histogram"}
    assert unseen - histograms == {
        "farthing_kv_blocks",
        "farthing_kv_blocks_used",
        "farthing_share_of_limit_ratio",
        "farthing_speed_to_forecast_ratio",
    }


@needs_promtool
def test_every_expression_of_the_dashboard_is_one(tmp_path: Path):
    lines = [f"      - {{record: 'a:{i}', expr: {json.dumps(text)}}}" for i, text in enumerate(expressions())]
    (tmp_path / "rules.yml").write_text("\n".join(["groups:", "  - name: panels", "    rules:", *lines, ""]))
    code, said = promtool("check", "rules", tmp_path / "rules.yml")
    assert code == 0, said


def test_the_dashboard_asks_the_source_that_is_chosen_and_has_its_rows():
    assert DASHBOARD["schemaVersion"] >= 39 and DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Traffic", "Latency", "Share of the limit, and where time goes", "KV cache", "Money", "Health"]
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels())
    assert all(target["datasource"]["uid"] == "${datasource}" for panel in panels() for target in panel["targets"])
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_no_panel_covers_another():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        x, y, width, height = (panel["gridPos"][key] for key in "xywh")
        cells = {(column, line) for column in range(x, x + width) for line in range(y, y + height)}
        assert not cells & taken and x + width <= 24, panel["title"]
        taken |= cells
