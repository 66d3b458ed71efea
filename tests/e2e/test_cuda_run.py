#!/usr/bin/env python3
"""Whole models on a GPU: the reference cases, mixed precision, the CPU's training steps, determinism, resuming, decoding.
Without a GPU, a driver or NVRTC everything is skipped; unless MUSE_SOFTWARE_GPU names the folder of the software GPU
(tests/emulator), which then takes a GPU's place. Which of both ran is printed. Arguments: tests to run, otherwise all.

What the CPU computes is computed here where that is possible (libmuse-cpu.so needs LLVM), and otherwise taken from the
file that MUSE_CPU_REFERENCE names; `test_cuda_run.py --write-reference FILE` writes it elsewhere.
"""
import hashlib
import json
import os
import random
import sys
import unittest

import programs
import test_golden
from programs import cosine, load, relative_error, run

REFERENCE = os.environ.get('MUSE_CPU_REFERENCE', '')
SOFTWARE = os.environ.get('MUSE_SOFTWARE_GPU', '')


def missing(*args):
    """Why nothing can run on a GPU here, or None; and the GPU's name."""
    done = run('muse-run', 'doctor', '--json', *args, status=None)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        return f'muse-run doctor says: {done.stderr}', None
    if not report.get('gpus'):
        return report.get('gpu', 'there is no GPU'), None
    return report.get('nvrtc_missing') or report.get('nvrtc_problem'), report['gpus'][0]['name']


def find_device():
    """Options of muse-run for the GPU, why there is none, and is it the software GPU? A real one is preferred."""
    if '--write-reference' in sys.argv:
        return (), None, False
    why, name = missing()
    nvrtc = ()
    if why and SOFTWARE:
        os.environ['LD_LIBRARY_PATH'] = SOFTWARE
        nvrtc = ('--nvrtc', os.path.join(SOFTWARE, 'libnvrtc.so.12'))
        why, name = missing(*nvrtc)
        if why:  # asked for, so it must be there
            raise SystemExit(f'the software GPU in {SOFTWARE} does not run: {why}')
    if not why:
        print('runs on:', name, flush=True)
    return ('--device', 'cuda', *nvrtc), why, bool(nvrtc)


DEVICE, MISSING, IS_SOFTWARE = find_device()
REPLAYS = 1 if IS_SOFTWARE else 9

# Small, but with every kind of kernel: both mixers and the hybrid, documents, trits and plain weights.
BASE = '''vocab_size: 257
tokenizer: bytes
eos_token_id: 256
d_model: 64
n_layers: 2
n_seq: 48
num_heads: 2
local_window: 16
batch_size: 2
warmup_steps: 2
max_steps: 10
learning_rate: 3e-4
save_interval: 3
eval_interval: 0
sample_interval: 0
log_interval: 5
'''
MODELS = {
    'dense-f32': 'use_bitnet: false\nuse_mixed_precision: false\n',
    'bk-f32': 'use_bitnet: false\nuse_mixed_precision: false\nuse_hybrid_attention: false\n',
    'bk-mixed': 'use_bitnet: false\nuse_mixed_precision: true\nuse_hybrid_attention: false\n',
    'bitnet-f32': 'use_mixed_precision: false\n',
    'bitnet-mixed': 'use_mixed_precision: true\n',
    'bitnet-int8-gradients': 'use_mixed_precision: true\ngradient_precision: int8\n',
    'accumulation': 'use_mixed_precision: true\ngradient_accumulation_steps: 2\n',
    'checkpointing': 'use_mixed_precision: true\nuse_gradient_checkpointing: true\n',
    'adafactor': 'use_mixed_precision: true\noptimizer: adafactor8\n',
    'qhtt': 'use_mixed_precision: false\nuse_htt_embedding: true\nhtt_rank: 8\n',
    'qhtt-mixed': 'use_mixed_precision: true\nuse_htt_embedding: true\nhtt_rank: 12\n',
    'attention': 'use_birman_schwinger: false\nuse_hybrid_attention: false\nuse_mixed_precision: false\n',
}
# How far losses of ten steps may be from the CPU's: rounding of another order of sums, which training amplifies. (On the
# CPU alone, a learning rate that is larger by one part in 10,000 moves the losses of a BitNet model by up to 1.2e-2 at
# this rate, and by 4.8e-2 at 3e-3.)
STEP_BARS = {'dense-f32': 1e-4, 'bk-f32': 1e-4, 'qhtt': 2e-2, 'attention': 1e-2, 'bitnet-f32': 1e-2}
MIXED_BAR = 2e-2
# With the initial gate the halves of a head's output can cancel: these two miss the bars above by chance (an H200: 1.1e-4
# and 0.14).
CANCELLING_BARS = {'dense-f32': 3e-4, 'bitnet-mixed': 0.3}
DECODING_BARS = {'bk-f32': 1e-4, 'dense-f32': 1e-4, 'bitnet-f32': 1e-2, 'bitnet-mixed': 5e-2}


