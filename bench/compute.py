"""The table of compute jobs: the same programs on the host and in guests of TCG, Atoll's interpreter and Atoll.

A figure is CPU time: the process's own natively, the whole VMM's in a VM, for work that is the same everywhere.
"""

import math
import subprocess

import jobs
from vmm import GUESTS, SOFT, Guest

NATIVE = "native"
RUNNERS = (NATIVE, *SOFT)


def parse(lines, clock):
    """{job: (CPU seconds, work, what the guest's clock says)} of a script's output; `clock()` is the VMM's CPU time, or None
    where the script's own account of user and system time is the truth."""
    results, name, began, work = {}, None, 0.0, 0
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "begin":
            name, began, work = rest, clock() if clock else 0.0, 0
        elif word == "work" and rest.isdigit():
            work = int(rest)
        elif word == "took" and name:
            wall, user, system = map(float, rest.split())
            spent = clock() - began if clock else user + system
            results[name] = (spent, work, f"{wall:.2f} wall, {user:.2f} user, {system:.2f} sys")
        elif line == "all done":
            return results
    raise RuntimeError("the script did not come to its end")


def run_native(names, size):
    done = subprocess.run(["unshare", "-m", "chroot", GUESTS + "/bench-root", "/bin/bash"], input=jobs.script(names, size), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
    return parse(done.stdout.splitlines(), None)


def run_guest(who, names, size, timeout=1800):
    with Guest(who, jobs.script(names, size)) as guest:
        return parse(guest.lines(timeout), guest.cpu_seconds)


def cost(result, reference):
    """CPU seconds for the work that `reference` did natively."""
    spent, work, _ = result
    return spent * reference[1] / work if work else spent


def mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def print_table(results, names, runners):
    """Native seconds, then how many times that each runner needs, and Atoll's part of TCG's."""
    guests = [who for who in runners if who != NATIVE]
    both = "tcg" in guests and "atoll" in guests
    print(f"\n{'CPU time for the same work':<30} {'native s':>9}" + "".join(f" {who + '/nat':>10}" for who in guests) +
          (f" {'tcg/atoll':>10}" if both else ""))
    ratios = {who: [] for who in guests}
    for name in names:
        reference = results[NATIVE][name]
        line = f"{jobs.JOBS[name][0]:<30} {reference[0]:>9.3f}"
        for who in guests:
            ratio = cost(results[who][name], reference) / reference[0]
            ratios[who].append(ratio)
            line += f" {ratio:>10.2f}"
        print(line + (f" {ratios['tcg'][-1] / ratios['atoll'][-1]:>10.2f}" if both else ""))
    line = f"{'geometric mean':<30} {'':>9}" + "".join(f" {mean(ratios[who]):>10.2f}" for who in guests)
    print(line + (f" {mean(ratios['tcg']) / mean(ratios['atoll']):>10.2f}" if both else ""), flush=True)


def table(names, runners, size, detail=False):
    """Native runs before and after the guests; the cheaper of the two counts."""
    names = names or list(jobs.JOBS)
    first = run_native(names, size)
    results = {who: run_guest(who, names, size) for who in runners if who != NATIVE}
    second = run_native(names, size)
    results[NATIVE] = {name: min(first[name], second[name], key=lambda result: cost(result, first[name])) for name in names}
    if detail:
        for who, of_jobs in results.items():
            for name, (spent, work, text) in of_jobs.items():
                print(f"{who:<8} {name:<10} {spent:>8.3f} s CPU, {text}" + (f", work {work}" if work else ""))
    print_table(results, names, [NATIVE, *results])
