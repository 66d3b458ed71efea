#!/usr/bin/env python3
"""A run that is interrupted at any moment ends as one that is not: byte for byte."""
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

import programs
from programs import program, run

CONFIG = programs.SMALL_HYBRID + '''gradient_precision: int8
batch_size: 4
max_steps: 60
warmup_steps: 5
learning_rate: 3e-3
save_interval: 3
keep_checkpoints: 2
eval_interval: 20
eval_batches: 1
log_interval: 10
'''
KILLS = 20


def text(n):
    draw = random.Random(11)
    words = ['resolvent', 'trit', 'green', 'the', 'of', 'operator', 'seed', 'a', 'kernel', 'and']
    return ' '.join(draw.choice(words) for _ in range(n))


class Resume(programs.Scratch):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path('texts'))
        for i in range(4):
            with open(self.path('texts', f'{i}.txt'), 'w', encoding='utf-8') as f:
                f.write(text(4000 + i))
        run('muse-data', 'tokenize', self.path('texts'), '-o', self.path('data'), '-q')

    def train(self, plan, out, *args):
        data = ['--data', self.path('data')]
        return [program('muse-run'), 'train', plan, *data, '-o', self.path(out), '-q', *map(str, args)]

    def final(self, out, step=60):
        """Hashes: unittest would spell out the difference of two files."""
        files = [self.path(out, f'step-{step}', name) for name in ('model.safetensors', 'train.safetensors')]
        return [hashlib.sha256(open(file, 'rb').read()).hexdigest() for file in files]

    def history(self, out):
        """metrics.jsonl without what depends on the clock, the machine and the number of starts."""
        lines = [json.loads(line) for line in open(self.path(out, 'metrics.jsonl'), encoding='utf-8')]
        return [{k: v for k, v in line.items() if k not in ('tokens_per_second', 'memory_bytes')} for line in lines
                if line['kind'] not in ('start', 'kernel')]

    def check_kills(self, *sets):
        plan = self.plan(CONFIG, *sets)
        start = time.monotonic()
        subprocess.run(self.train(plan, 'whole'), check=True, capture_output=True)
        subprocess.run(self.train(plan, 'again'), check=True, capture_output=True)  # kernels are cached now
        self.assertEqual(self.final('whole'), self.final('again'))
        seconds, draw, kills, tries = time.monotonic() - start, random.Random(5), 0, 0
        length = seconds / 2 / 6  # of a piece: about a sixth of a run
        while kills < KILLS:
            tries += 1
            self.assertLess(tries, 20 * KILLS, 'the run is never in the middle of something')
            p = subprocess.Popen(self.train(plan, 'killed', '--resume'), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE)
            try:
                p.wait(timeout=draw.uniform(0, 2 * length))
                self.assertEqual(p.returncode, 0, p.stderr.read())
                self.assertEqual(self.final('killed'), self.final('whole'))
                subprocess.run(['rm', '-r', self.path('killed')], check=True)  # over before it was killed: start again
            except subprocess.TimeoutExpired:
                p.send_signal(signal.SIGKILL)
                p.wait()
                kills += 1
            p.stderr.close()
        run('muse-run', *self.train(plan, 'killed', '--resume')[1:])
        self.assertEqual(self.final('killed'), self.final('whole'))
        self.assertEqual(self.history('killed'), self.history('whole'))

    def test_kills(self):
        self.check_kills()

    def test_kills_with_compact_optimizer(self):
        self.check_kills('optimizer=adafactor8', 'gradient_accumulation_steps=2', 'batch_size=2', 'max_steps=60')

    def test_every_step_can_be_resumed(self):
        """A checkpoint of every step, each gone on from: also what is rebuilt when it is loaded has the same bits."""
        for sets in (['optimizer=adamw'], ['optimizer=adafactor8', 'd_model=96', 'num_heads=3']):
            plan, name = self.plan(CONFIG, *sets), sets[0].split('=')[1]
            run('muse-run', *self.train(plan, name, '--steps', 24, '--save-interval', 1, '--keep', 0)[1:])
            whole = {line['step']: line for line in self.history(name) if line['kind'] == 'train'}
            for step in range(1, 24, 2):
                part = f'{name}-{step}'
                os.mkdir(self.path(part))
                shutil.copytree(self.path(name, f'step-{step}'), self.path(part, f'step-{step}'))
                run('muse-run', *self.train(plan, part, '--steps', 24, '--resume', '--stop-after', 1)[1:])
                with self.subTest(optimizer=name, step=step):
                    trained = [line for line in self.history(part) if line['kind'] == 'train']
                    self.assertEqual(trained, [whole[step + 1]])
                    self.assertEqual(self.final(part, step + 1), self.final(name, step + 1))

    def test_stop_signals(self):
        plan = self.plan(CONFIG, 'max_steps=400')
        for number in (signal.SIGINT, signal.SIGTERM):
            out = f'stopped{number}'
            p = subprocess.Popen(self.train(plan, out, '--steps', 100000), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
            while not os.path.exists(self.path(out, 'latest')):
                self.assertIsNone(p.poll())
                time.sleep(0.02)
            p.send_signal(number)
            message = p.communicate(timeout=60)[1]
            self.assertEqual(p.returncode, 75, message)
            self.assertRegex(message, r'stopped after step (\d+), which is saved')
            step = int(open(self.path(out, 'latest'), encoding='utf-8').read().strip().split('-')[1])
            self.assertIn(f'stopped after step {step},', message)
            trained = [line['step'] for line in self.history(out) if line['kind'] == 'train']
            self.assertEqual(trained, list(range(1, step + 1)))
            kept = [d for d in os.listdir(self.path(out)) if d.startswith('step-')]
            self.assertLessEqual(len(kept), 2)  # keep_checkpoints

    def test_stop_after(self):
        plan = self.plan(CONFIG)
        run('muse-run', *self.train(plan, 'whole')[1:])
        for n in (1, 7, 20):
            run('muse-run', *self.train(plan, 'pieces', '--resume', '--stop-after', n)[1:])
        run('muse-run', *self.train(plan, 'pieces', '--resume', '-j', 1)[1:])
        self.assertEqual(self.final('pieces'), self.final('whole'))
        self.assertEqual(self.history('pieces'), self.history('whole'))

    def test_advice_counts_across_resumes(self):
        plan = self.plan(CONFIG, 'patience_steps=12', 'learning_rate=1e-9')
        run('muse-run', *self.train(plan, 'whole')[1:])
        for n in (5, 9, 11):
            run('muse-run', *self.train(plan, 'pieces', '--resume', '--stop-after', n)[1:])
        run('muse-run', *self.train(plan, 'pieces', '--resume')[1:])
        told = [(line['step'], line['text']) for line in self.history('whole') if line['kind'] == 'advice']
        self.assertGreater(len(told), 2)
        self.assertEqual(told, [(line['step'], line['text']) for line in self.history('pieces')
                                if line['kind'] == 'advice'])

    def test_a_run_is_not_overwritten(self):
        plan = self.plan(CONFIG)
        run('muse-run', *self.train(plan, 'whole', '--steps', 3)[1:])
        done = run('muse-run', *self.train(plan, 'whole', '--steps', 3)[1:], status=2)
        self.assertIn('holds a run already', done.stderr)
        p = subprocess.Popen(self.train(plan, 'busy', '--steps', 100000), stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        try:
            while not os.path.exists(self.path('busy', 'latest')):
                self.assertIsNone(p.poll())
                time.sleep(0.02)
            done = run('muse-run', *self.train(plan, 'busy', '--resume')[1:], status=2)
            self.assertIn('another muse-run trains', done.stderr)
        finally:
            p.kill()
            p.wait()

    def test_resuming_with_other_data_is_refused(self):
        plan = self.plan(CONFIG)
        run('muse-run', *self.train(plan, 'whole', '--steps', 3)[1:])
        with open(self.path('texts', '0.txt'), 'a', encoding='utf-8') as f:
            f.write('more')
        run('muse-data', 'tokenize', self.path('texts'), '-o', self.path('data'), '-q')
        done = run('muse-run', *self.train(plan, 'whole', '--resume')[1:], status=5)
        self.assertIn('belongs to other data', done.stderr)
        done = run('muse-run', *self.train(self.plan(CONFIG, 'd_model=32'), 'whole', '--resume')[1:], status=5)
        self.assertIn('another configuration', done.stderr)


if __name__ == '__main__':
    programs.main()
