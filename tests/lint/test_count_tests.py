#!/usr/bin/env python3
"""Tests of the sum that ends a test run."""
import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location('count_tests', os.path.join(here, '../../scripts/count_tests.py'))
count_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(count_tests)

CRITERION = '''[SKIP] a::dis: Test is disabled
[PASS] a::pass: (0.00s)
[FAIL] a::crash: CRASH!
[====] Synthesis: Tested: 6 | Passing: 2 | Failing: 4 | Crashing: 1 
'''


class Count(unittest.TestCase):
    def cases(self, result, stdout='', stderr=''):
        return count_tests.count_cases({'result': result, 'stdout': stdout, 'stderr': stderr})

    def test_plain_programs_count_as_one(self):
        self.assertEqual(self.cases('OK', 'some text'), (1, 0, 0))
        self.assertEqual(self.cases('FAIL'), (0, 1, 0))
        self.assertEqual(self.cases('TIMEOUT'), (0, 1, 0))
        self.assertEqual(self.cases('ERROR'), (0, 1, 0))
        self.assertEqual(self.cases('UNEXPECTEDPASS'), (0, 1, 0))
        self.assertEqual(self.cases('EXPECTEDFAIL'), (1, 0, 0))
        self.assertEqual(self.cases('SKIP'), (0, 0, 1))

    def test_criterion(self):
        self.assertEqual(self.cases('FAIL', stderr=CRITERION), (2, 4, 1))
        coloured = '\x1b[0;34mSynthesis: Tested: \x1b[1m3\x1b[0m | Passing: 3 | x'
        self.assertEqual(self.cases('OK', stderr=coloured), (3, 0, 0))

    def test_unittest(self):
        self.assertEqual(self.cases('OK', stderr='...\nRan 3 tests in 0.1s\n\nOK\n'), (3, 0, 0))
        self.assertEqual(self.cases('OK', stderr='Ran 1 test in 0.1s\n\nOK (skipped=1)\n'), (0, 0, 1))
        self.assertEqual(self.cases('FAIL', stderr='Ran 9 tests in 2s\n\nFAILED (failures=1, errors=2, skipped=1)\n'),
                         (5, 3, 1))

    def test_own_line(self):
        self.assertEqual(self.cases('FAIL', 'x\n12 passed, 3 failed, 4 skipped\n'), (12, 3, 4))
        self.assertEqual(self.cases('OK', '1 passed, 0 failed, 0 skipped\n2 passed, 0 failed, 0 skipped\n'), (2, 0, 0))

    def test_failure_outside_the_cases_is_a_failure(self):
        self.assertEqual(self.cases('TIMEOUT', '5 passed, 0 failed, 0 skipped\n'), (5, 1, 0))
        self.assertEqual(self.cases('FAIL', stderr='Synthesis: Tested: 3 | Passing: 3 | Failing: 0'), (3, 1, 0))

    def test_leak_is_a_failure(self):
        output = '==7==ERROR: LeakSanitizer: detected memory leaks\nSynthesis: Tested: 3 | Passing: 3 | Failing: 0'
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(self.cases('OK', stderr=output), (3, 1, 0))

    def run_main(self, entries):
        with tempfile.NamedTemporaryFile('w', suffix='.json') as log:
            log.writelines(json.dumps(entry) + '\n' for entry in entries)
            log.flush()
            return self.run_main_on(log.name)

    def run_main_on(self, path):
        sys.argv = ['count_tests.py', path]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            return count_tests.main(), printed.getvalue()

    def test_sum_and_exit_code(self):
        ok, bad, skip = {'result': 'OK'}, {'result': 'FAIL'}, {'result': 'SKIP'}
        self.assertEqual(self.run_main([ok, ok, skip]), (0, '2 passed, 0 failed, 1 skipped\n'))
        self.assertEqual(self.run_main([ok, bad]), (1, '1 passed, 1 failed, 0 skipped\n'))
        self.assertEqual(self.run_main([]), (1, '0 passed, 0 failed, 0 skipped\n'))
        self.assertEqual(self.run_main([skip]), (1, '0 passed, 0 failed, 1 skipped\n'))
        self.assertEqual(self.run_main_on('/nonexistent/log.json'), (1, '0 passed, 0 failed, 0 skipped\n'))


if __name__ == '__main__':
    unittest.main()
