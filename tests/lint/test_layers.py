#!/usr/bin/env python3
"""Tests that the lint of the layers finds what it is there to find."""
import importlib.util
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location('layers', os.path.join(here, 'layers.py'))
layers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layers)


class Layers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        for name in ['ir/base/str.h', 'ir/func.h', 'ops/ops.h', 'ops/ops.def', 'passes/manager.h', 'compiler/plan.h',
                     'compiler/model.h', 'compiler/config_yaml.h', 'corpus/record.h', 'compiler/plan.c', 'compiler/emit_llvm.h', 'runtime/device.h',
                     'tests/unit/help.h']:
            self.write(name, '')

    def write(self, path, text):
        full = os.path.join(self.folder.name, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, 'w') as f:
            f.write(text)

    def breaches(self, path, include):
        self.write(path, f'// head\n#include {include}\n')
        return list(layers.check_file(self.folder.name, path))

    def allowed(self, path, include):
        self.assertEqual(self.breaches(path, include), [])

    def refused(self, path, include, reason):
        found = self.breaches(path, include)
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(f'{path}:2: '), found)
        self.assertIn(reason, found[0])

    def test_own_and_left_folders(self):
        self.allowed('ir/x.c', '"ir/base/str.h"')
        self.allowed('ir/base/x.c', '"ir/base/str.h"')
        self.allowed('passes/x.c', '"ops/ops.h"')
        self.allowed('runtime/x.c', '"runtime/device.h"')

    def test_right_folders(self):
        self.refused('ir/base/x.c', '"ir/func.h"', 'lies to the right')
        self.refused('ir/x.c', '"ops/ops.h"', 'lies to the right')
        self.refused('passes/x.h', '"compiler/plan.h"', 'lies to the right')
        self.refused('compiler/x.c', '"runtime/device.h"', 'lies to the right')

    def test_op_table_is_the_one_exception(self):
        self.allowed('ir/op.c', '"ops/ops.def"')
        self.refused('ir/type.c', '"ops/ops.def"', 'lies to the right')
        self.refused('ir/op.c', '"ops/ops.h"', 'lies to the right')

    def test_runtime_sees_little_of_the_compiler(self):
        self.allowed('runtime/x.c', '"compiler/plan.h"')
        self.refused('runtime/x.c', '"compiler/model.h"', 'is hidden from runtime')

    def test_corpus_sees_only_yaml_beside_the_base(self):
        self.allowed('corpus/x.c', '"compiler/config_yaml.h"')
        self.allowed('runtime/x.c', '"corpus/record.h"')
        self.refused('corpus/x.c', '"compiler/plan.h"', 'is hidden from corpus')
        self.refused('corpus/x.c', '"ir/func.h"', 'is hidden from corpus')
        self.refused('compiler/x.c', '"corpus/record.h"', 'lies to the right')

    def test_llvm_half_sees_itself(self):
        self.allowed('runtime/cpu_jit.c', '"compiler/emit_llvm.h"')
        self.allowed('compiler/emit_llvm_map.c', '"compiler/emit_llvm.h"')
        self.refused('runtime/executor.c', '"compiler/emit_llvm.h"', 'is hidden from runtime')
        self.refused('runtime/cpu_jit.c', '"compiler/model.h"', 'is hidden from runtime')

    def test_tests_include_and_are_not_included(self):
        self.allowed('tests/unit/x.c', '"runtime/device.h"')
        self.allowed('tests/unit/x.c', '"tests/unit/help.h"')
        self.allowed('bench/x.c', '<criterion/criterion.h>')
        self.refused('ir/x.c', '"tests/unit/help.h"', 'belongs to the tests')
        self.refused('ir/x.c', '<criterion/criterion.h>', 'belongs to the tests')

    def test_foreign_headers(self):
        self.allowed('compiler/config_yaml.c', '<yaml.h>')
        self.refused('compiler/model.c', '<yaml.h>', 'is allowed only in compiler/config*.c')
        self.allowed('compiler/emit_llvm_scan.c', '<llvm-c/Core.h>')
        self.allowed('runtime/cpu_jit.c', '<llvm-c/Orc.h>')
        self.refused('runtime/executor.c', '<llvm-c/Core.h>', 'is allowed only in')
        self.refused('compiler/emit_llvm.c', '<llvm/IR/Module.h>', 'is no known system header')
        self.refused('ir/x.c', '<xxhash.h>', 'is allowed only in')
        self.refused('ir/x.c', '<openssl/ssl.h>', 'is no known system header')
        self.allowed('ir/x.c', '<sys/stat.h>')

    def test_cuda_nowhere(self):
        for path in ['runtime/cuda_api.h', 'tests/unit/x.c', 'bench/x.c']:
            for header in ['cuda.h', 'cuda_runtime.h', 'nvrtc.h', 'nccl.h', 'cuda/std/atomic']:
                self.refused(path, f'<{header}>', 'is allowed nowhere')

    def test_form_of_includes(self):
        self.refused('ir/x.c', '"func.h"', 'is not written from the root')
        self.refused('ir/x.c', '"../ir/func.h"', 'is not written from the root')
        self.refused('ir/x.c', '"ir/missing.h"', 'does not exist')
        self.refused('compiler/x.c', '"compiler/plan.c"', 'is a source file')
        self.refused('ir/x.c', '  "func.h" // why', 'is not written from the root')

    def test_long_files(self):
        self.write('ir/long.c', '\n' * 900)
        self.assertEqual(list(layers.check_file(self.folder.name, 'ir/long.c')), [])
        self.write('ir/long.c', '\n' * 901)
        found = list(layers.check_file(self.folder.name, 'ir/long.c'))
        self.assertIn('ir/long.c:901: the file has 901 lines', found[0])

    def test_long_lines(self):
        self.write('ir/wide.c', 'x' * 120 + '\n' + 'x' * 121 + '\n')
        found = list(layers.check_file(self.folder.name, 'ir/wide.c'))
        self.assertEqual(found, ['ir/wide.c:2: the line has 121 columns, 120 are allowed'])

    def test_run_over_a_tree(self):
        sys.argv = ['layers.py', self.folder.name]
        self.assertEqual(self.run_main(), 0)
        self.write('ir/bad.c', '#include "ops/ops.h"\n')
        self.assertEqual(self.run_main(), 1)
        with tempfile.TemporaryDirectory() as empty:
            sys.argv = ['layers.py', empty]
            self.assertEqual(self.run_main(), 1)

    def run_main(self):
        saved, sys.stdout = sys.stdout, open(os.devnull, 'w')
        try:
            return layers.main()
        finally:
            sys.stdout.close()
            sys.stdout = saved


if __name__ == '__main__':
    unittest.main()
