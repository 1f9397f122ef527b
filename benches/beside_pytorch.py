#!/usr/bin/env python3
"""Training steps beside PyTorch and Opacus on the same processor, in the same run.

    cargo build --release
    python3 benches/beside_pytorch.py PYTHON SCRIPTS [--networks ...] [--batches 32,256] [--threads 1,2] [--turns 5]

PYTHON is an interpreter with torch, opacus and psutil; SCRIPTS holds `local_training.py` and the networks' definitions
in PyTorch. For each network, batch and number of threads the two take turns: one measurement of each of the peer's
modes, then one of `consilium bench training`. Figures are processor seconds per 1000 examples, so that other work on
the machine falls on neither; medians over turns, ratios within a turn. Needs Python 3, no packages of its own.
"""
import argparse, json, os, statistics, subprocess, sys

BINARY = os.path.join(os.path.dirname(__file__), "..", "target", "release", "consilium")

PEERS = {"cnn-small": "cnn28", "cnn": "cnn128", "resnet-gn": "resnet_gn", "text": "text"}
PRIVATE = ("hooks", "ghost", "opfunc", "vmap")


def last_object(command, **more):
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    if run.returncode:
        sys.exit(f"{' '.join(command)}\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.strip().splitlines()[-1])


def peer(args, network, batch, threads, skip):
    """The peer's modes, by name; those that cannot run (too slow, too much memory) are left out for good."""
    modes = ",".join(mode for mode in ("sgd", *PRIVATE) if mode not in skip)
    result = last_object(
        [args.python, "local_training.py", "--models", PEERS[network], "--modes", modes, "--batches", str(batch),
         "--threads", str(threads), "--rounds", "1", "--seconds", "1"], cwd=args.scripts)
    found = {}
    for row in result["rows"]:
        if "skipped" in row:
            skip[row["mode"]] = row["skipped"]
        else:
            found[row["mode"]] = row
    return found


def ours(network, batch, threads):
    return last_object([BINARY, "bench", "training", "--json", "--networks", network, "--batches", str(batch),
                        "--threads", str(threads), "--turns", "1"])


def cell(args, network, batch, threads):
    skip, turns = {}, []
    for _ in range(args.turns):
        turns.append((ours(network, batch, threads), peer(args, network, batch, threads, skip)))
    median = statistics.median
    modes = [mode for mode in PRIVATE if all(mode in theirs for _, theirs in turns)]
    cost = {mode: median(theirs[mode]["cpu_s_per_1k"] for _, theirs in turns) for mode in ("sgd", *modes)}
    best = min(modes, key=cost.get)
    leanest = min(modes, key=lambda mode: median(theirs[mode]["peak_rss_mb"] for _, theirs in turns))
    row = {
        "network": network, "batch": batch, "threads": threads,
        "ours_plain": median(mine["plain_cpu_s_per_1k"] for mine, _ in turns),
        "ours_private": median(mine["private_cpu_s_per_1k"] for mine, _ in turns),
        "torch_plain": cost["sgd"], "torch_private": cost[best], "torch_private_mode": best,
        "faster_than_private": median(theirs[best]["cpu_s_per_1k"] / mine["private_cpu_s_per_1k"]
                                      for mine, theirs in turns),
        "faster_than_plain": median(theirs["sgd"]["cpu_s_per_1k"] / mine["private_cpu_s_per_1k"]
                                    for mine, theirs in turns),
        "examples_per_s": median(mine["private_examples_per_s"] for mine, _ in turns),
        "torch_examples_per_s": median(theirs[best]["ex_s"] for _, theirs in turns),
        "peak_mb": median(mine["peak_memory_mb"] for mine, _ in turns),
        "torch_peak_mb": median(theirs[leanest]["peak_rss_mb"] for _, theirs in turns),
        "torch_import_mb": median(theirs[leanest]["import_rss_mb"] for _, theirs in turns),
        "skipped": skip,
    }
    print(json.dumps(row), flush=True)
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("python")
    parser.add_argument("scripts")
    parser.add_argument("--networks", default="cnn-small,resnet-gn,text,cnn")
    parser.add_argument("--batches", default="32,256")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    args.python = os.path.abspath(args.python)
    rows = [cell(args, network, int(batch), int(threads)) for network in args.networks.split(",")
            for batch in args.batches.split(",") for threads in args.threads.split(",")]
    print("\n| network | batch | threads | ours, ordinary | ours, private | PyTorch, ordinary | PyTorch, private (best) "
          "| private: times faster | than PyTorch's ordinary | peak memory | PyTorch's (leanest) |")
    print("|" + "---|" * 11)
    for row in rows:
        print("| `{network}` | {batch} | {threads} | {ours_plain:.3g} | {ours_private:.3g} | {torch_plain:.3g} | "
              "{torch_private:.3g} ({torch_private_mode}) | {faster_than_private:.2f} | {faster_than_plain:.2f} | "
              "{peak_mb:.0f} MB | {torch_peak_mb:.0f} MB |".format(**row))


if __name__ == "__main__":
    main()
