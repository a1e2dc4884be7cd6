"""What a fleet needs and what breaks first, from measured constants; and the replay of many nodes (bench/scale.sh).

    bench/scale.py model [--json] [--set fleet.nodes=200 …]     # docs/scale.md's tables
    bench/scale.py constants                                   # the constants and where they come from
    bench/scale.py replay NEARCAST                             # see bench/scale.sh

Needs Python 3.11 and nothing else. Constants and fleet are in bench/scale.toml.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).parent
GB = 1e9
DAY = 86_400


def settings(changes):
    """bench/scale.toml as numbers, with changes such as `fleet.nodes=200`."""
    tables = tomllib.loads((HERE / "scale.toml").read_text())
    tables["constants"] = {name: constant["value"] for name, constant in tables["constants"].items()}
    for change in changes:
        place, _, value = change.partition("=")
        table, _, name = place.partition(".")
        if name not in tables.get(table, {}):
            sys.exit(f"error: `{change}` names nothing in bench/scale.toml; give fleet.NAME, defaults.NAME or constants.NAME, =NUMBER")
        try:
            tables[table][name] = float(value)
        except ValueError:
            sys.exit(f"error: `{value}` of `{change}` is no number")
    return tables["fleet"], tables["defaults"], tables["constants"]


def needs(fleet, defaults, c):
    """What the fleet takes, in order of a request's way: (what, amount, unit, how it comes about)."""
    rate, nodes = fleet["requests_per_second"], fleet["nodes"]
    per_node, misses = rate / nodes, 1 - fleet["hit_ratio"]
    # Of an answer's processor time, a part goes with its bytes and a part with the request.
    per_byte = c["node_seconds_per_gigabyte_1m"] / GB
    per_request = 1 / c["node_hits_per_core_10k"] - 10_240 * per_byte
    answer = per_request + fleet["object_bytes"] * per_byte
    route = misses * (c["route_microseconds_1000_nodes"] if nodes > 64 else c["route_microseconds_64_nodes"]) / 1e6
    # The constants are of keys of 23 and 25 bytes.
    event = c["wire_bytes_per_event"] + fleet["key_bytes"] - 25
    key = c["engine_bytes_per_key"] + fleet["key_bytes"] - 23
    map_bytes = nodes * c["wire_bytes_per_member"]
    return [
        ("node: requests", per_node, "/s", "of each node"),
        ("node: cores", per_node * (answer + route), "cores", "answers with their bytes, and routing of misses"),
        ("node: network out", per_node * fleet["object_bytes"] * 8 / 1e9, "Gbit/s", "answers"),
        ("node: memory for entries", fleet["entries_per_node"] * c["node_bytes_per_entry"] / GB, "GB", "beside store.memory"),
        ("node: restart", fleet["entries_per_node"] / 1e6 * c["node_restart_seconds_per_million_entries"], "s", "until what it held is taken up"),
        ("origin: requests", rate * misses, "/s", "at most: homes by hashing ask once for everybody"),
        ("request logs", rate * DAY * c["log_bytes_per_row"] / 1e12, "TB/day", "Parquet, all nodes together"),
        ("log stream", rate * event * 8 / 1e9, "Gbit/s", "all nodes together, to the predictors"),
        ("predictor: cores", rate / per_core(fleet, c), "cores", "one arm"),
        ("predictor: cores, two arms", rate / per_core(fleet, c, arms=2), "cores", "during an experiment"),
        ("predictor: memory for keys", fleet["keys"] * key / GB, "GB", "each predictor that sees all keys"),
        ("predictor: memory for clients", fleet["clients"] * c["engine_bytes_per_client"] / GB, "GB", "all predictors together: a client is one's"),
        ("predictor: memory for ghosts", nodes * defaults["engine_ghost_entries_max"] * c["engine_bytes_per_ghost_entry"] / GB, "GB", "each predictor"),
        ("commands", rate * fleet["orders_per_request"], "/s", "all nodes together"),
        ("membership map", nodes * map_bytes / GB, "GB", "sent by the predictor for one node that comes or goes"),
        ("placement: 10,000 changes", 10_000 * nodes / (c["map_changes_per_second"] * 13), "s", "until the last node has them, at what 13 nodes and the predictor did on two cores"),
        ("log batches", nodes * batches(fleet, defaults), "/s", "all nodes together, as they send them by default"),
        ("NATS", rate * event / (c["nats_batches_per_second"] * c["nats_batch_bytes"]), "servers", "that take batches of 64 KiB, without copies"),
    ]


