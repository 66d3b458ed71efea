#!/usr/bin/env python3
"""Tests of the golden test runner itself, with a program that prints what it is told to."""
import contextlib
import importlib.util
import io
import os
import stat
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location('run', os.path.join(os.path.dirname(os.path.abspath(__file__)), 'run.py'))
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)

# Prints the lines of its file that begin with "out ", "err " to stderr; exits with the code of the last "exit " line.
TOOL = '''#!/bin/sh
sed -n 's/^out //p' "$1"
sed -n 's/^err //p' "$1" >&2
[ -z "$2" ] || echo "argument $2"
code=$(sed -n 's/^exit //p' "$1")
[ "$code" = KILL ] && kill -SEGV $$
exit ${code:-0}
'''


class Runner(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        tool = os.path.join(self.folder.name, 'muse-opt')
        with open(tool, 'w') as f:
            f.write(TOOL)
        os.chmod(tool, os.stat(tool).st_mode | stat.S_IXUSR)
        run.HERE = self.folder.name

    def write(self, text):
        with open(os.path.join(self.folder.name, 'case.mir'), 'w') as f:
            f.write(text)

    def run_case(self, text, update=False):
        """Returns the exit code and the printed text of a run over one file."""
        self.write(text)
        sys.argv = ['run.py', '--tools', self.folder.name] + (['--update'] if update else [])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = run.main()
        return code, printed.getvalue()

    def passes(self, text):
        code, printed = self.run_case(text)
        self.assertEqual((code, printed), (0, '1 passed, 0 failed, 0 skipped\n'))

    def fails(self, text, reason):
        code, printed = self.run_case(text)
        self.assertEqual(code, 1)
        self.assertIn(reason, printed)
        self.assertTrue(printed.endswith('0 passed, 1 failed, 0 skipped\n'))

    def test_checks_in_order(self):
        output = 'out one two\nout three\nout four\n'
        self.passes('// RUN: muse-opt %s\n// CHECK: one\n// CHECK: two\n// CHECK: four\n' + output)
        self.passes('// RUN: muse-opt %s\n//CHECK:   one   two\n// CHECK-NEXT: three\n// CHECK-NEXT: four\n' + output)
        self.fails('// RUN: muse-opt %s\n// CHECK: two\n// CHECK: one\n' + output, 'case.mir:3: not found: CHECK: one')
        self.fails('// RUN: muse-opt %s\n// CHECK: one\n// CHECK-NEXT: four\n' + output, 'not found: CHECK-NEXT: four')
        self.fails('// RUN: muse-opt %s\n// CHECK: four\n// CHECK-NEXT: more\n' + output, 'not found: CHECK-NEXT: more')
        self.fails('// RUN: muse-opt %s\n// CHECK-NEXT: one\n' + output, 'needs a CHECK before it')

    def test_check_not_holds_between_its_neighbours(self):
        output = 'out a\nout b\nout c\nout b\n'
        self.passes('// RUN: muse-opt %s\n// CHECK: b\n// CHECK-NOT: a\n// CHECK: c\n' + output)
        self.fails('// RUN: muse-opt %s\n// CHECK: a\n// CHECK-NOT: b\n// CHECK: c\n' + output,
                   'CHECK-NOT text is there: b')
        self.fails('// RUN: muse-opt %s\n// CHECK: c\n// CHECK-NOT: b\n' + output, 'CHECK-NOT text is there: b')
        self.passes('// RUN: muse-opt %s\n// CHECK-NOT: d\n' + output)
        self.fails('// RUN: muse-opt %s\n// CHECK-NOT: a\n' + output, 'CHECK-NOT text is there: a')
        self.fails('// RUN: muse-opt %s\n// CHECK-NOT: x\n// CHECK: z\nout x y z\n', 'CHECK-NOT text is there: x')
        self.passes('// RUN: muse-opt %s\n// CHECK: x\n// CHECK-NOT: x\n// CHECK: z\nout x y z x\n')

    def test_text_is_literal_but_for_braces(self):
        self.passes('// RUN: muse-opt %s\n// CHECK: f32[8,*] (a.b)\nout f32[8,*] (a.b)\n')
        self.fails('// RUN: muse-opt %s\n// CHECK: a.b\nout axb\n', 'not found')
        self.passes('// RUN: muse-opt %s\n// CHECK: %{{[0-9]+}} = add\nout %17 = add\n')

    def test_errors_want_a_refusal(self):
        self.passes('// RUN: muse-opt %s\n// ERROR: %s:3:1: error: bad\nerr case.mir:3:1: error: bad type\nexit 2\n')
        self.fails('// RUN: muse-opt %s\n// ERROR: bad\nerr bad\nexit 0\n', 'every command succeeded')
        self.fails('// RUN: muse-opt %s\n// ERROR: bad\nerr worse\nexit 2\n', 'not found on stderr: bad')
        self.fails('// RUN: muse-opt %s\n// CHECK: x\nout x\nerr why\nexit 1\n', 'exit codes [1]')

    def test_crash_is_never_a_refusal(self):
        self.fails('// RUN: muse-opt %s\n// ERROR: bad\nerr bad\nexit KILL\n', 'crashed')

    def test_files_that_check_nothing_fail(self):
        self.fails('// RUN: muse-opt %s\nout x\n', 'checks nothing')
        self.fails('// CHECK: x\nout x\n', 'no RUN line')
        self.fails('// RUN: muse-nothing %s\n// CHECK: x\n', 'there is no program muse-nothing')

    def test_several_commands_and_arguments(self):
        self.passes('// RUN: muse-opt %s\n// RUN: muse-opt %s "--pass=a b"\n// CHECK: x\n// CHECK: x\n'
                    '// CHECK: argument --pass=a b\nout x\n')

    def test_update_writes_the_output(self):
        head = '// Reason.\n// RUN: muse-opt %s\n// CHECK-NOT: never\n'
        output = 'out x {{1}}\nout \nout y\nout   z\n'
        code, printed = self.run_case(head + '// CHECK: old\n' + output, update=True)
        self.assertEqual((code, printed), (0, 'updated case.mir\n1 passed, 0 failed, 0 skipped\n'))
        with open(os.path.join(self.folder.name, 'case.mir')) as f:
            # A blank line of the output is skipped, so the next one cannot be a CHECK-NEXT.
            self.assertEqual(f.read(), head + '// CHECK: x {{[{][{]}}1}}\n// CHECK: y\n// CHECK-NEXT: z\n' + output)

    def test_update_of_a_refusal_and_without_old_checks(self):
        code, _ = self.run_case('// RUN: muse-opt %s\nerr case.mir:1:1: error: no\nerr   excerpt\nexit 2\n',
                                update=True)
        self.assertEqual(code, 0)
        with open(os.path.join(self.folder.name, 'case.mir')) as f:
            self.assertIn('// RUN: muse-opt %s\n// ERROR: %s:1:1: error: no\nerr case', f.read())


if __name__ == '__main__':
    unittest.main()
