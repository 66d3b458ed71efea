#!/usr/bin/env python3
"""muse-run with wrong input, and its smaller commands: one sentence, the right exit code, no crash."""
import json
import os
import random

import programs
from programs import run

CONFIG = '''vocab_size: 61
d_model: 32
n_layers: 1
num_heads: 2
n_seq: 16
local_window: 8
eos_token_id: 7
batch_size: 2
max_steps: 3
warmup_steps: 1
'''


class Commands(programs.Scratch):
    def test_usage(self):
        self.assertIn('usage: muse-run COMMAND', run('muse-run', status=2).stderr)
        self.assertIn('train', run('muse-run', '--help').stdout)
        self.assertRegex(run('muse-run', '--version').stdout, r'^muse-run \d+\.\d+\.\d+')
        self.assertIn("did you mean 'train'", run('muse-run', 'trian', status=2).stderr)
        for command in ('train', 'eval', 'generate', 'init', 'tensors', 'bench', 'doctor'):
            self.assertIn(f'usage: muse-run {command}', run('muse-run', command, '--help').stdout)
            if command != 'doctor':
                self.assertIn('name a plan', run('muse-run', command, status=2).stderr)
            self.assertIn('unknown option', run('muse-run', command, '--nonsense', status=2).stderr)

    def test_wrong_values(self):
        plan = self.plan(CONFIG)
        for args, sentence in (
                (['train', plan], '--data'),
                (['train', plan, '--data', 'x', '--tokens', 'y.safetensors'], 'not both'),
                (['train', plan, '--data', self.path('nothing')], 'nothing'),
                (['train', plan, '--tokens', 'data.bin'], '.safetensors'),
                (['train', plan, '--tokens', 'x.safetensors', '--resume'], '--resume needs'),
                (['train', plan, '--data', 'x', '--steps', '-5'], '--steps'),
                (['train', plan, '--data', 'x', '--steps', 'many'], '--steps'),
                (['train', plan, '--data', 'x', '--seed', '-1'], '--seed'),
                (['train', plan, '--data', 'x', '--check=gpu'], "only check is 'eval'"),
                (['train', plan, '--data', 'x', '-j', '-1'], '--threads'),
                (['train', plan, '--data', 'x', '--cpu-level', 'avx9000'], 'avx9000'),
                (['train', plan, plan, '--data', 'x'], 'takes one plan'),
                (['eval', plan], '--data'),
                (['generate', plan], 'names no tokenizer'),
                (['generate', plan, '-t', '-1'], 'temperature'),
                (['generate', plan, '--top-p', '0'], 'top-p'),
                (['generate', plan, '--tokenizer', 'bytes'], 'vocab_size is 61'),
                (['generate', plan, '--tokenizer', 'none'], "no tokenizer 'none'"),
                (['generate', plan, '-c', self.path('nothing'), '--tokenizer', 'none'], 'which --checkpoint names'),
                (['tensors', plan], '--tokens'),
                (['init', plan], '-o'),
                (['init', plan, '--param', 'embed.wieght', '-o', self.path('x')], "did you mean 'embed.weight'"),
                (['bench', plan, '-f', 'nothing'], '@nothing'),
                (['doctor', 'now'], 'no operand')):
            with self.subTest(args=args):
                done = run('muse-run', *args, status=None, cwd=self.dir)
                self.assertIn(done.returncode, (2, 5), done.stderr)
                self.assertIn(sentence, done.stderr)
                self.assertLessEqual(done.stderr.count('error:'), 1, done.stderr)
        self.assertEqual(sorted(os.listdir(self.dir)), ['model.plan', 'model.plan.yaml'])

    def test_many_layers(self):
        """A function has as many results as the layers give it."""
        with open(self.path('deep.yaml'), 'w', encoding='utf-8') as f:
            f.write(CONFIG)
        text = run('musec', self.path('deep.yaml'), '--set', 'n_layers=150', '--bisect=0', '--emit=mir').stdout
        self.assertIn('"layers.149.ffn.down.weight"', text)

    def test_damaged_plans(self):
        plan = self.plan(CONFIG)
        with open(plan, encoding='utf-8') as f:
            text = f.read()
        draw = random.Random(4)
        cases = ['', '\0' * 100, 'hello', text[:len(text) // 2]]
        cases += [text.replace(old, new) for old, new in (
            ('n_seq = 16', 'n_seq = "x"'), ('vocab_size = 61', 'vocab_size = -1'), ('init = "normal"', 'init = "what"'),
            ('seed =', 'sed ='), ('std = ', 'stt = '))]
        for _ in range(40):
            i = draw.randrange(len(text))
            cases.append(text[:i] + draw.choice('x9-{}"%@ \n') + text[i + draw.randrange(3):])
        refused = 0
        for i, case in enumerate(cases):
            with open(self.path('bad.plan'), 'w', encoding='utf-8') as f:
                f.write(case)
            done = run('muse-run', 'init', self.path('bad.plan'), '-o', self.path(f'out{i}'), '-q', status=None)
            with self.subTest(case=i):
                self.assertIn(done.returncode, (0, 1, 2, 3), done.stderr)
                self.assertEqual(done.returncode != 0, 'error:' in done.stderr)
            refused += done.returncode != 0
        self.assertGreater(refused, 20)
        run('muse-run', 'init', self.path('missing.plan'), '-o', self.path('x'), status=2)

    def test_damaged_checkpoints(self):
        plan = self.plan(CONFIG, 'vocab_size=257', 'tokenizer=bytes', 'eos_token_id=256')
        run('muse-run', 'init', plan, '-o', self.path('run'))
        done = run('muse-run', 'init', plan, '-o', self.path('run'), status=2)
        self.assertIn('holds checkpoints already', done.stderr)
        generate = ['generate', plan, '-c', self.path('run'), '-n', 3, '-q']
        run('muse-run', *generate)
        file = self.path('run', 'step-0', 'model.safetensors')
        content = bytearray(open(file, 'rb').read())
        content[-100] ^= 1
        with open(file, 'wb') as f:
            f.write(content)
        done = run('muse-run', *generate, status=2)
        self.assertIn('is damaged: its checksum', done.stderr)

    def test_doctor(self):
        done = run('muse-run', 'doctor')
        for word in ('processor', 'cores', 'memory', 'libmuse-cpu.so', 'LLVM', 'kernel cache'):
            self.assertIn(word, done.stdout)
        report = json.loads(run('muse-run', 'doctor', '--json').stdout)
        self.assertGreaterEqual(report['cores'], 1)
        self.assertIn(report['cpu_level'], report['cpu_levels'].split())

    def test_bench(self):
        plan = self.plan(CONFIG)
        table = run('muse-run', 'bench', plan, '-q', '-n', 1, '--check=eval')
        self.assertRegex(table.stdout, r'this machine, \d+ threads: copy [\d.]+ GB/s')
        self.assertRegex(table.stdout, r'@grad .*ternary_matmul')
        self.assertRegex(table.stderr, r'check: (\d+) of \1 kernel calls')
        report = json.loads(run('muse-run', 'bench', plan, '--json', '-q', '-f', 'decode', '-n', 2).stdout)
        self.assertTrue(report['kernels'])
        for kernel in report['kernels']:
            self.assertEqual(kernel['function'], 'decode')
            self.assertGreater(kernel['bytes'], 0)
            self.assertGreater(kernel['seconds'], 0)

    def test_cache(self):
        plan = self.plan(CONFIG)
        args = ['init', plan, '-o']
        first = run('muse-run', 'bench', plan, '-n', 1, '--cache-dir', self.path('cache'), '--json').stderr
        second = run('muse-run', 'bench', plan, '-n', 1, '--cache-dir', self.path('cache'), '--json').stderr
        n = int(first.split('kernels: ')[1].split(',')[0])
        self.assertRegex(first, rf'kernels: {n}, of which {n} compiled now')
        self.assertRegex(second, rf'kernels: {n}, of which 0 compiled now .* and {n} from the cache')
        for folder, _, files in os.walk(self.path('cache')):
            for name in files[:5]:
                with open(os.path.join(folder, name), 'r+b') as f:
                    f.seek(40)
                    f.write(b'damage')
        third = run('muse-run', 'bench', plan, '-n', 1, '--cache-dir', self.path('cache'), '--json').stderr
        self.assertRegex(third, r'of which 5 compiled now')


if __name__ == '__main__':
    programs.main()