def per_core(fleet, c, arms=1):
    """Requests a second that a core learns. What a bus costs is the same for one arm and two."""
    seconds = 1 / c["predictor_events_per_core" if arms == 1 else "predictor_events_per_core_two_arms"]
    if fleet["predictors"] > 1:
        seconds += 1 / c["predictor_events_per_core_nats"] - 1 / c["predictor_events_per_core"]
    return 1 / seconds


def batches(fleet, defaults):
    """Batches a second of one node: a batch is full, or its first event has waited long enough."""
    per_node = fleet["requests_per_second"] / fleet["nodes"]
    waited = min(per_node, 1 / defaults["predictor_flush_interval_seconds"])
    return max(per_node / defaults["predictor_batch_max"], waited)


def limits(fleet, defaults, c):
    """What holds until when as things are by default: (what, holds until, unit, share of it that the fleet takes, what one sees, knob)."""
    rate, nodes, regions = fleet["requests_per_second"], fleet["nodes"], fleet["regions"]
    event = c["wire_bytes_per_event"] + fleet["key_bytes"] - 25
    queue_seconds = defaults["predictor_queue_max"] / (rate / nodes)
    rows = [
        ("keys remembered by the engine", defaults["engine_keys_max"], "keys", fleet["keys"], "`account.bounds.keys_forgotten` in /status grows: those idle longest go", "`engine.keys_max`; memory"),
        ("clients remembered by the engines", fleet["predictors"] * defaults["engine_clients_max"], "clients", fleet["clients"], "sessions begin anew", "`engine.clients_max`; memory; more predictors"),
        ("events learned by the predictors", fleet["predictors"] * per_core(fleet, c), "requests/s", rate, "`NearcastEngineBehind`, alone `NearcastLogLost` too: orders come late, nodes drop events and serve", "more predictors, which need the bus; else fewer nodes that name a predictor"),
        ("requests counted by who places keys", c["placing_events_per_core"], "requests/s", rate, "`nearcast_fleet_lost_records_total` of its member: demand is counted from what is left", "`placement.kind = \"none\"`; a share of the partitions would be a sample, and is not built"),
        ("nodes with placed keys", defaults["placement_nodes"], "nodes", nodes, "further nodes are routed to by hashing alone", "none: a fleet of its own with a predictor of its own"),
        ("regions told apart by placement", defaults["placement_regions_max"], "regions", regions, "later ones share the last number", "`placement.regions_max`, at most 64, or a topology that names them"),
        ("nodes known to the engine", defaults["engine_nodes_max"], "nodes", nodes, "`nearcast_predictor_streams_refused_total{reason=\"too_many_nodes\"}`: the others stay without a predictor", "`engine.nodes_max`, at most 1,024"),
        ("regions told apart by the engine", defaults["engine_regions_max"], "regions", regions, "`account.bounds.regions_shared`", "`engine.regions_max`, at most 1,024"),
        ("members that nodes know", defaults["members_max"], "nodes", nodes, "those beyond are not routed to", "none; names of nodes that never come back count as well"),
        ("entries of a node", defaults["index_entries_max"], "entries", fleet["entries_per_node"], "evictions though bytes are free", "`index.entries_max`; memory"),
        ("a pause of the predictor of one second, without loss", queue_seconds, "s", 1.0, "`NearcastLogLost`", "`predictor.queue_max` of the node: that many events"),
        ("one NATS server", c["nats_batches_per_second"] * c["nats_batch_bytes"] / event, "requests/s", rate, "publishers spool within their bound, and count what does not fit", "streams on more servers"),
        ("batches of one NATS server", c["nats_batches_per_second"], "batches/s", nodes * batches(fleet, defaults), "publishers spool within their bound, and count what does not fit", "`predictor.flush_interval` and `batch_max` of the node: a batch of 64 KiB has some 780 events"),
    ]
    return sorted(((name, limit, unit, asked / limit, seen, knob) for name, limit, unit, asked, seen, knob in rows), key=lambda row: -row[3])