def move_gate(source, target):
    """Copies parameters with every gate_bias larger by 0.4."""
    params = load(source)
    for name, tensor in params.items():
        if name.endswith('gate_bias'):
            tensor.data[:] = type(tensor.data)('f', [x + 0.4 for x in tensor.data])
    programs.save(target, params)
    return target


def rows(path, steps, n_rows, length, vocabulary):
    """Token batches with something to learn: words in random order."""
    draw = random.Random(3)
    words = ['resolvent', 'trit', 'green', 'the', 'of', 'operator', 'seed', 'a', 'kernel', 'and']
    stream = ' '.join(draw.choice(words) for _ in range(steps * n_rows * length)).encode()
    take = iter(stream)
    programs.tokens(path, [[[256 if draw.random() < 0.01 else next(take) % vocabulary for _ in range(length)]
                            for _ in range(n_rows)] for _ in range(steps)])


def losses(done):
    return [json.loads(line)['loss'] for line in done.stdout.splitlines()]


class Model(programs.Scratch):
    def make(self, name):
        plan = self.plan(BASE + MODELS[name], name=name + '.plan')
        rows(self.path('tokens.safetensors'), 20, 2, 49, 257)
        return plan

    def train(self, plan, *args, device=DEVICE, **kwargs):
        return run('muse-run', 'train', plan, '--tokens', self.path('tokens.safetensors'), '--json', '-q', *args, *device,
                   **kwargs)


def reference(test, name, plan):
    """Losses of ten steps on the CPU."""
    if REFERENCE:
        with open(REFERENCE, encoding='utf-8') as f:
            known = json.load(f)
        if name in known:
            return known[name]
    done = test.train(plan, device=(), status=None)
    if done.returncode != 0:
        test.skipTest(f'the CPU cannot run it here ({done.stderr.strip()}) and MUSE_CPU_REFERENCE does not have it')
    return losses(done)


