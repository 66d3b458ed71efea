#!/usr/bin/env python3
"""Golden text tests: runs the commands written in .mir files and compares their output with the lines written there.

    // RUN: muse-opt %s --pass=cse   a command; its first word is a program of the build folder. Several run in turn.
    // CHECK: text                   stands in the output, after what the check before it matched
    // CHECK-NEXT: text              stands in the line after that
    // CHECK-NOT: text               does not stand between the checks around it
    // ERROR: text                   stands on stderr (in order), and the command exits non-zero, not by a signal

%s is the path of the file (relative to this folder), %t a fresh folder. Runs of blanks count as one blank; {{...}}
inside a text is a regular expression. Without an ERROR line every command must succeed. A file that checks nothing
fails.

`--update` writes the present output into those of the named files (without names: of all) that fail: it replaces all
CHECK, CHECK-NEXT and ERROR lines and keeps RUN and CHECK-NOT lines. Read the diff before you commit it.
"""
import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SANITIZER_EXIT = 99  # no exit code of the programs, so that a sanitizer's finding is not taken for a refusal
DIRECTIVE = re.compile(r'^\s*//\s*(RUN|CHECK|CHECK-NEXT|CHECK-NOT|ERROR):(?:\s+(.*?))?\s*$')


class Failure(Exception):
    pass


def squeeze(text):
    return re.sub(r'[ \t]+', ' ', text)


def to_regex(text, path):
    """The regular expression of a check's text, where {{...}} is one already."""
    text = squeeze(text).replace('%s', path)
    parts = re.split(r'\{\{(.*?)\}\}', text)
    return re.compile(''.join(part if i % 2 else re.escape(part) for i, part in enumerate(parts)))


def read_directives(text):
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = DIRECTIVE.match(line)
        if match:
            found.append((match[1], match[2] or '', number))
    return found


def run_commands(path, directives, tools, timeout):
    """Runs the RUN lines; returns stdout of all, stderr of all, and the exit codes."""
    out, err, codes = '', '', []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, text, number in directives:
            if kind != 'RUN':
                continue
            words = [w.replace('%s', path).replace('%t', scratch) for w in shlex.split(text)]
            if not words:
                raise Failure(f'{path}:{number}: RUN without a command')
            program = os.path.join(tools, words[0])
            if not os.path.exists(program):
                raise Failure(f'{path}:{number}: there is no program {words[0]} in {tools}')
            env = dict(os.environ, NO_COLOR='1', MUSE_CACHE_DIR=os.path.join(scratch, 'cache'),
                       ASAN_OPTIONS=f'exitcode={SANITIZER_EXIT}',
                       UBSAN_OPTIONS=f'halt_on_error=1:print_stacktrace=1:exitcode={SANITIZER_EXIT}')
            try:
                done = subprocess.run([program] + words[1:], cwd=HERE, env=env, stdin=subprocess.DEVNULL,
                                      capture_output=True, timeout=timeout)
            except subprocess.TimeoutExpired:
                raise Failure(f'{path}:{number}: did not end within {timeout} s')
            out += done.stdout.decode('utf-8', 'backslashreplace').replace(scratch, '%t')
            err += done.stderr.decode('utf-8', 'backslashreplace').replace(scratch, '%t')
            codes.append(done.returncode)
            if done.returncode < 0 or done.returncode in (SANITIZER_EXIT, 134, 139):
                raise Failure(f'{path}:{number}: the command crashed ({done.returncode})\n{err}')
    return out, err, codes


def show(lines, at):
    """The output around line `at` (from 0), for a message."""
    first = max(0, at - 2)
    return '\n'.join(f'    {"->" if i == at else "  "} {lines[i]}' for i in range(first, min(len(lines), at + 8)))


def match_checks(path, directives, output):
    """Walks through the output. (line, column) is where the last match ended."""
    lines = [squeeze(line) for line in output.splitlines()]
    line, column, matched = 0, 0, False
    forbidden = []

    def scan_forbidden(end_line, end_column):
        for text, number in forbidden:
            for i in range(line, min(end_line + 1, len(lines))):
                start = column if i == line else 0
                part = lines[i][start:end_column] if i == end_line else lines[i][start:]
                if to_regex(text, path).search(part):
                    raise Failure(f'{path}:{number}: CHECK-NOT text is there: {text}\n{show(lines, i)}')
        forbidden.clear()

    for kind, text, number in directives:
        if kind == 'CHECK-NOT':
            forbidden.append((text, number))
        elif kind in ('CHECK', 'CHECK-NEXT'):
            pattern = to_regex(text, path)
            found = None
            if kind == 'CHECK-NEXT':
                if not matched:
                    raise Failure(f'{path}:{number}: CHECK-NEXT needs a CHECK before it')
                if line + 1 < len(lines):
                    found = pattern.search(lines[line + 1])
                at = line + 1
            else:
                for at in range(line, len(lines)):
                    found = pattern.search(lines[at], column if at == line else 0)
                    if found:
                        break
            if not found:
                where = show(lines, min(line + (1 if matched else 0), max(len(lines) - 1, 0)))
                raise Failure(f'{path}:{number}: not found: {kind}: {text}\n  the search began here:\n{where}')
            scan_forbidden(at, found.start())
            line, column, matched = at, found.end(), True
    scan_forbidden(len(lines), 0)