def model(arguments):
    as_json = "--json" in arguments
    changes = [change for change in arguments if change not in ("--json", "--set")]
    fleet, defaults, constants = settings(changes)
    needed, held = needs(fleet, defaults, constants), limits(fleet, defaults, constants)
    if as_json:
        print(json.dumps({
            "schema": "nearcast.scale/1",
            "fleet": fleet,
            "constants": constants,
            "needs": [dict(zip(("what", "amount", "unit", "note"), row)) for row in needed],
            "limits": [dict(zip(("what", "limit", "unit", "asked_of_limit", "seen_as", "knob"), row)) for row in held],
        }, indent=2))
        return
    print(", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in fleet.items()) + "\n")
    table(["what the fleet takes", "", "", ""], [(what, number(amount), unit, note) for what, amount, unit, note in needed])
    print()
    rows = [(what, f"{number(limit)} {unit}", f"{number(share)} ×", seen, knob) for what, limit, unit, share, seen, knob in held]
    table(["what breaks first", "holds until", "asked of it", "what one sees", "knob"], rows)


def constants(_arguments):
    tables = tomllib.loads((HERE / "scale.toml").read_text())
    rows = [(name, number(it["value"]), it["unit"], it["from"]) for name, it in tables["constants"].items()]
    table(["constant", "", "", "from"], rows)


def replay(arguments):
    """Makes a log of many regions and replays it cell by cell, so that time and memory are each cell's own."""
    nearcast = arguments[0]
    regions, requests = int(os.environ.get("REGIONS", "200")), os.environ.get("REQUESTS", "500000")
    keys, cache = os.environ.get("KEYS", "50000"), os.environ.get("CACHE", "0.01")
    names = ",".join(f"r{number:04}:{number % 24 - 12:+d}:{1 / regions:.8f}" for number in range(regions))
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log.parquet"
        made = ["synthesize", "-o", log, "--requests", requests, "--keys", keys, "--clients", "20000", "--days", "1", "--seed", "7", f"--regions={names}"]
        subprocess.run([nearcast, *made], check=True, stdout=subprocess.DEVNULL)
        print(f"{regions} regions of one node each, {int(requests):,} requests, {int(keys):,} keys, {float(cache) * 100:g} % of all bytes a node\n")
        rows = []
        for placement in ("none", "hash"):
            for prefetch in ("none", "nearcast"):
                flags = ["--prefetch", prefetch, "--placement", placement, "--cache", cache, "--json"]
                started = time.monotonic()
                run = subprocess.run([nearcast, "replay", log, *flags], check=True, stdout=subprocess.PIPE)
                rows.append(replayed(json.loads(run.stdout), time.monotonic() - started))
        table(["placement", "prefetch", "misses", "mean ms", "extra fetch", "orders a request", "s in all", "requests/s", "peak MiB"], rows)


def replayed(report, seconds):
    """A row: a cell with prefetching is compared with one without, which is played at the same time."""
    cell, issued = report["cells"][0], report["cells"][0]["prefetch"]["issued"]
    return (cell["placement"], cell["prefetcher"], f"{cell['miss_ratio']:.3f}", f"{cell['latency_ms']['mean']:.1f}",
            f"{cell['extra_fetch_ratio'] * 100:+.1f} %", f"{issued / cell['requests']:.2f}", f"{seconds:.0f}",
            number(cell["events_per_second"]), f"{cell['peak_rss_bytes'] / 2**20:.0f}")


def number(value):
    if value == 0:
        return "0"
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.4g} million"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(header, rows):
    print("|", " | ".join(header), "|")
    print("|", " | ".join("---" for _ in header), "|")
    for row in rows:
        print("|", " | ".join(row), "|")


if __name__ == "__main__":
    verbs = {"model": model, "constants": constants, "replay": replay}
    if len(sys.argv) < 2 or sys.argv[1] not in verbs or sys.argv[1] == "replay" and len(sys.argv) != 3:
        sys.exit(__doc__)
    verbs[sys.argv[1]](sys.argv[2:])
