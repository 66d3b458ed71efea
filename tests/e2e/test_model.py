#!/usr/bin/env python3
"""What the compiled model must keep, for every mixer: no token hears those after it, decoding computes what training
does, the number of threads changes nothing, micro-batches add up."""
import array
import json
import random
import re
import unittest

import programs
from programs import load, relative_error, run

BASE = '''vocab_size: 61
d_model: 48
n_layers: 2
num_heads: 3
n_seq: 70
local_window: 9
batch_size: 2
eos_token_id: 7
max_steps: 4
warmup_steps: 1
learning_rate: 3e-3
use_mixed_precision: false
'''
MIXERS = {
    'hybrid': 'use_birman_schwinger: true\nuse_hybrid_attention: true\n',
    'bk': 'use_birman_schwinger: true\nuse_hybrid_attention: false\n',
    'local': 'use_birman_schwinger: false\nuse_hybrid_attention: true\n',
    'euclidean': 'use_birman_schwinger: false\nuse_hybrid_attention: true\nlocal_score: euclidean\n',
    'attention': 'use_birman_schwinger: false\nuse_hybrid_attention: false\n',
}
WEIGHTS = {'dense': 'use_bitnet: false\n', 'bitnet': 'use_bitnet: true\n',
           'qhtt': 'use_bitnet: true\nuse_htt_embedding: true\nhtt_rank: 6\nquantized_htt: true\n'}


def batches(seed, steps=1, rows=2, length=71, vocab=61):
    draw = random.Random(seed)
    return [[[draw.randrange(vocab) for _ in range(length)] for _ in range(rows)] for _ in range(steps)]


