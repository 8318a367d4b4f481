#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures libnin beside the peers that are installed, and prints one table.

    python3 bench/peers/compare.py                      the MNIST net, three rounds, minutes
    python3 bench/peers/compare.py --preset cifar10 --rounds 5 --json results.json

    python3 bench/peers/compare.py --bf16               in bf16 too

In every round each program runs once, one after the other, in an order that turns round from one
round to the next; ratios (libnin / peer) are taken within a round, their medians are printed with
the least and the largest. Below 1 libnin is faster. So much is measured for one thread and for all.

Needs the programs of bench/ and the standard library only. Peers are oneDNN (bench/peers/onednn,
built where its headers are), and in the Python that NIN_BENCH_PYTHON names (python3 if it does not)
PyTorch, ONNX Runtime and OpenVINO.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import nets

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PYTHON = os.environ.get("NIN_BENCH_PYTHON") or "python3"

# What PyTorch's users are told to do: the C library's malloc shall keep memory from step to step.
# Its steps take up to a third less.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}


# ---- who is there --------------------------------------------------------------------------------

class Program(NamedTuple):
    """What a round runs once."""
    name: str
    command: list


NAMES = {"onednn": "oneDNN", "pytorch": "PyTorch", "onnxruntime": "ONNX Runtime",
         "openvino": "OpenVINO"}
MODULES = {"pytorch": {"torch", "numpy"}, "onnxruntime": {"onnxruntime", "onnx", "numpy"},
           "openvino": {"openvino", "onnx", "numpy"}}


def modules():
    """Those of the wanted modules that the Python of the peers has."""
    wanted = sorted(set().union(*MODULES.values()))
    code = "import importlib.util as u, sys; print(*filter(u.find_spec, sys.argv[1:]))"
    try:
        done = subprocess.run([PYTHON, "-c", code, *wanted], capture_output=True, text=True,
                              check=True)
    except (OSError, subprocess.CalledProcessError):
        return set()
    return set(done.stdout.split())


def look_for_peers():
    """Names of peers, and a sentence for each that is missing."""
    there, missing, found = [], [], modules()
    if (HERE / "onednn").exists():
        there.append("onednn")
    else:
        missing.append("oneDNN (bench/peers/onednn is not built: no oneapi/dnnl/dnnl.hpp)")
    for peer, needed in MODULES.items():
        if needed <= found:
            there.append(peer)
        else:
            lacking = ", ".join(sorted(needed - found))
            missing.append(f"{NAMES[peer]} ({PYTHON} lacks {lacking})")
    return there, missing


def programs(there, bf16):
    """What a round runs: libnin first."""
    python = [PYTHON, "-B"]
    precisions = ["fp32", "bf16"] if bf16 else ["fp32"]
    made = [Program(f"libnin's {name} {precision}", [ROOT / "bench" / name, "--precision", precision])
            for precision in precisions for name in ["step", "infer"]]
    if "onednn" in there:
        made.append(Program("oneDNN", [HERE / "onednn"]))
    for precision in precisions:
        options = ["--precision", precision]
        if "pytorch" in there:
            made.append(Program(f"PyTorch {precision}", [*python, HERE / "pytorch.py", *options]))
        if {"onnxruntime", "openvino"} & set(there):
            made.append(Program(f"runtimes {precision}", [*python, HERE / "runtimes.py", *options]))
    return made


# ---- running -------------------------------------------------------------------------------------

def foreign_seconds():
    """Processor time that was spent by others than what this program has run so far; 0 where the
    system does not tell."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system = map(int, file.readline().split()[1:4])
    except (OSError, ValueError):
        return 0.0
    own = os.times()
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - sum(own[:4])


def run(program, args, threads):
    """The JSON lines of one program; none, and a word on stderr, if a peer fails."""
    options = ["--preset", args.preset, "--batch", args.batch, "--steps", args.steps,
               "--threads", threads]
    command = [str(word) for word in program.command + options]
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          env={**KEEP_MEMORY, **os.environ})
    if done.returncode == 0:
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    print(f"compare: {program.name} failed:\n{done.stderr}", file=sys.stderr)
    if program.name.startswith("libnin") and program.name.endswith("fp32"):
        sys.exit(1)
    return []


def run_rounds(args, thread_counts, todo):
    """All records, each with its round, its threads and the processors that others took."""
    records = []
    for threads in thread_counts:
        for number in range(args.rounds):
            for program in todo if number % 2 == 0 else reversed(todo):
                print(f"compare: {threads} of {thread_counts[-1]} threads, round {number + 1} of "
                      f"{args.rounds}: {program.name}", file=sys.stderr)
                start, foreign = time.monotonic(), foreign_seconds()
                found = run(program, args, threads)
                others = (foreign_seconds() - foreign) / (time.monotonic() - start)
                for record in found:
                    records.append({**record, "threads": threads, "round": number,
                                    "others": round(others, 2)})
    return records


# ---- results -------------------------------------------------------------------------------------

def label(record):
    """A peer as the table names it; libnin is None."""
    if "bench" in record:
        return None
    version = record["version"].split("-")[0].split("+")[0]
    return f"{NAMES[record['peer']]} {version}"


def timings(record, batch):
    """(what, who, ms) of every time in a record."""
    whats = {"step_ms": "step", "infer_ms": f"infer {batch}", "batch_ms": f"infer {batch}",
             "batch8_ms": "infer 8", "batch1_ms": "infer 1"}
    groups = [(label(record), record)]
    groups += [(f"{label(record)} {key}", value) for key, value in record.items()
               if isinstance(value, dict)]
    for who, group in groups:
        for key, what in whats.items():
            if key in group:
                yield what, who, group[key]


def tabulate(records, batch):
    """A row for each number of threads, what is timed, and peer."""
    times = {}
    for record in records:
        for what, who, ms in timings(record, batch):
            if record["precision"] != "fp32":
                what = f"{what} {record['precision']}"
            rounds = times.setdefault((record["threads"], what), {}).setdefault(who, {})
            rounds[record["round"]] = ms
    rows = []
    for (threads, what), by_peer in times.items():
        own = by_peer.pop(None, {})
        if not own:  # a precision that libnin does not have on this processor
            continue
        for who, theirs in by_peer.items():
            ratios = [own[number] / ms for number, ms in theirs.items() if number in own]
            rows.append({"threads": threads, "what": what, "peer": who,
                         "libnin_ms": statistics.median(own.values()),
                         "peer_ms": statistics.median(theirs.values()),
                         "ratio": statistics.median(ratios), "least": min(ratios),
                         "largest": max(ratios)})
    return rows


def floors(records, preset, batch):
    """By threads: the peak, a step of direct convolution at that peak, and libnin's."""
    gflop, made = nets.step_gflop(preset, batch), {}
    steps = [record for record in records
             if record.get("bench") == "step" and record["precision"] == "fp32"]
    for threads in sorted({record["threads"] for record in steps}):
        own = [record for record in steps if record["threads"] == threads]
        peak = statistics.median(record["peak_gflops"] for record in own)
        step = statistics.median(record["step_ms"] for record in own)
        made[threads] = {"peak_gflops": peak, "step_ms": step,
                         "direct_ms": 1e3 * gflop / peak if peak > 0 else None}
    return made


