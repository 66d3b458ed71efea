#!/usr/bin/env python3
"""Compressed models: made, verified, trained on, converted back; and what is wrong with wrong ones."""
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import time

import programs
from programs import SOURCE, load, program, run

CONFIG = programs.TINY_HYBRID + """max_steps: 120
warmup_steps: 4
learning_rate: 3e-3
eval_interval: 0
"""
TEXT = ''.join(f'Line {i} of a text that says nothing, {i * i} times over.\n' for i in range(400))
CONFIGS = ['muse-tiny', 'phase8_300m', 'phase8_1b', 'phase8_10b', 'phase8_10b_rtx3080']


def digit(byte, j):
    """Trit j of a byte of T5 (ir/type.h)."""
    return (byte * 3 ** j % 256 * 3 >> 8) - 1


class Compress(programs.Scratch):
    def text(self):
        with open(self.path('text.txt'), 'w', encoding='utf-8') as f:
            f.write(TEXT)
        run('muse-data', 'tokenize', self.path('text.txt'), '-o', self.path('text'), '-q')
        return self.path('text')

    def losses(self, *args):
        done = run('muse-run', 'train', *args, '--json')
        return [json.loads(line)['loss'] for line in done.stdout.splitlines()], done.stderr

    def test_the_whole_way(self):
        config, data, start = self.config(CONFIG), self.text(), self.path('start')
        done = run('muse-run', 'compress', config, '-o', start, '--verify')
        self.assertIn('verified against its seed', done.stdout)
        for group in ('embedding', 'attention matrices', 'feed-forward matrices', 'small'):
            self.assertIn(group, done.stdout)
        plain, _ = self.losses(config, '--data', data, '-o', self.path('plain'), '-n', 6)
        first, notes = self.losses(config, '--data', data, '--init', start, '-o', self.path('run'), '-n', 6,
                                   '--stop-after', 3)
        self.assertIn('equal to the bit', notes)
        rest, _ = self.losses(config, '--data', data, '-o', self.path('run'), '-n', 6, '--resume')
        self.assertEqual(first + rest, plain)
        plan = self.path('run', 'model.plan') # kept by the run
        measured = json.loads(run('muse-run', 'eval', plan, '--data', data, '-c', self.path('run'), '--json').stdout)
        run('muse-run', 'compress', config, '-c', self.path('run'), '-o', self.path('small'), '--verify')
        for given in (['-c', self.path('small')], ['-p', self.path('small')],
                      ['-p', self.path('small', 'model.safetensors')]):
            again = json.loads(run('muse-run', 'eval', plan, '--data', data, *given, '--json').stdout)
            self.assertAlmostEqual(again['loss'], measured['loss'], delta=2e-3) # trits as they were, embedding in int8
            self.assertNotEqual(again['loss'], measured['loss'])
        written = run('muse-run', 'generate', plan, '-p', self.path('small'), '--prompt', 'Line', '-n', 8, '--json')
        self.assertEqual(json.loads(written.stdout)['tokens'], 8)
        on, notes = self.losses(config, '--data', data, '--init', self.path('small'), '-o', self.path('on'), '-n', 2)
        self.assertIn('converted model', notes)
        self.assertLess(on[0], plain[0])

    def test_forms_of_the_model(self):
        """Tensor train, int8 latents, no BitNet: what starts from the file equals what starts from the seed."""
        data = self.text()
        for sets in (['use_htt_embedding=true', 'htt_rank=8'], ['optimizer=adafactor8'], ['use_bitnet=false']):
            args = [x for s in sets for x in ('--set', s)]
            start, config = self.path('start'), self.config(CONFIG)
            run('muse-run', 'compress', config, *args, '-o', start, '--verify')
            plain, _ = self.losses(config, *args, '--data', data, '-o', self.path('plain'), '-n', 2)
            same, _ = self.losses(config, *args, '--data', data, '-o', self.path('run'), '--init', start, '-n', 2)
            self.assertEqual(same, plain, sets)
            run('muse-run', 'compress', config, *args, '-c', self.path('run'), '-o', self.path('small'), '--verify')
            on, _ = self.losses(config, *args, '--data', data, '-o', self.path('on'), '--init', self.path('small'),
                                '-n', 1)
            self.assertLess(on[0], plain[0])
            for folder in ('start', 'plain', 'run', 'small', 'on'):
                shutil.rmtree(self.path(folder))

    def test_content_is_what_the_documents_say(self):
        plan = self.plan(CONFIG)
        run('muse-run', 'compress', plan, '-o', self.path('a'))
        run('muse-run', 'compress', plan, '-o', self.path('b.safetensors'), '-j', 3)
        with open(self.path('a', 'model.safetensors'), 'rb') as a, open(self.path('b.safetensors'), 'rb') as b:
            self.assertEqual(a.read(), b.read()) # whatever the threads
        run('muse-run', 'init', plan, '-o', self.path('full'), '-q')
        full, small = load(self.path('full', 'step-0', 'model.safetensors')), load(self.path('b.safetensors'))
        up, packed = full['layers.0.ffn.up.weight'], small['layers.0.ffn.up.weight']
        gamma = small['scale.layers.0.ffn.up.weight'].data[0]
        self.assertAlmostEqual(gamma, sum(map(abs, up.data)) / len(up.data), delta=1e-8)
        self.assertEqual(packed.shape, [128, 64])
        for n in range(128):
            row = [digit(packed.data[64 * n + k % 64], k // 64) for k in range(320)]
            want = [max(-1, min(1, round(x / gamma))) for x in up.data[32 * n:32 * n + 32]]
            self.assertEqual(row, want + [0] * 288)
        embed, scales = small['embed.weight'], small['scale.embed.weight'].data
        for i, x in enumerate(full['embed.weight'].data):
            self.assertLessEqual(abs(x - embed.data[i] * scales[i // 32]), 0.5001 * scales[i // 32])
        self.assertEqual(small['final_norm.weight'].data, full['final_norm.weight'].data)

    def test_wrong_files(self):
        config, data, start = self.config(CONFIG), self.text(), self.path('start')
        file = os.path.join(start, 'model.safetensors')
        run('muse-run', 'compress', config, '-o', start, '-q')
        with open(file, 'rb') as f:
            good = f.read()
        self.refused('muse-run', 'compress', config, '-o', start, says='exists already')
        self.refused('muse-run', 'compress', config, '-p', file, '-o', self.path('x'), says='compressed already')
        train = ['muse-run', 'train', config, '--data', data, '-o', self.path('run'), '--init', start]
        (header,) = struct.unpack('<Q', good[:8])
        for content, says in [(good[:-100], 'cut short'), (good[:5], 'too few'), (b'', 'too few'),
                              (good[:9000] + bytes([good[9000] ^ 1]) + good[9001:], 'damaged'),
                              (good.replace(b'"seed":"42"', b'"seed":"43"'), 'damaged'),
                              (good.replace(b'"kind":"initial"', b'"kind":"strange"'), 'lacks kind'),
                              (good.replace(b'"version":"1"', b'"version":"9"'), 'version 9')]:
            with open(file, 'wb') as f:
                f.write(content)
            self.refused(*train, says=says)
            self.refused('muse-run', 'compress', config, '-o', start, '--verify',
                         says=says)
        self.assertGreater(len(good), header + 9100)
        with open(file, 'wb') as f:
            f.write(good)
        for change, says in [('d_model=64', 'another configuration'), ('n_layers=2', 'another configuration'),
                             ('use_bitnet=false', 'another configuration'), ('num_heads=1', 'another configuration'),
                             ('ffn_activation=gelu', 'ffn_activation: relu2'),
                             ('ffn_mult=2', 'another configuration')]:
            self.refused(*train, '--set', change, says=says, status=5)
        self.refused('muse-run', 'compress', config, '-o', start, '--verify', '--seed', 7, status=5,
                     says='is not what it was made from')
        self.refused('muse-run', 'train', config, '--data', data, '--init', self.path('none'), says='there is no')
        self.refused('muse-run', 'compress', config, '-o', self.path('x'), '-c', self.path('none'), says='cannot open')
        self.refused('muse-run', 'compress', config, says='-o')
        self.refused('muse-run', 'compress', self.path('none.yaml'), '-o', self.path('x'), says='none.yaml')
        self.assertFalse(os.path.exists(self.path('x')))
        shutil.rmtree(self.path('run'))
        other = self.plan(CONFIG, 'seed=7') # the order of the text is the plan's, the parameters are the file's
        _, notes = self.losses(other, '--data', data, '-o', self.path('run'), '--init', start, '-n', 1)
        self.assertIn('seed 42', notes)

    def test_evaluating_takes_the_memory_of_the_trits(self):
        """A model that is not trained has neither moments nor, once they are packed, its f32 parameters in memory."""
        text = CONFIG
        for old, new in (('d_model: 32', 'd_model: 1024'), ('n_layers: 1', 'n_layers: 6'), ('heads: 2', 'heads: 8')):
            text = text.replace(old, new)
        plan, data, start = self.plan(text), self.text(), self.path('start')
        run('muse-run', 'compress', self.config(text), '-o', start, '-q')
        evaluate = [program('muse-run'), 'eval', plan, '--data', data, '--batches', '1', '--json']
        losses = []
        for params in ([], ['--checkpoint', start]):
            for _ in range(2):  # the first compiles kernels, which takes memory too
                with subprocess.Popen([*evaluate, *params], stdout=subprocess.PIPE, text=True) as process:
                    losses.append(json.loads(process.stdout.read())['loss'])
                    _, status, usage = os.wait4(process.pid, 0)
                    process.returncode = os.waitstatus_to_exitcode(status)
                self.assertEqual(process.returncode, 0)
            # 75 million parameters: 300 MB, and twice that of moments; a layer has 50 MB, and all trits 38 MB.
            self.assertLess(usage.ru_maxrss * 1024, 250e6)
        self.assertEqual(len(set(losses)), 1, losses)

    def test_another_tokenizer(self):
        other = os.path.join(SOURCE, 'tests', 'tokenizers', 'gpt2.json')
        text = CONFIG.replace('vocab_size: 257', 'vocab_size: 2048')
        theirs = text.replace('tokenizer: bytes', f'tokenizer: {other}')
        self.text()
        run('muse-data', 'tokenize', self.path('text.txt'), '-t', other, '-o', self.path('gpt2'), '-q')
        run('muse-run', 'compress', self.config(text), '-o', self.path('start'), '-q')
        train = ['muse-run', 'train', self.config(theirs, 'theirs.yaml'), '--data', self.path('gpt2')]
        self.refused(*train, '--init', self.path('start'), '-o', self.path('run'), status=5, says='another tokenizer')
        shutil.rmtree(self.path('run'))
        run(*train, '-o', self.path('run'), '-n', 1)
        self.refused('muse-run', 'compress', self.config(text), '-c', self.path('run'), '-o', self.path('x'), status=5,
                     says='another tokenizer')

    def test_nothing_half_written(self):
        config = self.config(CONFIG)
        with open(self.path('file'), 'w', encoding='utf-8'):
            pass
        self.refused('muse-run', 'compress', config, '-o', self.path('file', 'x'), says='Not a directory')
        self.refused('muse-run', 'compress', config, '-o', self.path('x'), status=1, says='File too large',
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)))
        self.assertFalse(os.path.exists(self.path('x')))
        os.mkdir(self.path('locked'), 0o500)
        if os.geteuid() != 0:
            self.refused('muse-run', 'compress', config, '-o', self.path('locked'), status=1, says='Permission')
        big = os.path.join(SOURCE, 'configs', 'phase8_1b.yaml')
        process = subprocess.Popen([program('muse-run'), 'compress', big, '-o', self.path('y', 'z')],
                                   stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while process.poll() is None and not (os.path.isdir(self.path('y', 'z')) and os.listdir(self.path('y', 'z'))):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        self.assertEqual(process.returncode, 75, errors)
        self.assertIn('nothing was written', errors)
        self.assertFalse(os.path.exists(self.path('y', 'z')))

    def test_a_full_disk_is_seen_before_the_work(self):
        os.mkdir(self.path('disk'))
        mount = f'mount -t tmpfs -o size=200k none {self.path("disk")}'
        if subprocess.run(['unshare', '-m', 'sh', '-c', mount], capture_output=True, check=False).returncode != 0:
            self.skipTest('mounting a small file system needs root')
        script = f'{mount} && {program("muse-run")} compress {self.config(CONFIG)} -o {self.path("disk", "x")}; ' \
                 f'echo $? $(ls {self.path("disk")})'
        done = subprocess.run(['unshare', '-m', 'sh', '-c', script], capture_output=True, text=True, check=False)
        self.assertIn('no space', done.stderr)
        self.assertEqual(done.stdout.split(), ['1'])

    def test_memory_is_checked_before_the_work(self):
        config, data = self.config(CONFIG), self.text()
        self.refused('muse-run', 'train', config, '--data', data, '-o', self.path('run'), '--host-memory', '1MB',
                     '--set', 'n_layers=8', status=3, says=['to train', 'has 1.0 MB available', 'this fits', '--device cuda'])
        plan = self.plan(CONFIG)
        self.refused('muse-run', 'train', plan, '--data', data, '-o', self.path('run'), '--host-memory', '10kB',
                     status=3, says=['has 10.0 kB available', 'take a smaller config'])
        self.assertFalse(os.path.exists(self.path('run')))
        self.refused('muse-run', 'train', plan, '--set', 'n_layers=2', '--data', data, says='is a plan')

    def test_memory_of_what_does_not_train(self):
        plan, data = self.plan(CONFIG), self.text()
        run('musec', self.config(CONFIG), '--set', 'batch_size=64', '-o', self.path('wide.plan'))
        batch = [[1] * (programs.plan_int(plan, 'n_seq') + 1)] * programs.plan_int(plan, 'batch_size')
        programs.tokens(self.path('t.safetensors'), [batch])
        for args in (['eval', plan, '--data', data, '-n', 1], ['generate', plan, '-n', 2], ['bench', plan, '-n', 1],
                     ['tensors', plan, '--tokens', self.path('t.safetensors'), '--out', self.path('o.safetensors')]):
            done = self.refused('muse-run', *args, '--host-memory', '10kB', status=3,
                                says=['to run, and --host-memory has 10.0 kB available', 'smaller config'])
            self.assertNotIn('kernels:', done.stderr)  # before any is compiled
            run('muse-run', *args, '--host-memory', '1GB')
        # what is not used does not count: gradients and moments, or the batch of training
        needs = [self.needed(args) for args in (['eval', plan, '--data', data], ['bench', plan],
                                                ['generate', plan], ['generate', self.path('wide.plan')])]
        self.assertLess(needs[0], needs[1])
        self.assertEqual(needs[2], needs[3])
        self.refused('muse-run', 'eval', self.path('wide.plan'), '--data', data, '--host-memory', str(needs[0] + 300000),
                     status=3, says='this fits: batch_size: 1 (')

    def needed(self, args):
        text = run('muse-run', *args, '--host-memory', '1', status=3).stderr
        value, unit = re.search(r'needs ([0-9.]+) (kB|MB)', text).groups()
        return int(float(value) * {'kB': 1000, 'MB': 1000000}[unit])

    def test_the_course_is_told(self):
        config, data = self.config(CONFIG), self.text()
        done = run('muse-run', 'train', config, '--data', data, '-o', self.path('run'))
        self.assertRegex(done.stderr, r'100 steps without an error, loss from 5\.\d+ to [1-4]\.\d+')
        done = run('muse-run', 'train', config, '--data', data, '-o', self.path('flat'), '-n', 40,
                   '--set', 'patience_steps=20', '--set', 'learning_rate=1e-9')
        self.assertIn('the loss has not fallen for', done.stderr)
        self.assertIn('set learning_rate: 5e-10 (half of 1e-09), warmup_steps: 8 (twice 4)', done.stderr)
        with open(self.path('flat', 'metrics.jsonl'), encoding='utf-8') as f:
            advice = [line for line in map(json.loads, f) if line['kind'] == 'advice']
        self.assertTrue(advice and 'gradient_accumulation_steps: 2' in advice[0]['text'])

    def test_configs(self):
        """Every one of configs/ loads; those that fit a machine of any size compile as they are."""
        for name in CONFIGS:
            config = os.path.join(SOURCE, 'configs', name + '.yaml')
            if name == 'phase8_10b_rtx3080':
                self.refused('musec', config, '--check', status=3, says=['memory budget is 8.6 GB', 'this fits'])
            run('musec', config, '--check', '--set', 'memory_budget=0')
        self.assertEqual(sorted(os.listdir(os.path.join(SOURCE, 'configs'))),
                         sorted([n + '.yaml' for n in CONFIGS] + ['dataset_mixing.yaml', 'datasets.yaml']))


if __name__ == '__main__':
    programs.main()