class Model(programs.Scratch):
    def tensors(self, plan, rows, *args, name='out.safetensors'):
        programs.tokens(self.path('tokens.safetensors'), rows)
        run('muse-run', 'tensors', plan, '--tokens', self.path('tokens.safetensors'), '--out', self.path(name), '-q',
            *args)
        return load(self.path(name))

    def test_causality(self):
        for mixer, mixer_keys in MIXERS.items():
            for weights, weight_keys in WEIGHTS.items():
                plan = self.plan(BASE + mixer_keys + weight_keys)
                rows = batches(3)
                before = self.tensors(plan, rows)['logits']
                T, V = before.shape[1], before.shape[2]
                for t in (1, 33, 64, T - 1):
                    changed = json.loads(json.dumps(rows))
                    changed[0][1][t] = (rows[0][1][t] + 11) % 61
                    after = self.tensors(plan, changed)['logits']
                    with self.subTest(mixer=mixer, weights=weights, changed=t):
                        first, row = T * V, before.data[T * V:]
                        self.assertEqual(before.data[:first], after.data[:first], 'the other row')
                        now = after.data[first:]
                        self.assertEqual(row[:t * V].tobytes(), now[:t * V].tobytes(), 'before the change')
                        self.assertNotEqual(row[t * V:(t + 1) * V], now[t * V:(t + 1) * V], 'at the change')

    def test_documents_are_apart(self):
        """Behind an eos nothing is heard of what stood before it."""
        for mixer, keys in MIXERS.items():
            plan = self.plan(BASE + keys + WEIGHTS['dense'])
            rows = batches(4)
            rows[0] = [[x if x != 7 else 8 for x in row] for row in rows[0]]
            rows[0][0][30] = 7
            before = self.tensors(plan, rows)['logits']
            rows[0][0][12] = (rows[0][0][12] + 5) % 61 if (rows[0][0][12] + 5) % 61 != 7 else 9
            after = self.tensors(plan, rows)['logits']
            V = before.shape[2]
            with self.subTest(mixer=mixer):
                self.assertEqual(before.data[31 * V:70 * V].tobytes(), after.data[31 * V:70 * V].tobytes())
                self.assertNotEqual(before.data[12 * V:31 * V], after.data[12 * V:31 * V])

    def test_decoding_is_training(self):
        for mixer, mixer_keys in MIXERS.items():
            for weights, weight_keys in WEIGHTS.items():
                plan = self.plan(BASE + mixer_keys + weight_keys)
                out = self.tensors(plan, batches(5), '--decode')
                with self.subTest(mixer=mixer, weights=weights):
                    error = relative_error(out['decode.logits'].data, out['logits'].data)
                    # A trained-in rounding to int8 may fall to the other side between two orders of summation.
                    self.assertLessEqual(error, 1e-4 if weights == 'dense' else 1e-2)

    def test_threads(self):
        for mixer, keys in MIXERS.items():
            plan = self.plan(BASE + keys + WEIGHTS['bitnet'] + 'gradient_precision: int8\n')
            programs.tokens(self.path('tokens.safetensors'), batches(6, steps=4))
            outputs = []
            for threads in (1, 2, 5):
                out = self.path(f'{mixer}{threads}')
                run('muse-run', 'train', plan, '--tokens', self.path('tokens.safetensors'), '-o', out, '-q',
                    '-j', threads)
                outputs.append(b''.join(open(f'{out}/step-4/{name}.safetensors', 'rb').read()
                                        for name in ('model', 'train')))
            with self.subTest(mixer=mixer):
                self.assertTrue(outputs[0] == outputs[1], '1 and 2 threads')
                self.assertTrue(outputs[0] == outputs[2], '1 and 5 threads')

    def test_micro_batches(self):
        """Two micro-batches of one row give the gradients of one batch of two rows."""
        keys = BASE + MIXERS['hybrid'] + WEIGHTS['dense']
        whole = self.plan(keys)
        parts = self.plan(keys, 'batch_size=1', 'gradient_accumulation_steps=2', name='parts.plan')
        rows = batches(8, steps=4)
        programs.tokens(self.path('whole.safetensors'), rows)
        programs.tokens(self.path('parts.safetensors'), [[row] for step in rows for row in step])
        losses = []
        for plan, tokens in ((whole, 'whole'), (parts, 'parts')):
            done = run('muse-run', 'train', plan, '--tokens', self.path(tokens + '.safetensors'), '--json', '-q')
            losses.append([json.loads(line) for line in done.stdout.splitlines()])
        self.assertEqual([len(x) for x in losses], [4, 4])
        for a, b in zip(*losses):
            self.assertAlmostEqual(a['loss'], b['loss'], delta=2e-4)
            self.assertAlmostEqual(a['grad_norm'], b['grad_norm'], delta=2e-3 * a['grad_norm'])

    def test_recomputation_changes_nothing(self):
        keys = BASE + MIXERS['hybrid'] + WEIGHTS['dense']
        rows = batches(9)
        stored = self.tensors(self.plan(keys), rows)
        again = self.tensors(self.plan(keys, 'use_gradient_checkpointing=true'), rows)
        self.assertEqual(set(stored), set(again))
        for name in stored:
            self.assertLessEqual(relative_error(again[name].data, stored[name].data), 1e-4, name)

    def test_check_eval(self):
        """--check=eval finds every kernel right, with all kinds of rounding in them."""
        for sets in (['use_mixed_precision=true'], ['gradient_precision=int8', 'optimizer=adafactor8'],
                     ['gradient_accumulation_steps=2']):
            plan = self.plan(BASE + MIXERS['hybrid'] + WEIGHTS['qhtt'], *sets)
            programs.tokens(self.path('tokens.safetensors'), batches(10, steps=4))
            done = run('muse-run', 'train', plan, '--tokens', self.path('tokens.safetensors'), '--check=eval',
                       '--steps', 1)
            with self.subTest(sets=sets):
                found = re.search(r'check: (\d+) of (\d+) kernel calls compared with their exact evaluation'
                                  r'(?:; (\d+) large calls are of kernels compared before)?', done.stderr)
                self.assertTrue(found, done.stderr)
                self.assertEqual(int(found[1]) + int(found[3] or 0), int(found[2]), done.stderr)

    def test_initial_values(self):
        """Any parameter can be made alone, with the bits it has among all."""
        for optimizer in ('adamw', 'adafactor8'):
            plan = self.plan(BASE + MIXERS['hybrid'] + WEIGHTS['bitnet'], 'optimizer=' + optimizer)
            run('muse-run', 'init', plan, '-o', self.path(optimizer), '-q')
            everything = load(self.path(optimizer, 'step-0', 'model.safetensors'))
            for name in everything:
                if name.startswith('delta.'):
                    continue
                one = self.path('one.safetensors')
                run('muse-run', 'init', plan, '--param', name, '-o', one)
                alone = load(one)
                self.assertEqual(alone[name].data, everything[name].data, name)
                if 'delta.' + name in everything:
                    self.assertEqual(alone['delta.' + name].data, everything['delta.' + name].data, name)
            if optimizer == 'adamw':
                q = everything['layers.0.mixer.q.weight'].data
                mean, square = sum(q) / len(q), sum(x * x for x in q) / len(q)
                self.assertAlmostEqual(mean, 0, delta=0.02 * 4 / len(q) ** 0.5)
                self.assertAlmostEqual(square ** 0.5, 0.02, delta=0.002)
                log_eta, bias = (everything['layers.1.mixer.' + p].data for p in ('log_eta', 'potential.bias'))
                self.assertAlmostEqual(log_eta[0], -9.2103404, places=5)  # ln 1e-4
                self.assertAlmostEqual(bias[2], -0.4327521, places=5)  # its softplus is 0.5
                self.assertEqual(set(everything['final_norm.weight'].data), {1.0})
        other = self.path('other.safetensors')
        run('muse-run', 'init', plan, '--param', 'embed.weight', '--seed', 12, '-o', other)
        self.assertNotEqual(load(other)['embed.weight'].data, everything['embed.weight'].data)


if __name__ == '__main__':
    programs.main()
