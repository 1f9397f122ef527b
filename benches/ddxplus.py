#!/usr/bin/env python3
"""Accuracy on DDXPlus from the complaint alone and after each question, by epsilon; medians over seeds.

    cargo build --release
    python3 benches/ddxplus.py DATA [--epsilons none,8,3,1] [--seeds 1,2,3] [--questions 10]
    python3 benches/ddxplus.py DATA --plan > examples/ddxplus.toml

DATA holds ddxplus/ (public.jsonl, release_evidences.json, release_conditions.json). Patients are ordered by the
SHA-256 of "shard-2026|ddxplus|<id>"; the last fifth is asked, the others are dealt out to four hospitals in turn. A
column for each yes-no question, scale and choice of the code book, and for each value of a question that takes
several; age and sex. Every run is a `consilium study simulate` of examples/ddxplus.toml with another epsilon and
seed. Age, sex and the complaint that a patient came with are known before the first question. Needs Python 3, no
packages.
"""
import argparse, csv, hashlib, json, os, re, statistics, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BINARY = os.path.join(HERE, "..", "target", "release", "consilium")
PLAN = os.path.join(HERE, "..", "examples", "ddxplus.toml")
HOSPITALS = 4
AGES = [1, 5, 15, 30, 45, 60, 75]

HEAD = """\
# Diagnosis from answers to questions: counts of what was found, by disease, over four hospitals. The questions, their
# answers and the diseases are those of the code book of DDXPlus (Fansi Tchango et al. 2022, arXiv 2205.09148);
# `benches/ddxplus.py --plan` writes this file. A patient adds 1 to the disease and to at most 14 findings, so no
# patient moves the counts by more than the root of 15, which is the clipping norm.

name = "questions"
task = "diagnosis"
data_set = "ddxplus"
classes = [
{classes}
]
seed = 1
rounds = 1

[cohort]
size = 4
quorum = 3

[table]
columns = [
{columns}
]

[network]
name = "naive-bayes"
most = 14

[training]
steps = 1
batch_size = 2156
learning_rate = 1.0

[strategy]
name = "sum"

[privacy]
clipping_norm = 3.873
epsilon = 8.0
delta = 1e-5
"""


def load(data, name):
    with open(os.path.join(data, "ddxplus", name)) as file:
        return [json.loads(line) for line in file] if name.endswith("l") else json.load(file)


def edges_by_column(evidences):
    """Edges of each column's bins. The first bin is the usual answer."""
    columns = {"age": AGES, "male": [0.5]}
    for name, evidence in evidences.items():
        values = [str(value) for value in evidence["possible-values"]]
        if evidence["data_type"] == "M":
            usual = str(evidence["default_value"])
            columns.update({f"{name}_@_{value}": [0.5] for value in values if value != usual})
        else:
            columns[name] = [at + 0.5 for at in range(max(len(values) - 1, 1))]
    return columns


def row(patient, evidences, columns):
    cells = dict.fromkeys(columns, 0)
    cells["age"], cells["male"] = patient["age"], int(patient["sex"] == "M")
    for found in patient["evidences"]:
        name, _, value = found.partition("_@_")
        evidence = evidences[name]
        if evidence["data_type"] == "C":
            usual = str(evidence["default_value"])
            others = [str(other) for other in evidence["possible-values"] if str(other) != usual]
            cells[name] = 0 if value == usual else 1 + others.index(value)
        elif found in cells:
            cells[found] = 1
    return [patient["pathology"], patient["initial_evidence"], *cells.values()]


def packed(items):
    """Lines of a list in TOML, filled up to the usual width."""
    lines = [""]
    for item in items:
        if len(lines[-1]) + len(item) > 105:
            lines.append("")
        lines[-1] += f" {item},"
    return "\n".join("   " + line for line in lines)


def plan(data):
    classes = packed(json.dumps(name, ensure_ascii=False) for name in sorted(load(data, "release_conditions.json")))
    columns = edges_by_column(load(data, "release_evidences.json"))
    columns = packed(f'{{ name = "{name}", edges = {json.dumps(edges)} }}' for name, edges in columns.items())
    return HEAD.format(classes=classes, columns=columns)


def tables(data, folder):
    """One table a hospital, and one of the patients who are asked."""
    evidences = load(data, "release_evidences.json")
    columns = edges_by_column(evidences)
    patients = load(data, "public.jsonl")
    key = lambda patient: hashlib.sha256(f"shard-2026|ddxplus|{patient['id']}".encode()).hexdigest()
    patients.sort(key=key)
    cut = len(patients) * 8 // 10
    parts = [patients[hospital:cut:HOSPITALS] for hospital in range(HOSPITALS)] + [patients[cut:]]
    files = []
    for at, part in enumerate(parts):
        files.append(os.path.join(folder, f"{at}.csv"))
        with open(files[-1], "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["pathology", "initial_evidence", *columns])
            table.writerows(row(patient, evidences, columns) for patient in part)
    return files[:-1], files[-1]


def simulate(folder, sites, score, epsilon, seed, questions):
    with open(PLAN) as file:
        text = file.read()
    text = text.replace("\nseed = 1\n", f"\nseed = {seed}\n")
    privacy = 'mode = "none"\n'
    if epsilon != "none":
        privacy = f"clipping_norm = 3.873\nepsilon = {float(epsilon)}\ndelta = 1e-5\n"
    text = re.sub(r"\[privacy\]\n.*", "[privacy]\n" + privacy, text, flags=re.DOTALL)
    path = os.path.join(folder, "plan.toml")
    with open(path, "w") as file:
        file.write(text)
    command = [BINARY, "study", "simulate", path, "--score", score, "--target", "pathology", "--questions",
               str(questions), "--known", "age,male", "--complaint", "initial_evidence", "--json"]
    for site in sites:
        command += ["--site", site]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--epsilons", default="none,8,3,1")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--questions", type=int, default=10)
    options = parser.parse_args()
    if options.plan:
        print(plan(options.data), end="")
        return
    asked = range(options.questions + 1)
    with tempfile.TemporaryDirectory() as folder:
        sites, score = tables(options.data, folder)
        print("| privacy | ε | all answers | " + " | ".join(f"{at}" for at in asked) + " |")
        print("|---" * (len(asked) + 3) + "|")
        for epsilon in options.epsilons.split(","):
            runs = [simulate(folder, sites, score, epsilon, seed, options.questions)
                    for seed in options.seeds.split(",")]
            spent = runs[0]["epsilon"]
            shares = [statistics.median(run["accuracy_by_questions"][at] for run in runs) for at in asked]
            whole = statistics.median(run["scores"]["accuracy"] for run in runs)
            name = "none" if epsilon == "none" else f"ε ≤ {epsilon}"
            cells = [name, f"{spent:.2f}" if spent else "–", f"{whole:.3f}"] + [f"{share:.3f}" for share in shares]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
