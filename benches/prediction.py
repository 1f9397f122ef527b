#!/usr/bin/env python3
"""Answers of a model beside onnxruntime on the same file, processor and number of threads, in the same run.

    cargo build --release
    python3 benches/prediction.py PYTHON [--threads 1,2] [--turns 5] [--seconds 3]

PYTHON is an interpreter with onnxruntime and numpy (`tests/onnx/README.md`). The two take turns: `consilium bench
prediction`, then onnxruntime on the same model, which `consilium model export` has written; one picture at a time, and
16 at once. Figures are medians over turns, ratios are taken within a turn: other work on the machine falls on both.
The start is that of the whole program: from nothing to the answer for one picture.
"""
import argparse, json, os, pathlib, statistics, struct, subprocess, sys, tempfile, time, zlib

BINARY = os.path.join(os.path.dirname(__file__), "..", "target", "release", "consilium")

PEER = """
import json, sys, time
import numpy, onnxruntime
path, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
pictures = numpy.random.default_rng(1).uniform(-1.5, 1.5, [16, 1, 224, 224]).astype(numpy.float32)
def times(batch):
    session.run(None, {name: batch})
    found, begun = [], time.perf_counter()
    while not found or time.perf_counter() - begun < seconds:
        asked = time.perf_counter()
        session.run(None, {name: batch})
        found.append(time.perf_counter() - asked)
    return sorted(found)
cpu = time.process_time()
single = times(pictures[:1])
cpu = time.process_time() - cpu
batched = times(pictures)
print(json.dumps({
    "single_p50_ms": 1e3 * single[len(single) // 2],
    "single_cpu_ms": 1e3 * cpu / (len(single) + 1),
    "batched_per_s": 16 / batched[len(batched) // 2],
}))
"""


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return done.stdout


def png(path, side=224):
    """A grey picture."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes((row * column) % 256 for column in range(side)) for row in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))


def start(files, picture):
    begun = time.perf_counter()
    run([BINARY, "predict", "image", *files, "--json", picture])
    return time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("python")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    args = parser.parse_args()
    median = statistics.median
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        onnx, picture = folder / "model.onnx", folder / "picture.png"
        files = ["--plan", folder / "plan.toml", "--weights", folder / "weights.safetensors"]
        run([BINARY, "bench", "prediction", "--json", "--seconds", "1", "--files", folder])
        run([BINARY, "model", "export", *files, "--onnx", onnx])
        png(picture)
        starts = [start(files, picture) for _ in range(args.turns)]
        print(f"program started, model loaded, one picture answered: {median(starts):.3f} s (median), bar 1 s")
        for threads in args.threads.split(","):
            turns = []
            for _ in range(args.turns):
                ours = json.loads(run([BINARY, "bench", "prediction", "--json", "--threads", threads, "--seconds",
                                       str(args.seconds)]))
                theirs = json.loads(run([args.python, "-c", PEER, onnx, threads, str(args.seconds)]))
                turns.append((ours, theirs))
            def middle(of):
                return median(of(ours, theirs) for ours, theirs in turns)
            print(f"\nthreads {threads}: medians of {args.turns} turns")
            for label, value, bar in [
                ("one picture, ms", middle(lambda o, t: o["single_p50_ms"]), ""),
                ("one picture, onnxruntime, ms", middle(lambda o, t: t["single_p50_ms"]), ""),
                ("one picture, ratio", middle(lambda o, t: o["single_p50_ms"] / t["single_p50_ms"]), "at most 2"),
                ("one picture, ratio of processor time", middle(lambda o, t: o["single_cpu_ms"] / t["single_cpu_ms"]),
                 ""),
                ("16 at once, a second", middle(lambda o, t: o["batched_per_s"]), ""),
                ("16 at once, onnxruntime, a second", middle(lambda o, t: t["batched_per_s"]), ""),
                ("16 at once over one after the other", middle(lambda o, t: o["batched_per_s"] / o["single_per_s"]),
                 "at least 1"),
                ("8 clients, median ms", middle(lambda o, t: o["clients_p50_ms"]), ""),
                ("8 clients, 99 of 100 over median", middle(lambda o, t: o["clients_p99_ms"] / o["clients_p50_ms"]),
                 "at most 3"),
            ]:
                print(f"{label:40} {value:8.2f}  {bar}")


if __name__ == "__main__":
    main()
