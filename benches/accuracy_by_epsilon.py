#!/usr/bin/env python3
"""Scores of federations of four hospitals by data set, network and epsilon; medians over seeds.

    cargo build --release
    python3 benches/accuracy_by_epsilon.py DATA [--tune] [--sets ...] [--networks ...] [--epsilons inf,8,3,1]
                                           [--seeds 1,2,3] [--picture FILE.svg]

DATA holds pneumoniamnist/, breastmnist/ (each {train,val,test}/<class>/*.png below png/) and
shards/dirichlet_a05.csv. Every run is a `consilium study simulate`: the agents' training, charges and noise, the
coordinator's strategy, one process. Without --tune the settings below are scored on the test part; with it the
candidates are scored on the validation part, the best first, and the test part is not opened. Needs Python 3, no
packages.
"""
import argparse, itertools, json, os, statistics, subprocess, sys, tempfile

BINARY = os.path.join(os.path.dirname(__file__), "..", "target", "release", "consilium")

CLASSES = {"pneumoniamnist": ("normal", "pneumonia"), "breastmnist": ("malignant", "normal_or_benign")}
SIZES = {"resnet-gn": "width = 8\ndepth = 3\n"}
AUGMENT = {
    "none": "",
    "some": 'augment = [{ step = "shift", max_pixels = 2 }, { step = "contrast", max_factor = 1.5 }]\n',
    "much": 'augment = [{ step = "rotate", max_degrees = 8.0 }, { step = "shift", max_pixels = 2 }, '
            '{ step = "contrast", max_factor = 2.0 }, { step = "noise", deviation = 0.03 }]\n',
}

# Rounds, steps, batch, learning rate, momentum of the coordinator, augmentation; the best of --tune.
CHOSEN = {
    ('pneumoniamnist', 'cnn-small', 'inf'): (40, 3, 128, 0.1, 0.9, 'much'),  # 0.983 on validation
    ('pneumoniamnist', 'cnn-small', '8'): (60, 4, 256, 0.2, 0.8, 'some'),  # 0.980 on validation
    ('pneumoniamnist', 'cnn-small', '3'): (60, 4, 128, 0.1, 0.8, 'some'),  # 0.978 on validation
    ('pneumoniamnist', 'cnn-small', '1'): (30, 4, 256, 0.1, 0.8, 'some'),  # 0.967 on validation
    ('breastmnist', 'cnn-small', 'inf'): (40, 3, 64, 0.05, 0.9, 'much'),  # 0.795 on validation
    ('breastmnist', 'cnn-small', '8'): (30, 4, 128, 0.1, 0.8, 'some'),  # 0.763 on validation
    ('breastmnist', 'cnn-small', '3'): (30, 4, 64, 0.1, 0.8, 'some'),  # 0.628 on validation
    ('breastmnist', 'cnn-small', '1'): (30, 4, 64, 0.4, 0.8, 'some'),  # 0.617 on validation
    ('pneumoniamnist', 'scatter-cnn', 'inf'): (40, 3, 128, 0.1, 0.9, 'much'),  # 0.993 on validation
    ('pneumoniamnist', 'scatter-cnn', '8'): (30, 4, 128, 0.25, 0.8, 'some'),  # 0.985 on validation
    ('pneumoniamnist', 'scatter-cnn', '3'): (30, 4, 128, 0.25, 0.8, 'some'),  # 0.965 on validation
    ('pneumoniamnist', 'scatter-cnn', '1'): (30, 4, 128, 0.25, 0.8, 'some'),  # 0.889 on validation
    ('pneumoniamnist', 'resnet-gn', 'inf'): (40, 3, 128, 0.1, 0.9, 'much'),  # 0.974 on validation
    ('pneumoniamnist', 'resnet-gn', '8'): (30, 4, 128, 1.0, 0.8, 'some'),  # 0.936 on validation
    ('pneumoniamnist', 'resnet-gn', '3'): (30, 4, 128, 0.5, 0.8, 'some'),  # 0.876 on validation
    ('pneumoniamnist', 'resnet-gn', '1'): (30, 4, 128, 0.5, 0.8, 'some'),  # 0.821 on validation
    ('breastmnist', 'scatter-cnn', 'inf'): (40, 3, 64, 0.1, 0.9, 'much'),  # 0.918 on validation
    ('breastmnist', 'scatter-cnn', '8'): (30, 4, 64, 0.5, 0.8, 'some'),  # 0.664 on validation
    ('breastmnist', 'scatter-cnn', '3'): (30, 4, 64, 0.5, 0.8, 'some'),  # 0.644 on validation
    ('breastmnist', 'scatter-cnn', '1'): (30, 4, 64, 0.5, 0.8, 'some'),  # 0.648 on validation
    ('breastmnist', 'resnet-gn', 'inf'): (40, 3, 64, 0.2, 0.9, 'much'),  # 0.807 on validation
    ('breastmnist', 'resnet-gn', '8'): (30, 4, 64, 0.5, 0.8, 'some'),  # 0.595 on validation
    ('breastmnist', 'resnet-gn', '3'): (30, 4, 64, 1.0, 0.8, 'some'),  # 0.609 on validation
    ('breastmnist', 'resnet-gn', '1'): (30, 4, 64, 1.0, 0.8, 'some'),  # 0.465 on validation
}