@unittest.skipIf(MISSING, MISSING)
class Training(Model):
    def check_steps(self, name):
        plan = self.make(name)
        want, got = reference(self, name, plan), losses(self.train(plan))
        self.assertEqual(len(got), len(want))
        off = max(abs(a - b) for a, b in zip(got, want))
        print(f'{name}: ten steps, losses off by {off:.1e} from the CPU', flush=True)
        self.assertLessEqual(off, STEP_BARS.get(name, MIXED_BAR))

    def final(self, folder):
        files = [self.path(folder, 'step-10', name) for name in ('model.safetensors', 'train.safetensors')]
        return [hashlib.sha256(open(file, 'rb').read()).hexdigest() for file in files]

    def check_records(self):
        """Counts of trits are read from the GPU; kernels are measured there."""
        with open(self.path('whole', 'metrics.jsonl'), encoding='utf-8') as f:
            lines = [json.loads(line) for line in f]
        sums = {tuple(sum(counts) for key, counts in line.items() if key.startswith('trits.'))
                for line in lines if line['kind'] == 'trits'}
        self.assertLessEqual(len(sums), 1)
        self.assertTrue(all(line['seconds'] > 0 for line in lines if line['kind'] == 'kernel'))
        self.assertIn('kernel', {line['kind'] for line in lines})

    def check_bits(self, name):
        plan = self.make(name)
        self.train(plan, '-o', self.path('whole'))
        self.check_records()
        for i in range(REPLAYS):
            self.train(plan, '-o', self.path(f'again{i}'))
            self.assertEqual(self.final(f'again{i}'), self.final('whole'), f'replay {i}')
        for stop in (4, 3):
            self.train(plan, '-o', self.path('parts'), '--stop-after', stop, '--resume')
        self.train(plan, '-o', self.path('parts'), '--resume')
        self.assertEqual(self.final('parts'), self.final('whole'), 'resumed')

    def test_bits(self):
        self.check_bits('bitnet-int8-gradients')

    def test_bits_of_plain_weights(self):
        self.check_bits('bk-mixed')

    def test_bits_of_adafactor(self):
        self.check_bits('adafactor')

    def test_streams(self):
        """Kernels beside each other: the bits of one after another."""
        for name in ('bitnet-mixed', 'adafactor') if IS_SOFTWARE else ('bitnet-mixed', 'accumulation', 'adafactor'):
            plan = self.make(name)
            for streams in (1, 4) if IS_SOFTWARE else (1, 2, 4, 8):
                self.train(plan, '-o', self.path(f'{name}-{streams}'), '--streams', streams)
                self.assertEqual(self.final(f'{name}-{streams}'), self.final(f'{name}-1'), f'{name}, {streams} streams')

    def check_decoding(self, name, bar, *args):
        out = self.path('out.safetensors')
        run('muse-run', 'tensors', self.make(name), '--tokens', self.path('tokens.safetensors'), '--out', out, '--decode',
            *args, *DEVICE)
        got = load(out)
        error = relative_error(got['decode.logits'].data, got['logits'].data)
        print(f'{name}: decoding is off by {error:.1e}', flush=True)
        self.assertLessEqual(error, bar)

    def test_decoding_equals_the_rows(self):
        """Token by token as generation does it: the logits of the whole rows."""
        for name, bar in {**DECODING_BARS, **CANCELLING_BARS}.items():
            with self.subTest(model=name):
                self.check_decoding(name, bar)

    def test_decoding_with_the_gate_moved(self):
        """The same where the halves of a head's output do not cancel (see Golden.test_mixed_with_the_gate_moved)."""
        for name, bar in DECODING_BARS.items():
            with self.subTest(model=name):
                run('muse-run', 'init', self.make(name), '-o', self.path('init-' + name), '-q')
                moved = move_gate(self.path('init-' + name, 'step-0', 'model.safetensors'), self.path('moved.safetensors'))
                self.check_decoding(name, bar, '--params', moved)

    def test_kernels_against_eval(self):
        for name in ('bk-f32', 'bk-mixed', 'bitnet-mixed', 'dense-f32', 'adafactor', 'qhtt', 'qhtt-mixed'):
            with self.subTest(model=name):
                plan = self.make(name)
                done = run('muse-run', 'train', plan, '--tokens', self.path('tokens.safetensors'), '--check=eval', *DEVICE)
                print(name, next(line for line in done.stderr.splitlines() if line.startswith('check: ')), flush=True)

    def test_generate(self):
        plan = self.make('bitnet-mixed')
        args = ('generate', plan, '--prompt', 'the kernel', '--temperature', '0', '-n', '20', '--json', '--raw', *DEVICE)
        first, second = run('muse-run', *args), run('muse-run', *args)
        self.assertEqual(json.loads(first.stdout)['text'], json.loads(second.stdout)['text'])

    @unittest.skipIf(IS_SOFTWARE, 'the software GPU says nothing of speed')
    def test_bench(self):
        plan = self.make('bitnet-mixed')
        report = json.loads(run('muse-run', 'bench', plan, '--json', '--repeats', '2', *DEVICE).stdout)
        self.assertGreater(report['copy_bytes_per_second'], 1e10)
        self.assertGreater(report['int8_ops_per_second'], report['flops_per_second'])
        self.assertTrue(all(k['seconds'] > 0 for k in report['kernels']))

    def test_too_large(self):
        plan = self.plan(BASE + MODELS['bk-mixed'], 'batch_size=65536', 'n_seq=512', 'd_model=1024', 'num_heads=16',
                         'n_layers=4', name='large.plan')
        done = run('muse-run', 'bench', plan, *DEVICE, status=3)
        self.assertIn('GPU memory', done.stderr)
        self.assertIn('use_gradient_checkpointing', done.stderr)

    def test_override(self):
        """An edited source is what runs; a broken one shows IR, line and log."""
        plan, dump, edited = self.make('dense-f32'), self.path('dump'), self.path('edited')
        run('muse-run', 'bench', plan, '-f', 'decode', '--repeats', '1', '--dump-kernels=' + dump, *DEVICE)
        names = sorted(n[:-3] for n in os.listdir(dump) if n.endswith('.cu'))
        for suffix in ('mir', 'ptx', 'log', 'launch'):
            self.assertTrue(all(os.path.getsize(os.path.join(dump, f'{n}.{suffix}')) for n in names), suffix)
        os.mkdir(edited)
        with open(os.path.join(dump, names[0] + '.cu'), encoding='utf-8') as f:
            source = f.read()
        with open(os.path.join(edited, names[0] + '.cu'), 'w', encoding='utf-8') as f:
            f.write(source + '\nthis is no CUDA\n')
        done = run('muse-run', 'bench', plan, '-f', 'decode', '--kernel-override', edited, *DEVICE, status=1)
        self.assertIn(names[0], done.stderr)
        self.assertIn('this is no CUDA', done.stderr)
        self.assertIn('IR: ', done.stderr)
        with open(os.path.join(edited, names[0] + '.cu'), 'w', encoding='utf-8') as f:
            f.write(source + '\n// edited\n')
        run('muse-run', 'bench', plan, '-f', 'decode', '--repeats', '1', '--kernel-override', edited, *DEVICE)


