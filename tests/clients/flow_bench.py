"""crucible-benchmark against the real host: every shipped config for a moment, every protocol, and the
dashboard in a headless browser."""

import glob
import json
import os
import re
import shutil
import subprocess
import tempfile

from crucible import HOST as ADDRESS, host_binary, run

HOST_ARGS = ["--max-connections", "2000"]
HOST = {"plugins": ("resp", "memcache", "momento", "ping")}

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT_S = 300
# A slow machine is no failure of the server; what is named later wins.
PATIENT = ["--request-timeout", "60s", "--connect-timeout", "60s", "--slip-limit", "60s"]
MIX = "get=60,set=20,delete=4,mget=6,incr=5,touch=5"


def generator():
    """The generator beside the host, or the one that `CRUCIBLE_BENCHMARK` names."""
    beside = os.path.join(os.path.dirname(host_binary()), "crucible-benchmark")
    return os.environ.get("CRUCIBLE_BENCHMARK", beside)


def bench(*arguments):
    """Runs the generator from the top of the checkout: its results, and what it said."""
    command = [generator(), *PATIENT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, cwd=TOP, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, [line for line in lines if line["kind"] == "result"], done.stderr


def port_for(server, protocol):
    """The port of the host that speaks a config's protocol."""
    return server.ports[{"resp3": "resp"}.get(protocol, protocol.split("-")[0])]


def verified(code, results, said):
    """A run that asked, was answered, checked values and found nothing wrong."""
    assert code == 0, said
    assert results and all(not result["failures"] for result in results), said
    assert sum(result["counts"]["responses"] for result in results) > 0, said
    assert sum(result["counts"]["verified"] for result in results) > 0, said


def test_every_shipped_config_runs_for_a_second(server):
    configs = sorted(glob.glob(os.path.join(TOP, "bench", "config", "*.toml")))
    assert len(configs) >= 10, configs
    for config in configs:
        with open(config, encoding="utf-8") as text:
            text = text.read()
        found = re.search(r'^protocol = "([a-z0-9-]+)"', text, re.MULTILINE)
        protocol = found.group(1) if found else "resp"
        arguments = [config, "--endpoints", f"{ADDRESS}:{port_for(server, protocol)}"]
        arguments += ["--json", "-", "--table", "none", "--duration", "1s"]
        if "\n[trace]" not in text:
            arguments += ["--warmup", "100ms"]
            if "[keyspace]" in text and "large" not in config and "desync" not in config:
                arguments += ["--keys", "5000"]
        if "\n[search]" in text:
            arguments += ["--search-step", "500ms", "--search-max", "4000", "--slo-p99", "10s", "--slo-p999", "10s",
                          "--slo-achieved", "0.01"]
        code, results, said = bench(*arguments)
        if protocol == "ping":
            assert code == 0 and results[0]["counts"]["responses"] > 0, said
        else:
            verified(code, results, said)


def test_every_protocol_is_prefilled_driven_and_verified(server):
    for protocol in ("resp", "resp3", "memcache", "memcache-meta", "memcache-binary"):
        mix = MIX + (",cas=5" if protocol.startswith("memcache") else "")
        verified(*bench("-h", ADDRESS, "-p", port_for(server, protocol), "--protocol", protocol, "--commands", mix,
                        "--ttl", "60s", "--keys", 2000, "-P", 8, "--duration", "1s", "--warmup", "100ms",
                        "--size", "weighted:20=5,300=3,20000=1", "--json", "-", "--table", "none"))


def test_several_memcache_endpoints_share_the_keys_by_ketama(server):
    port = server.memcache_port
    with server.connect("memcache") as wire:
        wire.send(b"flush_all\r\n")  # what earlier tests left would push keys out
        assert wire.line() == b"OK"
    code, results, said = bench("--endpoints", f"{ADDRESS}:{port},localhost:{port}", "--protocol", "memcache", "--keys", 2000,
                                "--duration", "500ms", "--warmup", "0s", "--json", "-", "--table", "none")
    verified(code, results, said)
    assert results[0]["hit_ratio"] == 1.0, results


def chromium():
    """A browser without a window."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return shutil.which(name)
    raise AssertionError("no chromium: apt-get install chromium")


def two_runs(server, folder):
    """The dashboard of two short runs as one file."""
    paths = []
    for name, rate in (("slow", 500), ("fast", 2000)):
        path = os.path.join(folder, f"{name}.parquet")
        code, _, said = bench("-h", ADDRESS, "-p", server.resp_port, "--rate", rate, "--duration", "1s", "--warmup", "0s",
                              "--interval", "100ms", "--keys", 1000, "--parquet", path, "--json", "-",
                              "--table", "none", "--server-pid", server.pid)
        assert code == 0, said
        paths.append(path)
    page = os.path.join(folder, "page.html")
    subprocess.run([generator(), "view", *paths, "--html", page], check=True, timeout=LIMIT_S, capture_output=True)
    return page


def look(page, folder, probe):
    """What a script finds in the page after everything else; it calls `tell` once."""
    with open(page, encoding="utf-8") as text:
        text = text.read()
    script = ("<script>const tell = seen => { document.title = JSON.stringify(seen); };"
              f"addEventListener('load', () => setTimeout(() => {{ {probe} }}, 300));</script></body>")
    with open(page, "w", encoding="utf-8") as out:
        out.write(text.replace("</body>", script))
    command = [chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
               f"--user-data-dir={folder}/profile", "--window-size=1500,2600", "--virtual-time-budget=8000",
               "--dump-dom", f"file://{page}#theme=dark"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert "Uncaught" not in done.stderr, done.stderr
    return json.loads(re.search(r"<title>(.*?)</title>", done.stdout).group(1).replace("&quot;", '"'))


def test_the_dashboard_draws_in_a_browser_without_errors_or_requests(server):
    with tempfile.TemporaryDirectory() as folder:
        seen = look(two_runs(server, folder), folder, """
          const drawn = [...document.querySelectorAll('canvas')].map(c => {
            const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, seen = new Set();
            for (let i = 0; i < d.length; i += 4) seen.add((d[i] << 16) | (d[i + 1] << 8) | d[i + 2]);
            return seen.size;
          });
          tell({ charts: drawn.length, plainest: Math.min(...drawn),
            chips: document.querySelectorAll('.chip').length, rows: document.querySelectorAll('#differences tbody tr').length,
            outside: performance.getEntriesByType('resource').length });""")
        assert seen["charts"] >= 10 and seen["chips"] == 2 and seen["rows"] >= 8, seen
        # Axes, words and curves: many more colours than an empty card has.
        assert seen["plainest"] > 8 and seen["outside"] == 0, seen


def test_the_dashboard_tells_under_the_pointer_zooms_and_saves(server):
    with tempfile.TemporaryDirectory() as folder:
        seen = look(two_runs(server, folder), folder, """
          const saved = [], make = URL.createObjectURL;
          URL.createObjectURL = blob => { saved.push(blob.type.split(';')[0], blob.size > 500); return make(blob); };
          HTMLAnchorElement.prototype.click = function () { saved.push(this.download.split('.').pop()); };
          HTMLCanvasElement.prototype.setPointerCapture = () => {};
          // At once: the browser's own way takes longer than its virtual time.
          HTMLCanvasElement.prototype.toBlob = function (done) {
            const bytes = Uint8Array.from(atob(this.toDataURL('image/png').split(',')[1]), c => c.charCodeAt(0));
            done(new Blob([bytes], { type: 'image/png' }));
          };
          const by = id => document.getElementById(id), canvas = document.querySelector('canvas');
          const box = canvas.getBoundingClientRect();
          const point = (type, x) => canvas.dispatchEvent(new PointerEvent(type,
            { clientX: box.left + x, clientY: box.top + 80, pointerId: 1, bubbles: true }));
          point('pointermove', 250);
          const tip = by('tip').hidden ? '' : by('tip').textContent;
          point('pointerdown', 150); point('pointermove', 350); point('pointerup', 350);
          const zoomed = !by('reset').hidden;
          by('reset').click();
          const whole = by('reset').hidden;
          for (const word of ['CSV', 'PNG'])
            [...document.querySelectorAll('button')].find(button => button.textContent === word).click();
          tell({ tip, zoomed, whole, saved });""")
        assert "slow" in seen["tip"] and "fast" in seen["tip"], seen
        assert seen["zoomed"] and seen["whole"], seen
        assert seen["saved"] == ["text/csv", True, "csv", "image/png", True, "png"], seen


if __name__ == "__main__":
    run(__file__, globals())