def match_errors(path, directives, err):
    lines = [squeeze(line) for line in err.splitlines()]
    at = 0
    for kind, text, number in directives:
        if kind != 'ERROR':
            continue
        pattern = to_regex(text, path)
        while at < len(lines) and not pattern.search(lines[at]):
            at += 1
        if at == len(lines):
            raise Failure(f'{path}:{number}: not found on stderr: {text}\n  stderr was:\n{err}')
        at += 1


def check_file(path, text, tools, timeout):
    directives = read_directives(text)
    kinds = {kind for kind, _, _ in directives}
    if 'RUN' not in kinds:
        raise Failure(f'{path}: no RUN line')
    if not kinds & {'CHECK', 'CHECK-NEXT', 'CHECK-NOT', 'ERROR'}:
        raise Failure(f'{path}: checks nothing (no CHECK, CHECK-NOT or ERROR line)')
    out, err, codes = run_commands(path, directives, tools, timeout)
    if 'ERROR' in kinds and not any(codes):
        raise Failure(f'{path}: was to be refused, but every command succeeded')
    if 'ERROR' not in kinds and any(codes):
        raise Failure(f'{path}: exit codes {codes}\n{err}')
    match_checks(path, directives, out)
    match_errors(path, directives, err)


def literal(line, path):
    return line.strip().replace('{{', '{{[{][{]}}').replace(path, '%s')


def update_file(path, text, tools, timeout):
    """The file's text with its CHECK, CHECK-NEXT and ERROR lines replaced by the present output."""
    directives = read_directives(text)
    out, err, codes = run_commands(path, directives, tools, timeout)
    expected, previous_blank = [], True
    for line in out.splitlines():
        if line.strip():
            expected.append(f'// {"CHECK" if previous_blank else "CHECK-NEXT"}: {literal(line, path)}')
        previous_blank = not line.strip()
    if any(codes):
        expected += [f'// ERROR: {literal(line, path)}' for line in err.splitlines() if re.search(r'\berror: ', line)]
    lines = text.splitlines()
    is_old = [bool(m and m[1] in ('CHECK', 'CHECK-NEXT', 'ERROR')) for m in map(DIRECTIVE.match, lines)]
    if any(is_old):
        place = is_old.index(True)
    else:  # behind the RUN and CHECK-NOT lines at the top
        place = max(number for _, _, number in directives)
    kept_before = [l for l, old in zip(lines[:place], is_old) if not old]
    kept_after = [l for l, old in zip(lines[place:], is_old[place:]) if not old]
    return '\n'.join(kept_before + expected + kept_after) + '\n'


def find_files(names):
    if names:
        return [os.path.relpath(os.path.abspath(name), HERE) for name in names]
    found = []
    for folder, _, files in os.walk(HERE):
        found += [os.path.relpath(os.path.join(folder, f), HERE) for f in files if f.endswith('.mir')]
    return sorted(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tools', default=os.path.join(HERE, '../../build'), help='folder of the programs')
    parser.add_argument('--update', action='store_true', help='write the present output into the files')
    parser.add_argument('--timeout', type=int, default=60, help='seconds a command may take')
    parser.add_argument('files', nargs='*', help='the .mir files (default: all below this folder)')
    args = parser.parse_args()
    tools = os.path.abspath(args.tools)
    passed = failed = 0
    for path in find_files(args.files):
        with open(os.path.join(HERE, path), encoding='utf-8') as f:
            text = f.read()
        try:
            check_file(path, text, tools, args.timeout)
            passed += 1
            continue
        except Failure as failure:
            message = failure
        if args.update:
            try:
                new_text = update_file(path, text, tools, args.timeout)
                with open(os.path.join(HERE, path), 'w', encoding='utf-8') as f:
                    f.write(new_text)
                check_file(path, new_text, tools, args.timeout)
                print(f'updated {path}')
                passed += 1
                continue
            except Failure as failure:
                message = failure
        print(f'FAIL {message}')
        failed += 1
    print(f'{passed} passed, {failed} failed, 0 skipped')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
