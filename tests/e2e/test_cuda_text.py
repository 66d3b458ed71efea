#!/usr/bin/env python3
"""CUDA C and PTX of a model's kernels, what is refused, and what `doctor` says of the GPU. Needs no GPU.

Usage: test_cuda_text.py MUSEC MUSE_RUN SOURCE_ROOT
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

musec, muse_run, root = sys.argv[1:4]
CONFIG = os.path.join(root, 'configs/muse-tiny.yaml')
SMALL = ['--set', 'n_layers=1', '--set', 'n_seq=32']


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def one_kernel(folder):
    """A module of one map kernel."""
    path = os.path.join(folder, 'exp.mir')
    with open(path, 'w') as f:
        f.write('module {level = "tensor"} source ""\nbuffer @x : f32[64,48] role "input"\n'
                'buffer @y : f32[64,48] role "output"\n\n'
                'func @f(%0 : f32[64,48] {buffer = "x"}) -> ({buffer = "y"}) {\n'
                '  %1 = exp %0 : f32[64,48]\n  return %1\n}\n')
    return path


class CudaText(unittest.TestCase):
    def test_cuda_c(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'tiny.cu')
            r = run(musec, CONFIG, *SMALL, '--emit=cuda', '-o', path)
            self.assertEqual(r.returncode, 1, r.stderr)
            self.assertIn('no CUDA emitter yet: ', r.stderr)
            self.assertIn('ternary_matmul', r.stderr)
            with open(path) as f:
                text = f.read()
        self.assertGreater(text.count('__global__'), 30)
        self.assertEqual(text.count('FN uint4 philox('), 1)
        self.assertIn('skeleton gather_rows', text)
        self.assertNotIn('#include', text)

    def test_same_text_twice(self):
        first, second = (run(musec, CONFIG, *SMALL, '--emit=cuda').stdout for _ in range(2))
        self.assertGreater(len(first), 10000)
        self.assertEqual(first, second)

    def test_no_kernels_left_out(self):
        with tempfile.TemporaryDirectory() as folder:
            r = run(musec, one_kernel(folder), '--passes=fuse_map,outline', '--emit=cuda')
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn('expf(', r.stdout)

    def test_refused(self):
        r = run(musec, CONFIG, '--target', 'cuda:sm_86')
        self.assertEqual(r.returncode, 2)
        self.assertIn('plans do not run on GPUs yet', r.stderr)
        for target, part in [('cuda:sm_70', 'sm_75'), ('cuda:86', 'is no CUDA target'), ('cuda:sm_86b', 'no CUDA target')]:
            r = run(musec, CONFIG, *SMALL, '--emit=cuda', '--target', target)
            self.assertEqual(r.returncode, 2, target)
            self.assertIn(part, r.stderr)
        r = run(musec, CONFIG, *SMALL, '--emit=ptx', '--nvrtc', '/nonexistent/libnvrtc.so')
        self.assertEqual(r.returncode, 1)
        self.assertIn('--nvrtc /nonexistent/libnvrtc.so cannot be loaded: there is no such file', r.stderr)

    def test_doctor_and_ptx(self):
        r = run(muse_run, 'doctor', '--json')
        self.assertEqual(r.returncode, 0, r.stderr)
        report = json.loads(r.stdout)
        self.assertTrue(('gpus' in report and 'cuda_driver' in report) or report['gpu'].startswith('none: '), report)
        if 'nvrtc' not in report:
            self.assertIn('--nvrtc PATH', report['nvrtc_missing'])
            self.skipTest(report['nvrtc_missing'])
        with tempfile.TemporaryDirectory() as folder:
            r = run(musec, one_kernel(folder), '--passes=fuse_map,outline', '--emit=ptx', '--target', 'cuda:sm_86')
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn('.target sm_86', r.stdout)
        self.assertIn('.entry k', r.stdout)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
