#!/usr/bin/env python3
"""Sums up what meson's log says of a test run: one line "N passed, N failed, N skipped"; exit 1 on failures or no test.

A test that reports its own cases counts as that many: a Criterion program by its synthesis line (and its SKIP lines,
which the synthesis leaves out), a Python one by unittest's last lines, any other by a line "N passed, N failed,
N skipped". All others count as one.
"""
import json
import re
import sys

SYNTHESIS = re.compile(r'Synthesis: Tested: (\d+) \| Passing: (\d+) \|')
SKIPPED_CASE = re.compile(r'^\[SKIP\]', re.M)
UNITTEST = re.compile(r'^Ran (\d+) tests? in .*\n\n(OK|FAILED)(?: \((.*)\))?$', re.M)
LEAK = re.compile(r'ERROR: LeakSanitizer: detected memory leaks')
OWN_LINE = re.compile(r'^(\d+) passed, (\d+) failed, (\d+) skipped$', re.M)


def last_match(pattern, text):
    match = None
    for match in pattern.finditer(text):
        pass
    return match


def count_cases(test):
    """(passed, failed, skipped) of one entry of the log."""
    output = re.sub(r'\x1b\[[0-9;]*m', '', test.get('stdout', '') + '\n' + test.get('stderr', ''))
    ok, skip = test['result'] in ('OK', 'EXPECTEDFAIL'), test['result'] == 'SKIP'
    synthesis, unittest, own = (last_match(p, output) for p in (SYNTHESIS, UNITTEST, OWN_LINE))
    if synthesis:
        tested, passed = int(synthesis[1]), int(synthesis[2])
        failed, skipped = tested - passed, len(SKIPPED_CASE.findall(output))
    elif unittest:
        details = dict(item.split('=') for item in (unittest[3] or '').split(', ') if '=' in item)
        failed = int(details.get('failures', 0)) + int(details.get('errors', 0))
        skipped = int(details.get('skipped', 0))
        passed = int(unittest[1]) - failed - skipped
    elif own:
        passed, failed, skipped = map(int, own.groups())
    else:
        return (int(ok), int(not ok and not skip), int(skip))
    if not ok and not skip and failed == 0:
        failed = 1  # the program failed outside its cases (a timeout, a leak found at exit)
    if ok and LEAK.search(output):
        failed += 1  # Criterion takes no notice of what the leak checker says when a case ends
        print(f"{test.get('name')} leaks memory; its output stands in the log", file=sys.stderr)
    return passed, failed, skipped


def main():
    total = [0, 0, 0]
    try:
        with open(sys.argv[1], encoding='utf-8') as log:
            for line in log:
                total = [a + b for a, b in zip(total, count_cases(json.loads(line)))]
    except FileNotFoundError:
        print('the tests were not run: there is no log', file=sys.stderr)
    print(f'{total[0]} passed, {total[1]} failed, {total[2]} skipped')
    return 1 if total[1] > 0 or total[0] + total[1] == 0 else 0


if __name__ == '__main__':
    sys.exit(main())