for model in MODELS:
    setattr(Training, 'test_steps_' + model.replace('-', '_'), lambda self, model=model: self.check_steps(model))


@unittest.skipIf(MISSING, MISSING)
class Golden(test_golden.Golden):
    """The bars of the CPU, but for what chance decides: which int8 activations flip by a rounding (docs/performance.md,
    "Accuracy"). Measured on an H200 in f32: gelu's sixth step 4e-3 and, with other sums, 1.4e-2; in mixed precision:
    cosine of all gradients 0.9887 (gelu) and 0.765 (qhtt), of the least one 0.950 (hybrid-dense), 0.974, 0.916 and
    0.33. With the gate moved, below, nothing hangs on a single number."""
    device = DEVICE
    sixth_step = {**test_golden.SIXTH_STEP, 'hybrid-bitnet-gelu': 2e-2}

    def mixed_bar(self, name):
        bar = dict(super().mixed_bar(name))
        bar['each'] = 0.9 if 'bitnet' in name else 0.94
        if name == 'hybrid-bitnet-qhtt':
            bar.update(all=0.6, each=0)
        return bar

    def test_mixed_with_the_gate_moved(self):
        """Against f32 on the same device. With the initial gate (scale and bias 0) the halves of a head's output can
        cancel at the first token of a document, and out_norm multiplies what rounding leaves of them."""
        for name in (n for n in test_golden.CASES if n.startswith('hybrid-bitnet-')):
            folder = os.path.join(test_golden.GOLDEN, name)
            moved = move_gate(os.path.join(folder, 'params.safetensors'), self.path('moved.safetensors'))
            made = []
            for mixed in ('false', 'true'):
                plan, out = self.path('moved.plan'), self.path('out.safetensors')
                run('musec', os.path.join(folder, 'config.yaml'), '--set', 'use_mixed_precision=' + mixed, '-o', plan)
                run('muse-run', 'tensors', plan, '--params', moved, '--tokens',
                    os.path.join(folder, 'expected.safetensors'), '--out', out, *DEVICE)
                made.append(load(out))
            f32, got = made
            names = [t for t in f32 if t.startswith('grad.')]
            together = cosine([x for t in names for x in f32[t].data], [x for t in names for x in got[t].data])
            print(f'{name}, gate moved, mixed: cosine of all gradients {together:.4f}', flush=True)
            with self.subTest(case=name):
                self.assertGreaterEqual(together, 0.98)


def write_reference(path):
    test = Model()
    test.setUp()
    known = {}
    for name in MODELS:
        known[name] = losses(test.train(test.make(name), device=()))
        print(name, known[name][-1])
    with open(path, 'w', encoding='utf-8') as f:
        json.dump(known, f)
    test.doCleanups()


if __name__ == '__main__':
    if '--write-reference' in sys.argv:
        write_reference(sys.argv[sys.argv.index('--write-reference') + 1])
    else:
        # Without reference cases there are no tests of theirs that could be named.
        programs.main([n for n in sys.argv[1:] if test_golden.CASES or not n.startswith('Golden.')])
