#!/usr/bin/env python3
"""Scores of federations of four hospitals on chest X-rays, through the demo; medians over seeds.

    cargo build --release
    python3 benches/accuracy.py DATA SHARES.csv [--seeds 1,2,3] [--epsilons 8,3]

With the demo's own settings. DATA is a folder {train,val,test}/<class>/*.png. For each seed and the
first epsilon the demo trains the hospitals alone without privacy, together without, together with. For
the other epsilons only the private study counts, so the other runs take the small network. Last, each
hospital is a federation of one: what it reaches alone at the first epsilon. Needs Python 3, no packages.
All scores are of the test part, which is not for choosing settings.
"""
import argparse, csv, json, os, shutil, statistics, subprocess, sys, tempfile

BINARY = os.path.join(os.path.dirname(__file__), "..", "target", "release", "consilium")


SMALL = ("--network", "cnn-small")


def demo(folder, data, sites, seed, epsilon, *more):
    command = [BINARY, "demo", "--json", "--dir", folder, "--data", data, "--sites", str(sites),
               "--seed", str(seed), "--epsilon", str(epsilon), "--delta", "1e-5", *more]
    if sites < 3:
        command.append("--no-secure-aggregation")
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"{' '.join(command)}\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.strip().splitlines()[-1])


def one_hospital(federation, number, folder):
    """The data of one hospital as a set of its own, with the public parts beside it."""
    data = os.path.join(federation, f"hospital-{number}", "data")
    with open(os.path.join(data, "labels.csv"), newline="") as table:
        for row in csv.DictReader(table):
            target = os.path.join(folder, "train", row["label"])
            os.makedirs(target, exist_ok=True)
            shutil.copy(os.path.join(data, "images", row["path"]), target)
    for part in ("val", "test"):
        shutil.copytree(os.path.join(federation, "public", part), os.path.join(folder, part))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("shares")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epsilons", default="8,3")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    found = {}

    def note(name, scores):
        found.setdefault(name, []).append((scores["auc"], scores["accuracy"]))
        print(json.dumps({"run": name, **scores}), flush=True)

    with tempfile.TemporaryDirectory() as root:
        epsilons = [float(epsilon) for epsilon in args.epsilons.split(",")]
        for epsilon, seed in [(epsilon, seed) for epsilon in epsilons for seed in seeds]:
            folder = os.path.join(root, f"{epsilon}-{seed}")
            is_first = epsilon == epsilons[0]
            dealt = ("--split", "dirichlet", "--shares", args.shares, *(() if is_first else SMALL))
            result = demo(folder, args.data, 4, seed, epsilon, *dealt)
            assert result["together_private"]["epsilon"] <= epsilon
            note(f"together, epsilon {epsilon:g}", result["together_private"])
            if not is_first:
                continue
            note("together, no privacy", {**result["together"], "seconds": result["seconds"]})
            for alone in result["alone"]:
                note(f"{alone['site']} alone, no privacy", alone)
            for number in range(1, 5):
                single = os.path.join(root, f"single-{seed}-{number}")
                one_hospital(folder, number, single)
                alone = demo(single + "-run", single, 1, seed, epsilon, *SMALL)
                assert alone["together_private"]["epsilon"] <= epsilon
                note(f"hospital-{number} alone, epsilon {epsilon:g}", alone["together_private"])

    print("\n| run | median AUC | median accuracy | runs |\n|---|---|---|---|")
    for name in sorted(found):
        aucs, accuracies = zip(*found[name])
        auc, accuracy = statistics.median(aucs), statistics.median(accuracies)
        print(f"| {name} | {auc:.3f} | {accuracy:.3f} | {len(aucs)} |")


if __name__ == "__main__":
    main()