def candidates(data_set, network, epsilon):
    """What --tune tries."""
    if epsilon == "inf":
        rates = {"cnn-small": (0.05, 0.1, 0.2), "resnet-gn": (0.1, 0.2), "scatter-cnn": (0.05, 0.1)}
        rounds, batches, momentum, augment = ((40, 3),), (128,), 0.9, "much"
    else:
        rates = {"cnn-small": (0.1, 0.2, 0.4), "resnet-gn": (0.5, 1.0), "scatter-cnn": (0.25, 0.5)}
        rounds, batches, momentum, augment = ((30, 4),), (128,), 0.8, "some"
        if network == "cnn-small":
            rounds, batches = ((60, 4), (30, 4)), (128, 256)
    if data_set == "breastmnist":
        # The largest hospital has 156 images.
        batches = tuple(batch // 2 for batch in batches)
    for (rounds, steps), batch, rate in itertools.product(rounds, batches, rates[network]):
        yield rounds, steps, batch, rate, momentum, augment


def plan(data_set, network, epsilon, settings, seed):
    rounds, steps, batch, rate, momentum, augment = settings
    name = "without privacy" if epsilon == "inf" else f"epsilon {epsilon}"
    privacy = 'mode = "none"\n'
    if epsilon != "inf":
        privacy = f"clipping_norm = 1.0\nepsilon = {float(epsilon)}\ndelta = 1e-5\n"
    classes = ", ".join(f'"{name}"' for name in CLASSES[data_set])
    return (f'name = "{name}"\ntask = "image-classification"\ndata_set = "chest"\nclasses = [{classes}]\n'
            f"seed = {seed}\nrounds = {rounds}\nsecure_aggregation = false\n"
            f"[cohort]\nsize = 4\n[image]\nwidth = 28\nheight = 28\nchannels = 1\n{AUGMENT[augment]}"
            f'[network]\nname = "{network}"\n{SIZES.get(network, "")}'
            f"[training]\nsteps = {steps}\nbatch_size = {batch}\nlearning_rate = {float(rate)}\n"
            f'[strategy]\nname = "fed-avg-m"\nmomentum = {momentum}\n[privacy]\n{privacy}')


def simulate(data, data_set, texts, part, *more):
    """Runs plans one after the other and gives what each came to."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, text in enumerate(texts):
            files.append(os.path.join(folder, f"{number}.toml"))
            with open(files[-1], "w") as file:
                file.write(text)
        command = [BINARY, "study", "simulate", *files, "--data", os.path.join(data, data_set, "png"),
                   "--split", "dirichlet", "--shares", os.path.join(data, "shards", "dirichlet_a05.csv"),
                   "--part", part, "--json", *more]
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if run.returncode:
            sys.exit(f"{' '.join(command)}\n{run.stderr[-2000:]}")
        return [json.loads(line) for line in run.stdout.splitlines()]


def median(runs, score):
    return statistics.median(run["scores"][score] for run in runs)


def tune(data, cells, seeds):
    for cell in cells:
        data_set, network, epsilon = cell
        found = []
        for settings in candidates(*cell):
            runs = simulate(data, data_set, [plan(*cell, settings, seed) for seed in seeds], "val")
            found.append((median(runs, "auc"), median(runs, "loss"), settings, sum(run["seconds"] for run in runs)))
            print(json.dumps({"cell": cell, "auc": found[-1][0], "loss": found[-1][1], "settings": settings,
                              "seconds": found[-1][3]}), flush=True)
        best = max(found, key=lambda row: (round(row[0], 3), -row[1]))
        print(f"    {cell!r}: {best[2]!r},  # {best[0]:.3f} on validation", flush=True)


def table(data, cells, seeds, picture):
    found = {}
    for cell in cells:
        runs = simulate(data, cell[0], [plan(*cell, CHOSEN[cell], seed) for seed in seeds], "test")
        assert cell[2] == "inf" or all(run["epsilon"] <= float(cell[2]) for run in runs)
        found[cell] = runs
        print(json.dumps({"cell": cell, "auc": [run["scores"]["auc"] for run in runs],
                          "accuracy": [run["scores"]["accuracy"] for run in runs],
                          "seconds": [run["seconds"] for run in runs]}), flush=True)
    epsilons = list(dict.fromkeys(cell[2] for cell in cells))
    print("\n| data set | network | " + " | ".join(f"ε = {e.replace('inf', '∞')}" for e in epsilons) + " |")
    print("|---|---|" + "---|" * len(epsilons))
    for data_set, network in dict.fromkeys(cell[:2] for cell in cells):
        row = []
        for epsilon in epsilons:
            runs = found[data_set, network, epsilon]
            aucs = [run["scores"]["auc"] for run in runs]
            row.append(f"{median(runs, 'auc'):.3f} ({min(aucs):.3f}–{max(aucs):.3f}) / {median(runs, 'accuracy'):.3f}")
        print(f"| {data_set} | `{network}` | " + " | ".join(row) + " |")
    if picture:
        data_set, network, _ = cells[0]
        texts = [plan(data_set, network, epsilon, CHOSEN[data_set, network, epsilon], seeds[0]) for epsilon in epsilons]
        simulate(data, data_set, texts, "test", "--picture", picture)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--sets", default="pneumoniamnist,breastmnist")
    parser.add_argument("--networks", default="cnn-small,resnet-gn,scatter-cnn")
    parser.add_argument("--epsilons", default="inf,8,3,1")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--picture", metavar="FILE.svg", help="learning curves of the first set and network")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    cells = list(itertools.product(*(text.split(",") for text in (args.sets, args.networks, args.epsilons))))
    if args.tune:
        tune(args.data, cells, seeds)
    else:
        table(args.data, cells, seeds, args.picture)


if __name__ == "__main__":
    main()
