"""The admin server of the real host under load: metrics as Prometheus reads them, dashboards and alerts that name only
what is exported, and the live page in a headless browser."""

import glob
import json
import os
import re
import subprocess
import tempfile
import time
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from crucible import HOST as ADDRESS, run
from flow_bench import PATIENT, chromium, generator

HOST_ARGS = ["--admin", f"{ADDRESS}:0"]
HOST = {"heap": "24MiB"}
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT_S = 300


def admin(server):
    """The admin server's address."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        found = re.search(r'the admin server listens address="?([0-9.:]+)', server.log())
        if found:
            return found.group(1)
        time.sleep(0.01)
    raise AssertionError(server.log())


def get(server, path):
    with urllib.request.urlopen(f"http://{admin(server)}{path}", timeout=LIMIT_S) as answer:
        return answer.read().decode()


def load(server, seconds, *more):
    """Traffic with misses, evictions and times to live; ends by itself."""
    command = [generator(), "-h", ADDRESS, "-p", str(server.resp_port), "--commands", "get=80,set=20", "--keys", "60000",
               "--distribution", "zipf:0.9", "--size", "weighted:100=5,800=3,4000=1", "--ttl", "60s", "-P", "4",
               "--duration", f"{seconds}s", "--warmup", "0s", "--prefill", "false", "--rate", "20000", *PATIENT,
               "--json", "-", "--table", "none", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def curve_is_known(server):
    """Drives it until the store, which samples few keys, says what other memory would give."""
    deadline = time.monotonic() + LIMIT_S
    while not any(json.loads(get(server, "/mrc")).values()):
        assert time.monotonic() < deadline, "no curve"
        finished(load(server, 2, "--rate", "2000000", "-P", "64", "--verify", "off"))


def finished(traffic):
    _, said = traffic.communicate(timeout=LIMIT_S)
    assert traffic.returncode == 0, said


def families(server):
    return {family.name: family for family in text_string_to_metric_families(get(server, "/metrics"))}


def test_metrics_are_what_the_openmetrics_parser_takes(server):
    finished(load(server, 2))
    found = families(server)
    assert found["crucible_request_seconds"].type == "histogram" and found["crucible_request_seconds"].unit == "seconds"
    counts = {}
    for sample in found["crucible_request_seconds"].samples:
        if sample.name.endswith("_count"):
            counts[(sample.labels["protocol"], sample.labels["op"])] = sample.value
    assert counts[("resp", "get")] > 10 and counts[("resp", "store")] > 1, counts
    store = {name: found["crucible_store_" + name] for name in ("hits", "misses", "evicted_items", "memory_bytes", "segments")}
    assert sum(s.value for s in store["hits"].samples) > 100
    assert {s.labels["cause"] for s in store["misses"].samples} == {"absent", "expired", "evicted"}
    assert sum(s.value for s in store["misses"].samples) > 0
    assert {s.labels["cause"] for s in store["evicted_items"].samples} == {"room", "slot"}
    assert {"used", "limit", "hashtable", "ghosts", "items"} <= {s.labels["kind"] for s in store["memory_bytes"].samples}
    assert {"free", "sealed"} <= {s.labels["state"] for s in store["segments"].samples}
    load_ratio = found["crucible_store_hashtable_load_ratio"].samples[0].value
    assert 0 < load_ratio < 1, load_ratio
    for family in found.values():
        assert family.documentation, family.name


def exported(server):
    return {sample.name for family in families(server).values() for sample in family.samples}


def test_dashboard_and_alerts_name_only_metrics_that_are_exported(server):
    curve_is_known(server)
    names = exported(server)
    asked = set()
    for path in glob.glob(os.path.join(TOP, "contrib", "grafana", "*.json")):
        with open(path, encoding="utf-8") as text:
            dashboard = json.load(text)
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        assert len(expressions) > 20, path
        asked |= {name for e in expressions for name in re.findall(r"\bcrucible_[a-z_]+", e)}
    with open(os.path.join(TOP, "contrib", "prometheus", "crucible.rules.yml"), encoding="utf-8") as text:
        asked |= {name for line in text if "expr:" in line for name in re.findall(r"\bcrucible_[a-z_]+", line)}
    assert len(asked) > 30 and asked <= names, sorted(asked - names)


def dashboards():
    """Every expression of the dashboards, as it is for one instance."""
    for path in glob.glob(os.path.join(TOP, "contrib", "grafana", "*.json")):
        with open(path, encoding="utf-8") as text:
            for panel in json.load(text)["panels"]:
                for target in panel["targets"]:
                    yield target["expr"].replace("$__rate_interval", "5m").replace("$instance", "one")


def test_prometheus_takes_the_alert_rules_and_the_dashboards_expressions(_server):
    with tempfile.TemporaryDirectory() as folder:
        expressions = os.path.join(folder, "dashboards.yml")
        records = [{"record": f"of_the_dashboard:{at}", "expr": expr} for at, expr in enumerate(dashboards())]
        assert len(records) > 30
        with open(expressions, "w", encoding="utf-8") as text:
            json.dump({"groups": [{"name": "dashboards", "rules": records}]}, text)
        rules = os.path.join(TOP, "contrib", "prometheus", "crucible.rules.yml")
        done = subprocess.run(["promtool", "check", "rules", rules, expressions], capture_output=True, text=True,
                              timeout=LIMIT_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_live_page_draws_under_load_and_asks_nobody_else(server):
    curve_is_known(server)
    traffic = load(server, 14)
    deadline = time.monotonic() + LIMIT_S
    while len(json.loads(get(server, "/history"))["at_ms"]) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with tempfile.TemporaryDirectory() as folder:
        for theme in ("dark", "light"):
            picture = os.path.join(os.environ.get("CRUCIBLE_PICTURES", folder), f"admin-{theme}.png")
            common = [chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars",
                      f"--user-data-dir={folder}/profile", "--window-size=1440,1720", "--virtual-time-budget=4000"]
            url = f"http://{admin(server)}/#theme={theme}"
            done = subprocess.run([*common, "--dump-dom", url], capture_output=True, text=True, timeout=LIMIT_S, check=False)
            assert "Uncaught" not in done.stderr and "ERR_" not in done.stderr, done.stderr
            dom = done.stdout
            assert int(re.search(r'data-drawn="(\d+)"', dom).group(1)) >= 1
            assert f'data-theme="{theme}"' in dom
            assert re.search(r'class="verdict (good|fair)"', dom), "the cache is well"
            assert dom.count("<path d=\"M") >= 8, "curves are drawn"
            assert "reads/s" in dom and "Misses by cause" in dom and "Twice the memory" in dom and "p99.9" in dom and "Segments by time to live" in dom
            assert dom.count('class="bar"') == 10, "hot keys"
            assert "segcache" in dom and "memcache" in dom
            assert not re.search(r'(?:src|href)="https?:', dom), "self-contained"
            subprocess.run([*common, f"--screenshot={picture}", url], capture_output=True, timeout=LIMIT_S, check=True)
            assert os.path.getsize(picture) > 60_000, "more than an empty page"
    finished(traffic)


if __name__ == "__main__":
    run(__file__, globals())
