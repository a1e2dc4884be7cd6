"""Measures HTTP caches side by side; see http.sh, which calls it."""

import argparse
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

CONNECTIONS = 32
ORIGIN_PORT = 19100
SERVER_CORE, CLIENT_CORE = "0", "1"


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers /N with N bytes that may be kept for an hour."""

    protocol_version = "HTTP/1.1"
    requests = 0

    def do_GET(self):
        size = int(self.path.rsplit("/", 1)[1])
        body = (os.urandom(1 << 16) * (size // (1 << 16) + 1))[:size]
        Origin.requests += 1
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=3600")
        self.send_header("ETag", f'"{size}"')
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def node(work, port):
    config = f"""
name = "bench"
region = "local"
listen = "127.0.0.1:{port}"
data_dir = "{work}/node"
capacity = "1GiB"
[origin]
url = "http://127.0.0.1:{ORIGIN_PORT}"
[log]
enabled = false
"""
    return [os.environ["NEARCAST_NODE"], "-c", write(work / "node.toml", config)], {}


def nginx(work, port):
    config = f"""
worker_processes 1; daemon off; user root;
pid {work}/nginx.pid; error_log {work}/nginx.err warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000;
  open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;
  proxy_cache_path {work}/nginx-cache levels=1:2 keys_zone=c:16m max_size=1g inactive=60m use_temp_path=off;
  client_body_temp_path {work}/nginx-body; proxy_temp_path {work}/nginx-proxy;
  fastcgi_temp_path {work}/nginx-f; uwsgi_temp_path {work}/nginx-u; scgi_temp_path {work}/nginx-s;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://127.0.0.1:{ORIGIN_PORT}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache c; proxy_cache_lock on;
    }}
  }}
}}
"""
    return ["nginx", "-c", write(work / "nginx.conf", config)], {}


def varnish(work, port):
    vcl = f'vcl 4.1;\nbackend default {{ .host = "127.0.0.1"; .port = "{ORIGIN_PORT}"; }}\n'
    command = ["varnishd", "-F", "-j", "none", "-n", f"{work}/varnish", "-a", f"127.0.0.1:{port}", "-T", "none"]
    command += ["-f", write(work / "varnish.vcl", vcl), "-s", "malloc,512M"]
    return command + ["-p", "thread_pools=1", "-p", "thread_pool_min=64"], {}


def traffic_server(work, port):
    root = work / "ats"
    for folder in ("etc", "data", "var/log", "var/run", "cache"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    shutil.copytree("/etc/trafficserver", root / "etc", dirs_exist_ok=True)
    settings = [
        "exec_thread.autoconfig INT 0", "exec_thread.limit INT 1", "accept_threads INT 0", "task_threads INT 1",
        f"http.server_ports STRING {port}:ip-in=127.0.0.1", "cache.ram_cache.size INT 536870912",
        "cache.ram_cache_cutoff INT 4194304", "log.logging_enabled INT 0", "url_remap.remap_required INT 1",
        "http.insert_response_via_str INT 0", "admin.user_id STRING #-1",
    ]
    write(root / "etc/records.config", "".join(f"CONFIG proxy.config.{line}\n" for line in settings))
    write(root / "etc/remap.config", f"map http://127.0.0.1:{port}/ http://127.0.0.1:{ORIGIN_PORT}/\n")
    write(root / "etc/storage.config", f"{root}/cache 1G\n")
    layout = {
        "prefix": "/usr", "exec_prefix": "/usr", "bindir": "/usr/bin", "sbindir": "/usr/sbin",
        "sysconfdir": f"{root}/etc", "datadir": f"{root}/data", "includedir": "/usr/include",
        "libdir": "/usr/lib/trafficserver", "libexecdir": "/usr/lib/trafficserver/modules",
        "localstatedir": f"{root}/var", "runtimedir": f"{root}/var/run", "logdir": f"{root}/var/log",
        "cachedir": f"{root}/cache",
    }
    write(root / "runroot.yaml", "".join(f"{name}: {value}\n" for name, value in layout.items()))
    return ["traffic_server"], {"TS_RUNROOT": str(root)}


SERVERS = {"nearcast": node, "nginx": nginx, "traffic_server": traffic_server, "varnish": varnish}
PROGRAMS = {"nginx": "nginx", "traffic_server": "traffic_server", "varnish": "varnishd"}


def tree(pid):
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += tree(int(child))
    return found


def cpu_seconds(pid):
    ticks = 0
    for process in tree(pid):
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid):
    status = (pathlib.Path(f"/proc/{process}/status").read_text() for process in tree(pid))
    return sum(int(re.search(r"VmRSS:\s+(\d+)", text)[1]) for text in status) / 1024


def wait_for(port, process, log):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"bench/http.sh: nothing answers on port {port}; it said:\n{log.read_text()}")


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def measure(port, pid, size, seconds):
    url = f"http://127.0.0.1:{port}/{size}"
    for _ in range(3):
        with urllib.request.urlopen(url) as answer:
            if len(answer.read()) != size:
                sys.exit(f"bench/http.sh: {url} gave an answer of another size")
    asked, spent = Origin.requests, cpu_seconds(pid)
    command = ["taskset", "-c", CLIENT_CORE, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(pid) - spent
    if "Non-2xx" in said or Origin.requests != asked:
        sys.exit(f"bench/http.sh: not all answers were hits:\n{said}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    percentile = lambda share: milliseconds(re.search(rf"(?m)^\s+{share}%\s+(\S+)", said)[1])
    return {
        "requests_per_second": rate,
        "p50_ms": percentile(50),
        "p99_ms": percentile(99),
        "cpu_seconds_per_gb": spent / (rate * seconds * size / 1e9),
        "memory_mib": memory_mib(pid),
    }


def main():
    parser = argparse.ArgumentParser(prog="bench/http.sh")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--sizes", default="1024,10240,1048576")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    names = []
    for name in options.servers.split(","):
        if name not in SERVERS:
            parser.error(f"there is no server `{name}`; there are {', '.join(SERVERS)}")
        program = PROGRAMS.get(name)
        if program and not shutil.which(program):
            print(f"bench/http.sh: {program} is not installed, so {name} is left out", file=sys.stderr)
        else:
            names.append(name)
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", ORIGIN_PORT), Origin)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    best = {}
    with tempfile.TemporaryDirectory() as folder:
        processes = {}
        try:
            for place, name in enumerate(names):
                work, port = pathlib.Path(folder) / name, ORIGIN_PORT + 1 + place
                work.mkdir()
                command, environment = SERVERS[name](work, port)
                log = work / "said"
                with log.open("w") as said:
                    process = subprocess.Popen(
                        ["taskset", "-c", SERVER_CORE, *command], env={**os.environ, **environment}, stdout=said,
                        stderr=subprocess.STDOUT)
                processes[name] = (process, port)
                wait_for(port, process, log)
            time.sleep(3)
            for number in range(options.rounds):
                for name, (process, port) in processes.items():
                    for size in sizes:
                        print(f"round {number + 1}: {name}, {size} bytes", file=sys.stderr)
                        found = measure(port, process.pid, size, options.seconds)
                        held = best.setdefault((size, name), found)
                        if found["requests_per_second"] > held["requests_per_second"]:
                            best[size, name] = found
        finally:
            for process, _ in processes.values():
                process.send_signal(signal.SIGTERM)
            for process, _ in processes.values():
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
    rows = [{"server": name, "bytes": size, **found} for (size, name), found in sorted(best.items())]
    for row in rows:
        rivals = [other["requests_per_second"] for other in rows if other["bytes"] == row["bytes"] and other["server"] != "nearcast"]
        row["of_fastest_rival"] = row["requests_per_second"] / max(rivals) if rivals else None
    if options.json:
        print(json.dumps({"schema": "nearcast.http-bench/1", "connections": CONNECTIONS, "rows": rows}))
        return
    print(f"{'bytes':>8} {'server':15} {'requests/s':>10} {'of fastest rival':>16} {'p50 ms':>7} {'p99 ms':>7} {'CPU s/GB':>9} {'MiB':>6}")
    for row in rows:
        share = f"{row['of_fastest_rival']:.2f}" if row["of_fastest_rival"] else "-"
        print(
            f"{row['bytes']:>8} {row['server']:15} {row['requests_per_second']:>10.0f} {share:>16} {row['p50_ms']:>7.2f} "
            f"{row['p99_ms']:>7.2f} {row['cpu_seconds_per_gb']:>9.3f} {row['memory_mib']:>6.0f}")


if __name__ == "__main__":
    main()
