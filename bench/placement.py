"""Runs `nearcast replay --placement ...` and prints bench/placement.sh's tables as Markdown."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
PLACED = ["static", "reactive", "volley", "oracle"]
REGIONS = ["--regions", "us-east:-5:0.25,us-west:-8:0.15,sa-east:-3:0.12,eu-west:+1:0.22,ap-south:+5.5:0.13,ap-northeast:+9:0.13"]
# Two worlds: one in which tastes stay what they are, so that what was best in hindsight is hard to beat, and one in which
# they follow the local time of day.
FLAT = ["--requests", "1500000", "--keys", "10000", "--days", "7", *REGIONS]
SUN = ["--requests", "2000000", "--keys", "2000", "--days", "4", "--dayparts", "0.95", "--follow", "0.1", "--zipf", "1.0", *REGIONS]
# The same with a quarter of the requests, and with half of them for five times as many keys: first misses weigh more.
RARE = ["--requests", "500000", *SUN[2:]]
MANY = ["--requests", "1000000", "--keys", "10000", *SUN[4:]]
# What to print; all when not set.
ONLY = [name for name in os.environ.get("ONLY", "").split(",") if name]


def run(nearcast, *arguments):
    done = subprocess.run([nearcast, *arguments, "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def replay(nearcast, log, *flags):
    return run(nearcast, "replay", str(log), "--prefetch", "none", *flags)["cells"]


def cells(nearcast, log, *flags):
    """One cell per strategy with the share for placed replicas that it was played with."""
    found = {cell["placement"]: (None, cell) for cell in replay(nearcast, log, *flags, "--placement", "none,hash")}
    tried = [(share, "4") for share in ("0.5", "0.9", "1")] + [("0.9", hours) for hours in ("1", "168")]
    for share, hours in tried:
        placements = PLACED if hours == "4" else ["reactive"]
        knobs = ["--placed", share, "--half-life-hours", hours]
        for cell in replay(nearcast, log, *flags, "--placement", ",".join(placements), *knobs):
            best = found.get(cell["placement"])
            if best is None or cell["latency_ms"]["mean"] < best[1]["latency_ms"]["mean"]:
                found[cell["placement"]] = (f"{share}, {hours} h" if cell["placement"] == "reactive" else share, cell)
    found["gapa"] = ("default", replay(nearcast, log, *flags, "--placement", "gapa")[0])
    return found


def fetched(cell):
    return cell["peer_bytes"] + cell["origin_bytes"]


def table(title, found):
    print(f"\n{title}\n")
    print("| placement | placed share | mean ms | p50 | p75 | p95 | p99 | misses | elsewhere | between nodes | all fetched |")
    print("|" + " --- |" * 11)
    for name, (share, cell) in found.items():
        wait = cell["latency_ms"]
        numbers = " | ".join(f"{wait[part]:.1f}" for part in ("mean", "p50", "p75", "p95", "p99"))
        print(f"| {name} | {share or ''} | {numbers} | {cell['miss_ratio']:.4f} "
              f"| {cell['misses_elsewhere'] / cell['requests']:.4f} "
              f"| {cell['peer_bytes'] / 1e9:.2f} GB | {fetched(cell) / 1e9:.2f} GB |")


def bars(found):
    mean = lambda name: found[name][1]["latency_ms"]["mean"]
    below = lambda name: f"{(1 - mean('gapa') / mean(name)) * 100:+.1f} %"
    p75 = lambda name: found[name][1]["latency_ms"]["p75"]
    print(f"\ngapa's mean below: static {below('static')}, reactive {below('reactive')}, none {below('none')}, "
          f"hash {below('hash')}, volley {below('volley')}; above the oracle {(mean('gapa') / mean('oracle') - 1) * 100:+.1f} %; "
          f"p75 below volley {(1 - p75('gapa') / p75('volley')) * 100:+.1f} %; "
          f"fetched against reactive {(fetched(found['gapa'][1]) / fetched(found['reactive'][1]) - 1) * 100:+.1f} %")


def elsewhere(nearcast, log):
    flags = ["--cache", "0.03", "--instant", "--unit-size", "--warmup", "0", "--policy", "lru"]
    none, reactive, gapa = replay(nearcast, log, *flags, "--placement", "none,reactive,gapa")
    lavish = replay(nearcast, log, *flags, "--placement", "gapa", "--waste", "10")[0]
    print("\nnews, 3 % per region, --instant --unit-size --policy lru\n")
    print("| placement | misses | elsewhere, of requests | of misses | fetched, against none | against reactive |")
    print("|" + " --- |" * 6)
    for name, cell in (("none", none), ("reactive", reactive), ("gapa", gapa), ("gapa --waste 10", lavish)):
        against = lambda other: f"{(fetched(cell) / fetched(other) - 1) * 100:+.0f} %"
        print(f"| {name} | {cell['miss_ratio']:.4f} | {cell['misses_elsewhere'] / cell['requests']:.4f} "
              f"| {cell['misses_elsewhere'] / cell['misses']:.3f} | {against(none)} | {against(reactive)} |")


def offsets():
    parts = (region.split(":") for region in REGIONS[1].split(","))
    return {name: float(hours) for name, hours, _ in parts}


def pooled(hours):
    """Mean latency and misses over hours; quantiles do not add up, so theirs are means of those of hours and regions."""
    requests = sum(hour["requests"] for hour in hours)
    mean = lambda part: sum(hour[part] * hour["requests"] for hour in hours) / requests
    return f"{mean('mean_ms'):.2f} | {mean('p75_ms'):.1f} | {mean('p99_ms'):.1f} | {sum(h['misses'] for h in hours) / requests:.4f}"


def rises(hours):
    """Of each region the hour of the day whose volume is the most times that of the hour before."""
    of = {}
    for hour in hours:
        of.setdefault(hour["region"], {})[hour["hour"]] = hour
    volume = lambda day, hour: max(day[hour % 24]["requests"], 1) if hour % 24 in day else 1
    return [day[max(day, key=lambda hour: volume(day, hour) / volume(day, hour - 1))] for day in of.values()]


def turns(hours):
    """The hours in which tastes change: a part of the local day has four."""
    local = offsets()
    is_turn = lambda hour: any((hour["hour"] + part + local[hour["region"]]) % 4 == 0 for part in (0, 0.5))
    return [hour for hour in hours if is_turn(hour)]


def thin(nearcast, log, title):
    print(f"\n{title}, cache 0.1, links of which placement may take so much\n")
    print("| links | ahead | mean ms | all fetched | moved | tastes change: mean ms | p75 | p99 | misses | volume rises: mean ms | p75 | p99 | misses |")
    print("|" + " --- |" * 13)
    for share, hours in (("0.5", "4"), ("3e-5", "0"), ("3e-5", "4"), ("1e-5", "0"), ("1e-5", "4")):
        flags = ["--cache", "0.1", "--topology", str(HERE / "placement.toml"), "--link-share", share, "--ahead-hours", hours]
        cell = replay(nearcast, log, *flags, "--placement", "gapa")[0]
        print(f"| {float(share) * 50e6:.0f} B/s | {hours} h | {cell['latency_ms']['mean']:.3f} | {fetched(cell) / 1e9:.2f} GB "
              f"| {cell['prefetch']['bytes'] / 1e9:.2f} GB | {pooled(turns(cell['hours']))} | {pooled(rises(cell['hours']))} |")


def main(logs, nearcast):
    wants = lambda name: not ONLY or name in ONLY
    with tempfile.TemporaryDirectory() as folder:
        seed = os.environ.get("SEED", "1")
        for name, settings, caches in (("sun", SUN, ("0.04", "0.1")), ("flat", FLAT, ("0.03", "0.1"))):
            if not wants(name):
                continue
            log = pathlib.Path(folder, f"{name}.parquet")
            run(nearcast, "synthesize", "-o", str(log), "--seed", seed, *settings)
            for cache in caches:
                found = cells(nearcast, log, "--cache", cache, "--topology", str(HERE / "placement.toml"))
                table(f"Synthetic ({name}), six regions, cache {cache} (seed {seed})", found)
                bars(found)
        for name, settings in (("sun", SUN), ("rare", RARE), ("many", MANY)):
            if wants("thin"):
                log = pathlib.Path(folder, f"{name}.parquet")
                run(nearcast, "synthesize", "-o", str(log), "--seed", seed, *settings)
                thin(nearcast, log, f"Synthetic ({name}), six regions, seed {seed}")
    for name, cache in (("news", "0.03"), ("checkins", "0.1")):
        log = logs / f"{name}.parquet"
        if wants(name) and log.exists():
            found = cells(nearcast, log, "--cache", cache)
            table(f"{name}, cache {cache}", found)
            bars(found)
    if wants("elsewhere") and (logs / "news.parquet").exists():
        elsewhere(nearcast, logs / "news.parquet")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