def disagreement(records):
    """A sentence if peers that compute in fp32 find different losses, else None: all start from the
    same parameters and images."""
    losses = {label(record): record["loss"] for record in records
              if record.get("precision") == "fp32" and "loss" in record}
    if not losses or max(losses.values()) - min(losses.values()) < 1e-4:
        return None
    return "the peers do not compute the same: losses " + json.dumps(losses)


def git(*words):
    """What git says about the sources; empty without git."""
    try:
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def summarize(args, records, missing):
    """Everything that is printed or written."""
    own = next(record for record in records if "bench" in record)
    changed = git("status", "--porcelain", "--untracked-files=no") != ""
    return {"processor": own["processor"], "version": own["version"],
            "commit": git("rev-parse", "--short", "HEAD") + (" with changes" if changed else ""),
            "preset": args.preset, "batch": args.batch, "rounds": args.rounds,
            "others": max(record["others"] for record in records),
            "step_gflop": nets.step_gflop(args.preset, args.batch),
            "floors": floors(records, args.preset, args.batch),
            "rows": tabulate(records, args.batch), "missing": missing,
            "disagreement": disagreement(records), "records": records}


# ---- printing ------------------------------------------------------------------------------------

def of_threads(count):
    """A number of threads in words."""
    return "1 thread" if count == 1 else f"{count} threads"


def print_floors(summary):
    """How far a step is from direct convolution at the peak."""
    for threads, floor in summary["floors"].items():
        if floor["direct_ms"] is None:
            continue
        print(f"{of_threads(threads)}: multiply-add peak {floor['peak_gflops']:.0f} GFLOP/s; a "
              f"step by direct convolution ({summary['step_gflop']:.1f} GFLOP) takes "
              f"{floor['direct_ms']:.1f} ms at it, libnin's {floor['step_ms']:.1f} ms, "
              f"{floor['step_ms'] / floor['direct_ms']:.2f} of that")


def print_rows(rows):
    """The table."""
    print(f"\n{'threads':>7}  {'what':<14} {'peer':<33} {'libnin ms':>10} {'peer ms':>10} "
          f"{'ratio':>7}  spread")
    for row in rows:
        print(f"{row['threads']:>7}  {row['what']:<14} {row['peer']:<33} {row['libnin_ms']:>10.2f} "
              f"{row['peer_ms']:>10.2f} {row['ratio']:>7.3f}  {row['least']:.3f} to "
              f"{row['largest']:.3f}")


def print_summary(summary):
    """For people."""
    commit = summary["commit"] or "unknown"
    print(f"libnin {summary['version']}, commit {commit}, on {summary['processor']}")
    print(f"{summary['preset']}, batch {summary['batch']}, rounds: {summary['rounds']}")
    if summary["others"] > 0.1:
        print(f"others took up to {summary['others']:.1f} processors meanwhile: "
              "times of several threads mean little")
    print_floors(summary)
    if summary["rows"]:
        print_rows(summary["rows"])
        print("\nratio: libnin / peer, the median over the rounds; below 1 libnin is faster")
    for sentence in summary["missing"]:
        print(f"missing: {sentence}")
    if summary["disagreement"]:
        print(summary["disagreement"])


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(nets.NETS), default="mnist")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="timed by every program in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bf16", action="store_true",
                        help="in bf16 too, libnin and the peers that have it")
    parser.add_argument("--json", metavar="FILE", help="writes everything that was measured")
    return parser.parse_args()


def main():
    """One thread, then all."""
    args = parse()
    there, missing = look_for_peers()
    thread_counts = sorted({1, len(os.sched_getaffinity(0))})
    records = run_rounds(args, thread_counts, programs(there, args.bf16))
    summary = summarize(args, records, missing)
    print_summary(summary)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
