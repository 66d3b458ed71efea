#!/usr/bin/env python3
"""CUDA C and PTX of a model's kernels, what is refused, and what `doctor` says of the GPU. Needs no GPU.

Usage: test_cuda_text.py MUSEC MUSE_RUN SOURCE_ROOT
"""
import filecmp
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
            self.assertEqual(r.returncode, 0, r.stderr)
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
        for target, part in [('cuda:sm_70', 'sm_75'), ('cuda:86', 'is no CUDA target'), ('cuda:sm_86b', 'no CUDA target')]:
            r = run(musec, CONFIG, *SMALL, '--emit=cuda', '--target', target)
            self.assertEqual(r.returncode, 2, target)
            self.assertIn(part, r.stderr)
        r = run(musec, CONFIG, *SMALL, '--emit=ptx', '--nvrtc', '/nonexistent/libnvrtc.so')
        self.assertEqual(r.returncode, 1)
        self.assertIn('--nvrtc /nonexistent/libnvrtc.so cannot be loaded: there is no such file', r.stderr)

    def test_one_plan_for_all_devices(self):
        with tempfile.TemporaryDirectory() as folder:
            plans = []
            for i, target in enumerate((['--target', 'cuda:sm_86'], [])):
                plans.append(os.path.join(folder, f'{i}.plan'))
                self.assertEqual(run(musec, CONFIG, *SMALL, *target, '-o', plans[i]).returncode, 0)
            self.assertTrue(filecmp.cmp(*plans, shallow=False))
            for device, part, code in [('gpu', '--device takes cpu, cuda or cuda:N', 2), ('cuda:', '--device takes', 2),
                                       ('cuda:99', None, None)]:
                r = run(muse_run, 'generate', plans[0], '--device', device, '--prompt', 'x')
                if part is None:  # no driver, or no hundredth GPU
                    self.assertIn(r.returncode, (1, 2), r.stderr)
                    self.assertIn('NVIDIA driver' if r.returncode == 1 else 'there is no GPU 99', r.stderr)
                else:
                    self.assertEqual(r.returncode, code, r.stderr)
                    self.assertIn(part, r.stderr)
            # The initial parameters are made by the host, whatever the device.
            r = run(muse_run, 'init', plans[0], '--device', 'cuda', '-o', os.path.join(folder, 'run'))
            self.assertEqual(r.returncode, 0, r.stderr)

    def test_kernels_of_a_plan(self):
        """The cache, dumps, overrides and errors of kernels need NVRTC, but no GPU."""
        report = json.loads(run(muse_run, 'doctor', '--json').stdout)
        if 'nvrtc' not in report:
            self.skipTest(report['nvrtc_missing'])
        library = report['nvrtc'].split(', ')[1]
        with tempfile.TemporaryDirectory() as folder:
            plan, cache, link = (os.path.join(folder, name) for name in ('a.plan', 'cache', 'libnvrtc.so.13'))
            dump, edited = os.path.join(folder, 'dump'), os.path.join(folder, 'edited')
            self.assertEqual(run(musec, CONFIG, *SMALL, '-o', plan).returncode, 0)
            common = [muse_run, 'kernels', plan, '-f', 'norms', '--cache-dir', cache]

            def kernels(*args, code=0):
                r = run(*common, *args)
                self.assertEqual(r.returncode, code, r.stderr)
                return r.stderr if code else r.stdout

            first = kernels('--target', 'cuda:sm_80')
            n = int(first.split()[0])
            self.assertGreater(n, 3)
            self.assertIn(f'{n} compiled and 0 from the cache', first)
            self.assertIn(f'0 compiled and {n} from the cache', kernels('--target', 'cuda:sm_80'))
            self.assertIn(f'{n} compiled and 0', kernels('--target', 'cuda:sm_86'))  # another architecture, other code
            self.assertIn('no code for this GPU (sm_300)', kernels('--target', 'cuda:sm_300', code=1))
            # What is in the cache needs no NVRTC any more.
            if os.path.isabs(library):
                os.symlink(library, link)
                kernels('--target', 'cuda:sm_80', '--nvrtc', link)
                os.remove(link)
                self.assertIn(f'{n} from the cache', kernels('--target', 'cuda:sm_80', '--nvrtc', link))
            self.assertIn(f'{n} compiled', kernels('--target', 'cuda:sm_80', '--no-cache'))
            for name in os.listdir(os.path.join(cache, 'kernels')):  # a damaged entry is made again
                with open(os.path.join(cache, 'kernels', name), 'r+b') as f:
                    f.seek(-1, 2)
                    f.write(b'?')
            self.assertIn(f'{n} compiled and 0', kernels('--target', 'cuda:sm_80'))

            kernels('--target', 'cuda:sm_80', '--dump-kernels=' + dump)
            names = sorted(file[:-3] for file in os.listdir(dump) if file.endswith('.cu'))
            self.assertEqual(len(names), n)
            texts = {}
            for suffix in ('mir', 'cu', 'ptx', 'log', 'launch'):
                with open(os.path.join(dump, f'{names[0]}.{suffix}'), encoding='utf-8') as f:
                    texts[suffix] = f.read()
            self.assertIn('.target sm_80', texts['ptx'])
            self.assertIn('registers', texts['log'])
            self.assertIn(f'{names[0]}_0: grid ', texts['launch'])
            self.assertIn(f'{names[0]}_0(', texts['cu'])

            os.mkdir(edited)
            with open(os.path.join(edited, names[0] + '.cu'), 'w', encoding='utf-8') as f:
                f.write(texts['cu'] + '// edited\n')
            self.assertIn(f'1 compiled and {n - 1} from', kernels('--target', 'cuda:sm_80', '--kernel-override', edited))
            with open(os.path.join(edited, names[0] + '.cu'), 'w', encoding='utf-8') as f:
                f.write(texts['cu'] + 'this is no CUDA\n')
            said = kernels('--target', 'cuda:sm_80', '--kernel-override', edited, code=1)
            self.assertIn(names[0], said)
            self.assertIn(': this is no CUDA', said)
            self.assertIn('note: IR: ', said)
            self.assertIn('note: log: ', said)

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
